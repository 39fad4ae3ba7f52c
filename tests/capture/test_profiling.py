"""A profiled run says which functions its CPU time went to, on the spans it belongs to, and runs as it did."""

from __future__ import annotations

import asyncio
import cProfile
import gc
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context
from pyinstrument import Profiler

from _recording import Recording, recording
from _traces import agent as agent_of
from _traces import run_of
from _traces import tool as tool_of
from otel_agentperf import AgentPerfSpanProcessor, agent, on_report, tool
from otel_agentperf._config import Config, load
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.capture import profiling
from otel_agentperf.ended import ended
from otel_agentperf.model import Report, SpanProfile
from otel_agentperf.processor import off_report
from otel_agentperf.reporting import Reporter


class Profiled:
    """The reports of a block."""

    def __init__(self, recorded: Recording) -> None:
        self.recorded = recorded
        self.reports: list[Report] = []

    @property
    def profile(self) -> dict[str, SpanProfile]:
        """By the operation of the span."""
        (report,) = self.reports
        return {one.name: one for one in report.root.profile}

    @property
    def note(self) -> str:
        (report,) = self.reports
        return report.root.profile_note

    def hottest(self, operation: str) -> tuple[str, float]:
        """The hottest function of a span, with its share."""
        frame = self.profile[operation].frames[0]
        return frame.function.rpartition(".")[2], frame.share


@contextmanager
def profiled(config: Config | None = None) -> Iterator[Profiled]:
    config = config or Config(profile="on")
    with recording(AgentPerfSpanProcessor(config), config=config) as recorded:
        found = Profiled(recorded)
        on_report(found.reports.append)
        try:
            yield found
        finally:
            off_report(found.reports.append)
    assert profiling._current is None, "a profile is still being taken"
    assert sys.getprofile() is None, "a sampler was left on this thread"


def burn(seconds: float) -> int:
    """Takes that much CPU time, however busy the machine is."""
    end, rounds = time.thread_time() + seconds, 0
    while time.thread_time() < end:
        rounds += 1
    return rounds


def tokenize() -> None:
    burn(0.15)


def rank() -> None:
    burn(0.15)


def count_up() -> int:
    """No call inside at all, so that the sampler is asked only at its end."""
    total = 0
    for number in range(3_000_000):
        total += number * number
    return total


# --- where the time went --------------------------------------------------------------------------------------


def test_the_hot_function_is_named_on_its_own_tool() -> None:
    @tool
    def index() -> None:
        tokenize()

    @tool
    def search() -> None:
        rank()

    with profiled() as found, agent("planner"):
        index()
        search()
    assert {"index", "search"} == found.profile.keys()
    for operation, ours, others in (("index", "tokenize", "rank"), ("search", "rank", "tokenize")):
        frames = {frame.function for frame in found.profile[operation].frames}
        assert any(function in ("burn", ours) for function in frames)
        assert others not in frames
        assert found.profile[operation].span_id in {
            f"{span.context.span_id:016x}" for span in found.recorded.spans if span.name == f"execute_tool {operation}"
        }
    assert found.note == ""


def test_a_function_that_calls_nothing_is_named_too() -> None:
    @tool
    def sums() -> int:
        return count_up()

    with profiled() as found, agent("planner"):
        sums()
        time.sleep(0.02)
    assert found.hottest("sums") == ("count_up", pytest.approx(1, abs=0.1))


def test_the_location_is_the_definition_and_no_absolute_path() -> None:
    @tool
    def index() -> None:
        burn(0.1)

    with profiled() as found, agent("planner"):
        index()
    frame = found.profile["index"].frames[0]
    assert (frame.function, frame.line, frame.caller) == ("burn", burn.__code__.co_firstlineno, "")
    assert frame.file.endswith("test_profiling.py")
    assert not os.path.isabs(frame.file)


def test_a_librarys_function_comes_with_the_programs_own_that_called_it() -> None:
    @tool
    def export() -> None:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            json.dumps([{"number": number} for number in range(300)], indent=1)

    with profiled() as found, agent("planner"):
        export()
    hot = [frame for frame in found.profile["export"].frames if frame.file.startswith("json/")]
    assert hot, found.profile
    assert {frame.caller.partition(" ")[0].rpartition(".")[2] for frame in hot} == {"export"}


def test_the_caller_of_a_tool_that_is_a_librarys_is_not_its_agent() -> None:
    export = tool(name="export")(json.dumps)
    words = [{"number": number} for number in range(40_000)]

    with profiled() as found, agent("planner"):
        export(words, indent=1)
    frames = found.profile["export"].frames
    assert frames[0].file.startswith("json/")
    assert {frame.caller for frame in frames} == {""}


def test_the_time_of_a_built_in_function_is_its_callers() -> None:
    numbers = list(range(200_000, 0, -1))

    def order() -> None:
        end = time.thread_time() + 0.15
        while time.thread_time() < end:
            sorted(numbers, key=str)

    @tool
    def sort() -> None:
        order()

    with profiled() as found, agent("planner"):
        sort()
    assert found.hottest("sort")[0] == "order"


def test_what_a_nested_span_does_is_not_its_parents() -> None:
    @tool
    def inner() -> None:
        rank()

    @tool
    def outer() -> None:
        tokenize()
        inner()

    with profiled() as found, agent("planner"):
        outer()
    assert found.profile["outer"].cpu_s == pytest.approx(0.15, abs=0.04)
    assert found.profile["inner"].cpu_s == pytest.approx(0.15, abs=0.04)


def test_work_outside_of_tools_belongs_to_the_agent() -> None:
    with profiled() as found, agent("planner"):
        burn(0.1)
    assert found.hottest("planner") == ("burn", pytest.approx(1, abs=0.1))


def test_many_short_calls_count_as_one() -> None:
    @tool
    def step(number: int) -> None:
        burn(0.004)

    with profiled() as found, agent("planner"):
        for number in range(50):
            step(number)
    assert found.profile["step"].cpu_s > 0.1
    assert found.profile["step"].calls > 5
    assert found.hottest("step")[0] == "burn"


# --- what is not there ----------------------------------------------------------------------------------------


def test_a_tool_that_waits_has_no_hot_functions() -> None:
    @tool
    def fetch() -> None:
        for _ in range(20):
            time.sleep(0.01)

    with profiled() as found, agent("planner"):
        fetch()
    assert found.profile == {}
    assert found.note == "no call used the CPU for 50 ms itself"


def test_of_a_tool_that_waits_and_works_only_the_work_is_named() -> None:
    def wait() -> None:
        time.sleep(0.02)

    @tool
    def fetch() -> None:
        for _ in range(8):
            wait()
            burn(0.02)

    with profiled() as found, agent("planner"):
        fetch()
    frames = {frame.function.rpartition(".")[2]: frame.share for frame in found.profile["fetch"].frames}
    assert max(frames, key=frames.__getitem__) == "burn"
    assert frames.get("wait", 0) < 0.1


def test_work_that_ends_in_waiting_before_it_is_sampled_is_not_said_to_be_the_waits() -> None:
    def wait() -> None:
        time.sleep(0.008)

    @tool
    def fetch() -> None:
        for _ in range(50):
            burn(0.0015)
            wait()

    with profiled() as found, agent("planner"):
        fetch()
    frames = found.profile["fetch"].frames if "fetch" in found.profile else ()
    assert sum(frame.share for frame in frames if frame.function.endswith("wait")) < 0.1


def test_off_is_the_default_and_profiles_nothing() -> None:
    with profiled(Config()) as found, agent("planner"):
        assert sys.getprofile() is None
        burn(0.06)
    assert (found.profile, found.note) == ({}, "")


def test_nothing_is_imported_when_it_is_off() -> None:
    program = """
import sys
from opentelemetry.sdk.trace import TracerProvider
from otel_agentperf import AgentPerfSpanProcessor, agent, instrument
provider = TracerProvider()
provider.add_span_processor(AgentPerfSpanProcessor())
instrument(tracer_provider=provider)
with agent("planner"): pass
print([name for name in sys.modules if "pyinstrument" in name or "profiling" in name])
"""
    assert _python(program).stdout == "[]\n"


def test_where_the_profiler_is_missing_one_line_says_what_to_install_and_the_program_goes_on() -> None:
    program = """
import sys
sys.modules["pyinstrument"] = None
from opentelemetry.sdk.trace import TracerProvider
from otel_agentperf import AgentPerfSpanProcessor, agent, instrument
provider = TracerProvider()
provider.add_span_processor(AgentPerfSpanProcessor())
TracerProvider().add_span_processor(AgentPerfSpanProcessor())
instrument(tracer_provider=provider)
with agent("planner"): print("ran")
"""
    done = _python(program, OTEL_AGENTPERF_PROFILE="on")
    assert done.stdout == "ran\n"
    assert done.stderr.count("\n") == 1
    assert 'pip install "otel-agentperf[profile]"' in done.stderr


def _python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", program], env=told, capture_output=True, text=True, check=True, timeout=20
    )


# --- tasks and threads ----------------------------------------------------------------------------------------


def test_tasks_of_one_loop_are_told_apart() -> None:
    async def tokens() -> None:
        for _ in range(15):
            burn(0.01)
            await asyncio.sleep(0)

    async def ranks() -> None:
        for _ in range(15):
            rank_a_bit()
            await asyncio.sleep(0)

    def rank_a_bit() -> None:
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass

    index, search = tool(name="index")(tokens), tool(name="search")(ranks)

    async def main() -> None:
        async with agent("planner"):
            await asyncio.gather(index(), search())

    with profiled() as found:
        asyncio.run(main())
    assert found.hottest("index")[0] == "burn"
    assert found.hottest("search")[0] == "rank_a_bit"
    assert "rank_a_bit" not in {frame.function.rpartition(".")[2] for frame in found.profile["index"].frames}


def test_spans_that_start_on_other_threads_are_profiled_there() -> None:
    @tool
    def index() -> None:
        tokenize()

    with profiled() as found, ThreadPoolExecutor(2) as pool:
        with agent("planner"):
            context = get_current()
            for work in [pool.submit(_inside, context, index) for _ in range(2)]:
                work.result()
        burn(0.02)
        # The samplers of other threads go when they are next called.
        assert list(pool.map(_next_call_is_free, range(2))) == [None, None]
    assert sum(one.cpu_s for one in found.reports[0].root.profile) == pytest.approx(0.3, abs=0.06)
    assert {frame.function for one in found.reports[0].root.profile for frame in one.frames[:1]} == {"burn"}


def _inside(context: Any, function: Callable[[], None]) -> None:
    token = attach(context)
    try:
        function()
    finally:
        detach(token)


def _next_call_is_free(number: int) -> Any:
    burn(0.02)
    return sys.getprofile()


def test_one_run_is_profiled_at_a_time_and_the_other_says_so() -> None:
    started, done = threading.Event(), threading.Event()

    def other() -> None:
        started.wait()
        with agent("other"):
            burn(0.06)
        done.set()

    with profiled() as found:
        thread = threading.Thread(target=other)
        thread.start()
        with agent("first"):
            started.set()
            burn(0.06)
            done.wait()
        thread.join()
    roots = {report.root.operation: report.root for report in found.reports}
    assert roots["other"].profile == ()
    assert roots["other"].profile_note == "not profiled: another run was being profiled"
    assert [one.name for one in roots["first"].profile] == ["first"]


def test_an_agent_does_not_wait_for_an_open_span_that_is_none() -> None:
    with profiled() as found:
        tracer = found.recorded.provider.get_tracer("somebody")
        forever = tracer.start_span("serve")
        with agent("planner"):
            burn(0.06)
        forever.end()
    assert [one.name for report in found.reports for one in report.root.profile] == ["planner"]


def test_an_agent_below_a_servers_span_keeps_its_profile_when_another_request_comes() -> None:
    with profiled() as found:
        tracer = found.recorded.provider.get_tracer("somebody")
        with tracer.start_as_current_span("GET /"), agent("planner"):
            burn(0.06)
            thread = threading.Thread(target=_request, args=(tracer,))
            thread.start()
            thread.join()
    roots = {report.root.operation: report.root for report in found.reports}
    assert [one.name for one in roots["planner"].profile] == ["planner"]
    assert roots["other"].profile_note


def _request(tracer: Any) -> None:
    with tracer.start_as_current_span("GET /"), agent("other"):
        pass


def test_two_runs_of_one_trace_get_each_their_own() -> None:
    with profiled() as found:
        tracer = found.recorded.provider.get_tracer("somebody")
        with tracer.start_as_current_span("GET /"):
            with agent("first"):
                tokenize()
            with agent("second"):
                rank()
    assert [[one.name for one in report.root.profile] for report in found.reports] == [["first"], ["second"]]


def test_a_forked_child_is_not_profiled_and_the_parent_is() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("has no fork")
    with profiled() as found, agent("planner"):
        burn(0.06)
        child = os.fork()
        if child == 0:
            burn(0.03)
            os._exit(0 if sys.getprofile() is None else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert sys.getprofile() is not None
    assert found.hottest("planner")[0] == "burn"


# --- never in the way -----------------------------------------------------------------------------------------


def test_a_failing_tool_fails_as_it_did_and_is_profiled() -> None:
    @tool
    def index() -> None:
        tokenize()
        raise LookupError("no such page")

    with profiled() as found, pytest.raises(LookupError, match="no such page"), agent("planner"):
        index()
    assert found.hottest("index")[0] == "burn"


@pytest.mark.parametrize("profiler", [Profiler, cProfile.Profile])
def test_a_profiler_of_the_program_is_left_alone(profiler: Callable[[], Any]) -> None:
    own = profiler()
    start, stop = (own.start, own.stop) if isinstance(own, Profiler) else (own.enable, own.disable)
    if not isinstance(own, Profiler) and sys.version_info >= (3, 12):
        pytest.skip("cProfile is no profile function from Python 3.12 on: both work side by side")
    with profiled() as found:
        start()
        with agent("planner"):
            theirs = sys.getprofile()
            burn(0.06)
        assert sys.getprofile() is theirs
        stop()
    assert found.profile == {}
    assert found.note == "sampled in part: a thread has a profiler of its own, or sampling it had to stop"


def test_a_profiler_that_starts_during_the_run_takes_over_and_keeps_its_own() -> None:
    own = Profiler(interval=0.001)
    with profiled() as found:
        with agent("planner"):
            burn(0.06)
            own.start()
            burn(0.06)
        assert sys.getprofile() is not None, "ours took theirs away"
        burn(0.03)
        session = own.stop()
    assert sum(passed for _, passed in session.frame_records) > 0.08
    assert found.note == "sampled in part: a thread has a profiler of its own, or sampling it had to stop"
    assert found.hottest("planner")[0] == "burn", "what was sampled before counts"


def test_what_goes_wrong_in_a_sample_does_not_reach_the_program(swallow: None) -> None:
    class Broken(NonRecordingSpan):
        def get_span_context(self) -> SpanContext:
            raise RuntimeError("broken")

    with profiled() as found, agent("planner"):
        token = attach(set_span_in_context(Broken(SpanContext(1, 1, False))))
        burn(0.03)
        detach(token)
    assert len(found.reports) == 1


def test_a_program_near_its_recursion_limit_is_not_stopped() -> None:
    def deep(levels: int) -> int:
        return 0 if not levels else 1 + deep(levels - 1)

    levels = sys.getrecursionlimit()
    while True:
        try:
            deep(levels)
            break
        except RecursionError:
            levels -= 1
    levels -= 3
    with profiled(Config(profile="on", profile_interval_s=0.00001)) as found, agent("planner"):
        for _ in range(50):
            assert deep(levels) == levels
    assert len(found.reports) == 1


def test_no_samples_are_kept_after_the_run() -> None:
    with profiled():
        with agent("planner"):
            session = weakref.ref(profiling._current)  # type: ignore[arg-type]
            burn(0.06)
        gc.collect()
        assert session() is None


def test_a_thread_that_is_never_called_again_keeps_no_samples() -> None:
    @tool
    def index() -> None:
        burn(0.03)

    with profiled(), ThreadPoolExecutor(1) as pool:
        with agent("planner"):
            pool.submit(_inside, get_current(), index).result()
            session = profiling._current
            assert session is not None
            assert session._spans
        assert (session._spans, session._codes) == ({}, {})


def test_a_run_that_is_open_at_the_end_of_the_process_has_its_profile() -> None:
    with profiled() as found, agent("planner"):
        burn(0.06)
        found.recorded.provider.shutdown()
        assert sys.getprofile() is None
    assert found.reports[0].run.incomplete
    assert found.hottest("planner")[0] == "burn"


def test_a_run_that_never_ended_is_given_up_for_the_next() -> None:
    config = Config(profile="on", max_runs=1)
    with profiled(config) as found:
        forgotten = found.recorded.provider.get_tracer("somebody").start_span("invoke_agent forgotten")
        with agent("first"):
            pass
        with agent("second"):
            burn(0.06)
        forgotten.end()
    assert [one.name for report in found.reports for one in report.root.profile] == ["second"]


# --- automatically --------------------------------------------------------------------------------------------


def test_automatically_the_run_after_a_slow_one_is_profiled_once() -> None:
    config = Config(profile="auto", thresholds="slow_operation.tool_s=0.05")

    @tool
    def index() -> None:
        burn(0.2)

    with profiled(config) as found:
        for _ in range(3):
            with agent("planner"):
                index()
        with agent("other"):
            index()
    assert [[one.name for one in report.root.profile] for report in found.reports] == [[], ["index"], [], []]
    assert {report.root.profile_note for report in found.reports} == {""}


def test_automatically_a_slow_tool_that_only_waits_calls_for_no_profile() -> None:
    config = Config(profile="auto", thresholds="slow_operation.tool_s=0.05")

    @tool
    def fetch() -> None:
        time.sleep(0.2)

    with profiled(config) as found:
        for _ in range(2):
            with agent("planner"):
                assert sys.getprofile() is None
                fetch()
    assert len(found.reports) == 2


@pytest.mark.parametrize(("budget", "calls_for_one"), [("duration_s=1", True), ("calls=1", False)])
def test_a_budget_of_time_that_is_exceeded_calls_for_a_profile(budget: str, calls_for_one: bool) -> None:
    config = Config(budgets=f"run.{budget}")
    run = run_of(agent_of("planner", tool_of("search", 1.0), tool_of("read", 1.0)))
    report = analyze(run, config)
    assert "budget_exceeded" in {finding.kind for finding in report.findings}
    assert profiling.is_too_slow(report) is calls_for_one


# --- what is exported -----------------------------------------------------------------------------------------


def test_an_offline_analysis_shows_the_same() -> None:
    @tool
    def index() -> None:
        tokenize()

    with profiled() as found, agent("planner"):
        index()
    (live,) = found.reports
    (offline,) = [analyze(run) for run in find_runs(Reporter.classified(ended(span)) for span in found.recorded.spans)]
    assert live.root.profile
    assert offline.root.profile == live.root.profile
    assert offline.root.profile_note == live.root.profile_note


def test_the_attribute_is_small_and_holds_no_content() -> None:
    @tool
    def index(text: str) -> str:
        tokenize()
        return text * 2

    with profiled() as found, agent("planner"):
        index("secret words")
    attribute = str((found.recorded.one("invoke_agent planner").attributes or {})["agentperf.profile"])
    assert len(attribute) < 4_000
    assert "secret" not in attribute
    assert os.path.expanduser("~") + os.sep not in attribute


@pytest.mark.parametrize(("told", "meant"), [("true", "on"), ("false", "off"), ('"auto"', "auto"), ("[1]", "off")])
def test_the_setting_in_a_file_may_be_a_truth_value(tmp_path: Path, told: str, meant: str) -> None:
    (tmp_path / "agentperf.toml").write_text(f"profile = {told}\n")
    assert load({}, tmp_path).profile == meant
