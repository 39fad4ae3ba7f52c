"""Threads, executors, forks, signals: the context goes along, nothing hangs, nothing is doubled."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any

import pytest
import wrapt
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, get_value, set_value
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from _recording import Recording, recording
from otel_agentperf import AgentPerfSpanProcessor, agent, tool
from otel_agentperf.capture import threads
from otel_agentperf.capture.patching import Patches

inner = tool(name="inner")(lambda *args: args)


@pytest.fixture
def patched() -> Iterator[None]:
    patches = Patches()
    threads.patch(patches)
    yield
    patches.restore()


# --- threads ----------------------------------------------------------------------------------------------


def test_a_thread_pools_work_belongs_to_the_span_that_submitted_it(recorded: Recording, patched: None) -> None:
    with ThreadPoolExecutor(2) as pool:
        with agent("a"):
            assert pool.submit(inner, 1, 2).result() == (1, 2)
            assert list(pool.map(inner, [1, 2])) == [(1,), (2,)]
        assert pool.submit(lambda: trace.get_current_span().get_span_context().is_valid).result() is False
    root = recorded.one("invoke_agent a").context.span_id
    assert [span.parent.span_id for span in recorded.spans if span.name == "execute_tool inner"] == [root] * 3


def test_run_in_executor_and_to_thread(recorded: Recording, patched: None) -> None:
    @agent(name="a")
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(loop.run_in_executor(None, inner), asyncio.to_thread(inner))

    asyncio.run(main())
    root = recorded.one("invoke_agent a").context.span_id
    assert [span.parent.span_id for span in recorded.spans if span.name == "execute_tool inner"] == [root] * 2


def test_suppression_goes_along_too(recorded: Recording, patched: None) -> None:
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(get_value, _SUPPRESS_INSTRUMENTATION_KEY).result() is True
        pool.submit(inner).result()
    detach(token)
    assert not recorded.spans


def test_a_wrong_submit_fails_as_before(recorded: Recording, patched: None) -> None:
    with ThreadPoolExecutor(1) as pool, agent("a"), pytest.raises(TypeError, match="missing 1 required positional"):
        pool.submit()  # type: ignore[call-arg]


def test_an_error_in_a_pool_is_the_same_object(recorded: Recording, patched: None) -> None:
    error = ValueError()

    def fail() -> None:
        raise error

    with ThreadPoolExecutor(1) as pool, agent("a"):
        assert pool.submit(fail).exception() is error


def test_restoring_gives_submit_back() -> None:
    before = ThreadPoolExecutor.submit
    patches = Patches()
    threads.patch(patches)
    assert ThreadPoolExecutor.submit is not before
    patches.restore()
    assert ThreadPoolExecutor.submit is before


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_beside_another_instrumentation_of_submit(recorded: Recording, first: str) -> None:
    """OpenTelemetry's own for threads tells the pool by the binding of what it has wrapped."""
    before = ThreadPoolExecutor.submit
    pools = []

    def theirs(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        pools.append(instance)
        return wrapped(*args, **kwargs)

    patches = Patches()
    wrap = [partial(wrapt.wrap_function_wrapper, ThreadPoolExecutor, "submit", theirs), partial(threads.patch, patches)]
    for step in wrap if first == "theirs" else reversed(wrap):
        step()
    try:
        with ThreadPoolExecutor(1) as pool, agent("a"):
            pool.submit(inner).result()
    finally:
        patches.restore()
        ThreadPoolExecutor.submit = before  # type: ignore[method-assign]
    assert pools == [pool]
    assert recorded.parent_of("execute_tool inner") == "invoke_agent a"


def test_many_threads_each_with_a_run_of_its_own() -> None:
    with recording(AgentPerfSpanProcessor()) as recorded:
        calls = 50

        def work(number: int) -> None:
            with agent(f"a{number}"):
                for _ in range(calls):
                    inner(number)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(20)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        roots = [span for span in recorded.spans if span.parent is None]
        assert len(roots) == 20
        assert {span.attributes["agentperf.tool.calls"] for span in roots} == {calls}


# --- forks ------------------------------------------------------------------------------------------------


def _in_child(work: object, timeout_s: float = 20.0) -> int:
    """Fork, run `work` in the child, and return its exit status; a child that hangs is killed and fails."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() is not False else 2  # type: ignore[operator]
        finally:
            os._exit(status)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -999


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_inside_a_run_leaves_the_childs_spans_reported_in_the_child() -> None:
    with recording(AgentPerfSpanProcessor()) as recorded:

        def in_child() -> bool:
            before = len(recorded.kept.spans)
            with agent("child"):
                inner()
            root = recorded.kept.spans[-1]
            return len(recorded.kept.spans) == before + 2 and root.attributes.get("agentperf.tool.calls") == 1

        with agent("parent"):
            inner()
            assert _in_child(in_child) == 0
            inner()
        assert recorded.one("invoke_agent parent").attributes["agentperf.tool.calls"] == 2
        assert recorded.one("invoke_agent parent").attributes["agentperf.incomplete"] is False


FORKS = """
import faulthandler, os, sys, threading, warnings
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from otel_agentperf import AgentPerfSpanProcessor, agent, instrument, tool

warnings.simplefilter("ignore", DeprecationWarning)  # the process forks while it has threads
meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
provider = TracerProvider()
provider.add_span_processor(AgentPerfSpanProcessor(meter_provider=meters))
instrument(tracer_provider=provider)
inner = tool(name="inner")(lambda *args: args)
stop = threading.Event()

def busy():
    while not stop.is_set():
        with agent("busy"):
            inner(1)

def traces():
    faulthandler.dump_traceback_later(20, exit=True)
    with agent("child"):
        for number in range(3):
            inner(number)

workers = [threading.Thread(target=busy) for _ in range(3)]
for worker in workers:
    worker.start()
failed = 0
for _ in range(20):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            traces()
            status = 0
        finally:
            os._exit(status)
    failed += os.waitpid(child, 0)[1] != 0
stop.set()
for worker in workers:
    worker.join()
sys.exit(failed)
"""


def test_forks_while_other_threads_trace_and_record_do_not_hang_the_child() -> None:
    """In a process of its own: where coverage is measured, its lock may be another thread's when this one forks."""
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_multiprocessing(recorded: Recording, method: str) -> None:
    with agent("parent"), multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_square, range(4)) == [0, 1, 4, 9]
    assert recorded.names == ["invoke_agent parent"]


@tool
def _square(number: int) -> int:
    return number * number


# --- signals ----------------------------------------------------------------------------------------------


def test_a_signal_handler_may_trace_whatever_it_interrupts() -> None:
    """Every other millisecond, for a while, so that every line of ours is interrupted some time."""
    handled = []
    inside = False

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal inside
        if inside or get_value(_SUPPRESS_INSTRUMENTATION_KEY):  # it interrupted itself, or an exporter
            return
        inside = True
        with agent("handler"):
            handled.append(inner(len(handled)))
        inside = False

    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    with recording(AgentPerfSpanProcessor(meter_provider=meters)) as recorded:
        with agent("first"):  # loads the detectors
            inner()
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.0021)
        try:
            until = time.monotonic() + 1.5
            runs = 0
            while time.monotonic() < until:
                with agent("main"):
                    inner()
                    inner()
                runs += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert len(handled) > 50
        mains = [span for span in recorded.spans if span.name == "invoke_agent main"]
        assert len(mains) == runs
        assert sum(span.name == "invoke_agent handler" for span in recorded.spans) == len(handled)
