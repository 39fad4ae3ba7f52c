"""Callbacks that hold up an event loop are seen and named; what only looks like one is not."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from _recording import recording
from otel_agentperf import AgentPerfSpanProcessor, agent, tool
from otel_agentperf._config import Config
from otel_agentperf.capture import loop_monitor
from otel_agentperf.capture.loop_monitor import LoopMonitor
from otel_agentperf.model import Stall

FOREVER = 2**63
THREAD = "agentperf-loop-monitor"
_ids = count(1)


def asyncio_run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


def uvloop_run(main: Coroutine[Any, Any, Any]) -> Any:
    try:
        uvloop = pytest.importorskip("uvloop")
    except pytest.skip.Exception:
        main.close()
        raise
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


either_loop = pytest.mark.parametrize("run", [asyncio_run, uvloop_run])


class Program:
    """A monitor, and whether a run is open."""

    def __init__(self, least_s: float = 0.1) -> None:
        self.is_open = True
        self.monitor = LoopMonitor(lambda: self.is_open, least_s)

    def span(self, trace: int = 1) -> int:
        """A span starts here."""
        span = next(_ids)
        self.monitor.span_started(trace, span)
        return span

    def stalls(self, trace: int = 1) -> list[Stall]:
        return list(self.monitor.stalls(trace, 0, FOREVER))


@pytest.fixture
def program() -> Iterator[Program]:
    made = Program()
    yield made
    made.is_open = False
    made.monitor.stop()


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def block_here(seconds: float = 0.25) -> None:
    time.sleep(seconds)


# --- what is a stall ----------------------------------------------------------------------------------------


@either_loop
def test_a_blocking_call_is_measured_and_named(program: Program, run: Callable[..., Any]) -> None:
    async def main() -> int:
        program.span()
        await asyncio.sleep(0.1)
        before = time.time_ns()
        block_here()
        await asyncio.sleep(0.1)
        return before

    began = run(main())
    (stall,) = program.stalls()
    assert stall.duration_ns / 1e9 == pytest.approx(0.25, abs=0.06)
    assert stall.start_ns == pytest.approx(began, abs=60_000_000)
    assert re.fullmatch(r"(tests/)?(capture/)?test_loop_monitor\.py:\d+ block_here", stall.frame)
    line = block_here.__code__.co_firstlineno + 1
    assert f":{line} " in stall.frame


@either_loop
def test_its_span_and_those_that_could_not_start_are_told(program: Program, run: Callable[..., Any]) -> None:
    spans: dict[str, int] = {}

    async def blocking() -> None:
        spans["blocking"] = program.span()
        block_here()

    async def ready() -> None:
        spans["ready"] = program.span()

    async def later() -> None:
        await asyncio.sleep(0.05)
        spans["later"] = program.span()

    async def main() -> None:
        program.span()
        await asyncio.sleep(0.1)
        await asyncio.gather(blocking(), ready(), later())
        await asyncio.sleep(0.1)

    run(main())
    (stall,) = program.stalls()
    assert stall.span_id == f"{spans['blocking']:016x}"
    assert stall.waiting == (f"{spans['ready']:016x}",)


def test_timers_and_sockets_that_fall_due_meanwhile_are_told(program: Program) -> None:
    async def main() -> None:
        program.span()
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        server = threading.Timer(0.2, theirs.send, [b"x"])
        await asyncio.sleep(0.1)
        waits = [asyncio.ensure_future(asyncio.sleep(0.1)), asyncio.ensure_future(reader.read(1))]
        await asyncio.sleep(0)
        server.start()
        block_here(0.3)
        await asyncio.gather(*waits)
        writer.close()
        await writer.wait_closed()
        theirs.close()

    asyncio.run(main())
    (stall,) = program.stalls()
    assert [moment / 1e9 for moment in stall.due_ns] == pytest.approx([0.1, 0.2], abs=0.045)


@either_loop
def test_tasks_that_stand_ready_are_told_by_their_last_span(program: Program, run: Callable[..., Any]) -> None:
    spans: dict[str, int] = {}

    async def after(name: str, seconds: float) -> None:
        spans[name] = program.span()
        await asyncio.sleep(seconds)

    async def woken(name: str, event: asyncio.Event) -> None:
        spans[name] = program.span()
        await event.wait()

    async def blocking(event: asyncio.Event) -> None:
        program.span()
        await asyncio.sleep(0)
        block_here()
        event.set()

    async def main() -> None:
        event = asyncio.Event()
        await asyncio.gather(
            blocking(event), after("ready", 0), after("late", 5e-2), after("later", 0.4), woken("by us", event)
        )

    run(main())
    (stall,) = program.stalls()
    known = {name: f"{span:016x}" for name, span in spans.items()}
    moments = dict(stall.ready)
    assert moments.pop(known["ready"]) == 0
    if run is asyncio_run:  # uvloop keeps its timers to itself
        assert moments.pop(known["late"]) / 1e9 == pytest.approx(0.05, abs=0.045)
    assert not moments


async def _many_short() -> None:
    async def short() -> None:
        time.sleep(0.008)

    await asyncio.gather(*(short() for _ in range(50)))


async def _busy_but_fair() -> None:
    until = time.perf_counter() + 0.5
    while time.perf_counter() < until:
        sum(range(2_000))
        await asyncio.sleep(0)


async def _in_a_thread() -> None:
    await asyncio.to_thread(block_here)


async def _idle() -> None:
    await asyncio.sleep(0.4)


async def _lock_held_by_another_thread() -> None:
    """`re` keeps the interpreter lock: nothing runs meanwhile, but it is not the loop that holds the others up."""
    await asyncio.to_thread(re.match, r"(a+)+$", "a" * 23 + "b")


async def _short_blocks() -> None:
    for _ in range(6):
        block_here(0.05)
        await asyncio.sleep(0.02)


@either_loop
@pytest.mark.parametrize(
    "work", [_many_short, _busy_but_fair, _in_a_thread, _idle, _lock_held_by_another_thread, _short_blocks]
)
def test_no_stall(program: Program, run: Callable[..., Any], work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        program.span()
        await asyncio.sleep(0.06)
        await work()
        await asyncio.sleep(0.06)

    run(main())
    assert program.stalls() == []


@either_loop
def test_work_that_keeps_the_interpreter_lock_is_a_stall(program: Program, run: Callable[..., Any]) -> None:
    async def main() -> None:
        program.span()
        await asyncio.sleep(0.06)
        re.match(r"(a+)+$", "a" * 24 + "b")
        await asyncio.sleep(0.06)

    run(main())
    (stall,) = program.stalls()
    assert stall.frame.endswith(" main")


def test_a_stall_that_still_lasts_when_the_run_ends_counts(program: Program) -> None:
    async def main() -> list[Stall]:
        program.span()
        await asyncio.sleep(0.06)
        block_here()
        return program.stalls()

    (stall,) = asyncio.run(main())
    assert stall.duration_ns / 1e9 == pytest.approx(0.25, abs=0.06)


def test_only_those_within_the_time_asked_for(program: Program) -> None:
    async def main() -> tuple[int, int]:
        program.span()
        await asyncio.sleep(0.06)
        block_here(0.15)
        await asyncio.sleep(0.1)
        between = time.time_ns()
        block_here()
        await asyncio.sleep(0.1)
        return between, time.time_ns()

    between, end = asyncio.run(main())
    assert len(program.stalls()) == 2
    (stall,) = program.monitor.stalls(1, between + 30_000_000, end)
    assert stall.duration_ns / 1e9 == pytest.approx(0.25, abs=0.06)


def test_another_traces_stall_is_told_as_such(program: Program) -> None:
    async def other() -> None:
        program.span(trace=2)
        block_here()

    async def main() -> None:
        program.span(trace=1)
        await asyncio.sleep(0.06)
        await asyncio.gather(other())
        await asyncio.sleep(0.06)

    asyncio.run(main())
    (mine,), (others,) = program.stalls(2), program.stalls(1)
    assert (mine.elsewhere, bool(mine.span_id)) == (False, True)
    assert (others.elsewhere, others.span_id) == (True, "")
    assert program.stalls(3) == []


# --- never in the way ---------------------------------------------------------------------------------------


def test_loops_in_several_threads_are_told_apart(program: Program) -> None:
    async def blocked(trace: int) -> None:
        program.span(trace)
        await asyncio.sleep(0.06)
        block_here()
        await asyncio.sleep(0.06)

    async def fine(trace: int) -> None:
        program.span(trace)
        await asyncio.sleep(0.4)

    with ThreadPoolExecutor() as pool:
        list(pool.map(asyncio.run, [blocked(1), fine(2), blocked(3), fine(4)]))
    assert [len(program.stalls(trace)) for trace in (1, 2, 3, 4)] == [1, 0, 1, 0]
    assert len(watchers()) >= 1


def test_one_loop_after_another_on_the_same_thread(program: Program) -> None:
    async def main() -> None:
        program.span()
        await asyncio.sleep(0.06)
        block_here(0.2)
        await asyncio.sleep(0.06)

    for _ in range(3):
        asyncio.run(main())
    assert len(program.stalls()) == 3


def test_synchronous_work_after_the_loop_is_no_stall(program: Program) -> None:
    async def main() -> None:
        program.span()
        await asyncio.sleep(0.12)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    block_here(0.3)  # the loop is not closed, it is not running
    loop.run_until_complete(main())
    loop.close()
    assert program.stalls() == []


def test_a_loop_is_not_kept_alive_nor_changed(program: Program) -> None:
    async def main() -> tuple[bool, float, Any]:
        program.span()
        await asyncio.sleep(0.12)
        loop = asyncio.get_running_loop()
        return loop.get_debug(), loop.slow_callback_duration, loop.get_task_factory()

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(main()) == (False, 0.1, None)
    loop.close()
    gone = weakref.ref(loop)
    del loop
    until = time.monotonic() + 2
    while gone() is not None and time.monotonic() < until:
        gc.collect()
        time.sleep(0.02)
    assert gone() is None


def test_debug_mode_stays_and_gets_stalls_too(program: Program) -> None:
    async def main() -> bool:
        program.span()
        await asyncio.sleep(0.06)
        block_here()
        await asyncio.sleep(0.06)
        return asyncio.get_running_loop().get_debug()

    assert asyncio.run(main(), debug=True) is True
    assert len(program.stalls()) == 1


def test_a_synchronous_program_starts_no_thread() -> None:
    before = set(threading.enumerate())
    with recording(AgentPerfSpanProcessor()) as recorded:

        @tool
        def search() -> None:
            time.sleep(0.15)

        with agent("planner"):
            search()
        assert set(threading.enumerate()) <= before
        assert len(recorded.spans) == 2


def test_switched_off_it_starts_no_thread() -> None:
    before = set(threading.enumerate())

    @agent(name="planner")
    async def main() -> None:
        await asyncio.sleep(0.1)

    with recording(AgentPerfSpanProcessor(Config(loop_monitor=False))):
        asyncio.run(main())
    assert set(threading.enumerate()) <= before


def test_the_thread_rests_and_ends_when_no_run_is_open(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_monitor, "_LINGER_S", 0.1)

    async def main() -> None:
        program.span()
        await asyncio.sleep(0.1)
        thread = program.monitor._thread
        assert thread is not None
        assert thread.daemon
        program.is_open = False
        deadline = time.monotonic() + 5
        while thread.is_alive() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert not thread.is_alive()
        program.is_open = True
        program.span()
        await asyncio.sleep(0.06)
        block_here()
        await asyncio.sleep(0.06)

    asyncio.run(main())
    assert len(program.stalls()) == 1


def test_what_it_remembers_is_bounded(program: Program) -> None:
    async def main() -> None:
        for number in range(20_000):
            program.span(trace=number)

    asyncio.run(main())
    watch = next(iter(program.monitor._watches.values()), None)
    if watch is not None:  # the thread may have seen already that the loop runs no more
        assert len(watch._traces) <= 1_024
        assert len(watch._last_spans) <= 1_024
        assert len(watch._started) <= 64


def test_hundreds_of_runs_at_the_same_time_share_one_thread() -> None:
    @tool
    async def wait() -> None:
        await asyncio.sleep(0.2)

    async def one(name: str) -> None:
        async with agent(name):
            await wait()

    async def main() -> int:
        runs = [asyncio.ensure_future(one(f"a{number}")) for number in range(300)]
        await asyncio.sleep(0.1)
        found = len(watchers())
        await asyncio.gather(*runs)
        return found

    before = len(watchers())
    processor = AgentPerfSpanProcessor()
    with recording(processor):
        assert asyncio.run(main()) - before <= 1
    processor.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_watches_its_own_loops(program: Program) -> None:
    async def main() -> None:
        program.span()
        await asyncio.sleep(0.06)
        block_here()
        await asyncio.sleep(0.06)

    async def forking() -> int:
        program.span()
        await asyncio.sleep(0.1)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(asyncio.run, main()).result(10)
                status = 0 if len(program.stalls()) == 1 else 2
            finally:
                os._exit(status)
        return child

    child = asyncio.run(forking())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


ENDINGS = {
    "in the middle of a run": "await asyncio.sleep(0.2); os._exit(0)",
    "by leaving": "await asyncio.sleep(0.2); sys.exit(0)",
    "while blocked": "await asyncio.sleep(0.1); time.sleep(0.2)",
    "with a loop left open": "asyncio.get_running_loop().stop()",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_program_that_ends_leaves_no_trace_of_it_on_standard_error(ending: str) -> None:
    program = textwrap.dedent(
        """
        import asyncio, os, sys, time
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from otel_agentperf import AgentPerfSpanProcessor, agent
        provider = TracerProvider()
        provider.add_span_processor(AgentPerfSpanProcessor())
        trace.set_tracer_provider(provider)
        @agent
        async def main():
            {ending}
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(main())
        except RuntimeError:
            pass
        """
    ).format(ending=ending)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "agentperf" not in done.stderr
    assert "Fatal" not in done.stderr
    assert "Exception in thread" not in done.stderr
