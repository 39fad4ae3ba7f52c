"""What a process remembers of its earlier runs."""

from __future__ import annotations

import os
import random
import sys
import threading

import pytest

from _traces import agent, http, llm, run_of, tool
from otel_agentperf.analysis.runs import build_run
from otel_agentperf.history import History
from otel_agentperf.model import PastCalls


def learned(*durations: float, **fields) -> History:
    history = History()
    history.learn(run_of(agent("a", *[tool("search", seconds, **fields) for seconds in durations])))
    return history


def known(history: History, *names: str) -> dict[str, PastCalls]:
    run = run_of(agent("a", *[tool(name, 1.0) for name in names or ("search",)]))
    return {past.operation: past for past in history.known(run.spans)}


def test_median_and_95th_percentile_to_within_two_percent():
    durations = [number / 100 for number in range(1, 101)]
    random.Random(7).shuffle(durations)
    past = known(learned(*durations))["search"]
    assert past.calls == 100
    assert past.p50_s == pytest.approx(0.50, rel=0.03)
    assert past.p95_s == pytest.approx(0.95, rel=0.03)


def test_thirty_calls_are_needed():
    assert known(learned(*[1.0] * 29)) == {}
    assert known(learned(*[1.0] * 30))["search"].calls == 30


def test_a_signal_handler_that_comes_in_the_middle_of_learning():
    """It may find an operation of which nothing is known yet."""
    history = History()
    history._sketch("tool", "search")
    assert known(history) == {}


def test_only_operations_of_the_run_are_told():
    assert known(learned(*[1.0] * 30), "other") == {}


def test_failures_are_not_learned():
    assert known(learned(*[1.0] * 40, error="timeout")) == {}


def test_incomplete_runs_are_not_learned():
    run = run_of(agent("a", *[tool("search", 1.0)] * 40))
    history = History()
    history.learn(build_run(run.root, run.spans, incomplete=True))
    assert known(history) == {}


def test_kinds_are_told_apart():
    history = learned(*[1.0] * 30)
    run = run_of(agent("a", llm(1.0, model="search")))
    assert history.known(run.spans) == ()


def test_calls_of_no_length_are_fine():
    assert known(learned(*[0.0] * 30))["search"].p95_s == 0.0


def test_it_is_bounded_and_forgets_what_was_not_seen_for_longest():
    history = History(most=50)
    for number in range(300):
        history.learn(run_of(agent("a", tool("search", 1.0), http(f"https://x{number}.io/", 1.0))))
    assert len(history._sketches) == 50
    assert known(history)["search"].calls == 300


def test_a_run_tells_at_most_64_operations():
    calls = [tool(f"t{number}", 0.1) for number in range(100)]
    history = History()
    for _ in range(30):
        history.learn(run_of(agent("a", *calls)))
    assert len(history.known(run_of(agent("a", *calls)).spans)) == 64


def test_many_threads_lose_nothing():
    history, run = History(), run_of(agent("a", *[tool("search", 1.0)] * 10))
    threads = [threading.Thread(target=lambda: [history.learn(run) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert known(history)["search"].calls == 4_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_goes_on_though_another_thread_held_the_lock():
    history = learned(*[1.0] * 30)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with history._lock:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = os.fork()
    if child == 0:
        # In the child nothing but this thread is left; a lock still held would hang it.
        os._exit(0 if known(history)["search"].calls == 30 else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_importing_the_package_does_not_load_the_sketches():
    import subprocess

    code = "import sys; from otel_agentperf import AgentPerfSpanProcessor, agent; assert 'ddsketch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
