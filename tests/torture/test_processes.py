"""Runs side by side, forks with locks held, worker processes, and the end of a process in the middle of it all."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import otel_agentperf
from _recording import Recording, recording
from otel_agentperf import AgentPerfSpanProcessor, agent, llm, tool
from otel_agentperf._config import Config
from otel_agentperf.model import Report

RUNS = 300
Called = Callable[[str], str]
"""notes a call, and gives its name"""


@pytest.fixture
def instrumented() -> Iterator[Recording]:
    with recording(AgentPerfSpanProcessor()) as recorded:
        otel_agentperf.instrument(tracer_provider=recorded.provider, config=Config())
        yield recorded
        otel_agentperf.uninstrument()


class Runs:
    """Runs that do everything at once, and note what each of them has done."""

    def __init__(self) -> None:
        self.done: dict[str, Counter[str]] = {}
        self.pool = ThreadPoolExecutor(8)

    async def run(self, number: int) -> None:
        """Some calls, each of a kind chosen at random, all at the same time."""
        done = self.done[f"run {number}"] = Counter()
        choose = random.Random(number)

        def called(what: str) -> str:
            done[f"{what} {number}"] += 1
            return f"{what} {number}"

        async def whole() -> None:
            await asyncio.gather(*(choose.choice(KINDS)(self, called) for _ in range(6)))

        await agent(whole, name=f"run {number}")()

    async def plain(self, called: Called) -> None:
        tool(work, name=called("plain"))()

    async def threads(self, called: Called) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self.pool, tool(work, name=called("executor")))
        await asyncio.to_thread(tool(work, name=called("to_thread")))

    async def model(self, called: Called) -> None:
        await llm(wait, model=called("model"))()

    async def cancelled(self, called: Called) -> None:
        waiting = asyncio.create_task(tool(forever, name=called("cancelled"))())
        await wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    async def timed_out(self, called: Called) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(tool(forever, name=called("timed out"))(), 0.01)

    async def read_in_turns(self, called: Called, chunks: int = 4) -> list[Any]:
        both = [tool(stream, name=called("stream"))(called) for _ in range(2)]
        for _ in range(chunks):
            for one in both:
                await anext(one)
        return both

    async def left_early(self, called: Called) -> None:
        for one in await self.read_in_turns(called, 2):
            await one.aclose()

    async def closed_by_another_task(self, called: Called) -> None:
        await asyncio.gather(*(asyncio.create_task(one.aclose()) for one in await self.read_in_turns(called, 2)))

    async def read_whole(self, called: Called) -> None:
        for one in await self.read_in_turns(called):
            await one.aclose()


KINDS = (Runs.plain, Runs.threads, Runs.model, Runs.cancelled, Runs.timed_out, Runs.left_early,
         Runs.closed_by_another_task, Runs.read_whole)  # fmt: skip


def work() -> int:
    return 1


async def wait() -> int:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return 1


async def forever() -> None:
    await asyncio.Event().wait()


async def stream(called: Called) -> AsyncIterator[int]:
    for chunk in range(4):
        await asyncio.sleep(0)
        tool(work, name=called("inside"))()
        yield chunk


def calls_of(report: Report) -> Counter[str]:
    return Counter(span.operation for span in report.run.spans if span.kind in ("tool", "llm"))


def test_each_of_hundreds_of_runs_has_exactly_its_own_calls(instrumented: Recording, reports: list[Report]) -> None:
    runs = Runs()

    async def main(numbers: range) -> None:
        await asyncio.gather(*(runs.run(number) for number in numbers))

    with ThreadPoolExecutor(3) as loops:  # each with a loop of its own
        list(loops.map(asyncio.run, [main(range(first, RUNS, 3)) for first in range(3)]))
    runs.pool.shutdown()
    found = {report.root.operation: calls_of(report) for report in reports}
    assert len(reports) == len(found) == RUNS
    assert found == runs.done
    assert not any(report.run.incomplete for report in reports)
    assert sum(map(Counter.total, found.values())) == len(instrumented.spans) - RUNS


SET_UP = """
import asyncio, faulthandler, gc, json, os, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from otel_agentperf import AgentPerfSpanProcessor, agent, instrument, on_report, tool

warnings.simplefilter("ignore", DeprecationWarning)  # the process forks while it has threads
provider = TracerProvider()
meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
provider.add_span_processor(AgentPerfSpanProcessor(meter_provider=meters))
trace.set_tracer_provider(provider)
instrument(tracer_provider=provider)
reports = []
on_report(reports.append)
call = tool(name="call")(lambda *args: args)

@agent(name="run")
async def run():
    await asyncio.gather(asyncio.to_thread(call, 1), asyncio.sleep(0))
    return call(2)

asyncio.run(run())
assert reports[0].calls("tool") == 2
"""

LOCKS = """
def locks():
    kinds = type(threading.Lock()), type(threading.RLock())
    owners = [(name, vars(module)) for name, module in list(sys.modules.items()) if name.startswith("otel_agentperf")]
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith("otel_agentperf") and not isinstance(thing, type):
            own = [key for kind in type(thing).__mro__ for key in getattr(kind, "__slots__", ())]
            values = {key: getattr(thing, key, None) for key in [*own, *getattr(thing, "__dict__", ())]}
            owners.append((type(thing).__module__, values))
    return {id(value): (name, value) for name, values in owners for value in values.values() if type(value) in kinds}

def holding(lock, held, seconds):
    with lock:
        held.set()
        time.sleep(seconds)

tried = []
for name, lock in locks().values():
    held = threading.Event()
    holder = threading.Thread(target=holding, args=(lock, held, 0.1))
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(20, exit=True)
            reports.clear()
            asyncio.run(run())
            status = 0 if reports[0].calls("tool") == 2 else 2
        finally:
            os._exit(status)
    tried.append((name, os.waitpid(child, 0)[1]))
    holder.join()
    reports.clear()
    asyncio.run(run())
    assert reports[0].calls("tool") == 2
print(json.dumps(tried))
"""


LOCKED = ("metrics", "run_buffer", "history", "capture.loop_monitor")
"""modules that have one: more may come"""


def python(code: str, *args: str, timeout: float = 120, **environ: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, with nothing of this one's settings."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTEST_", "COV_"))}
    command = [sys.executable, *args, "-c", code]
    return subprocess.run(
        command, env={**inherited, **environ}, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_fork_while_another_thread_holds_any_lock_of_ours() -> None:
    """All of them, found by looking for them: the child and the parent go on, and both trace."""
    done = python(SET_UP + LOCKS)
    assert (done.returncode, done.stderr) == (0, "")
    tried = json.loads(done.stdout)
    assert {name for name, _ in tried} >= {f"otel_agentperf.{name}" for name in LOCKED}
    assert {status for _, status in tried} == {0}, tried


SPAWNED = """
import multiprocessing, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from otel_agentperf import AgentPerfSpanProcessor, agent, instrument, on_report, tool

@tool
def square(number):
    return number * number

@agent
def work(number):
    return square(number) + square(number)

def in_worker(number):
    reports = []
    if not hasattr(trace.get_tracer_provider(), "add_span_processor"):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
        instrument(tracer_provider=provider)
    on_report(reports.append)
    result = work(number)
    return result, [report.calls("tool") for report in reports]

if __name__ == "__main__":
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    instrument(tracer_provider=provider)
    with agent("parent"):
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
            found = pool.map(in_worker, range(6))
            direct = pool.map(work, range(6))
            pool.close()
            pool.join()
    print([result for result, _ in found] == direct == [2 * n * n for n in range(6)], found[0][1], found[-1][1][:1])
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_workers_of_multiprocessing_trace_what_they_do(method: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SPAWNED)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTEST_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "app.py", method],
        cwd=tmp_path, env=inherited, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("True [2] [2]\n", "", 0)


ENDINGS = {
    "open spans": "block = agent('open'); block.__enter__(); tool('inside').__enter__()",
    "an open generator": "stream = tool(lambda: (yield 1))(); next(stream)",
    "an exit in a run": "agent(lambda: sys.exit(3))()",
    "an exception": "agent(lambda: 1 / 0)()",
    "a task that never ends": """
async def main():
    task = asyncio.create_task(agent(asyncio.Event().wait, name='open')())
    await asyncio.sleep(0.01)
    global kept
    kept = task
asyncio.run(main())""",
    "a daemon thread": """
def forever():
    while True:
        with agent('busy'):
            call(1)
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.1)""",
    "a pool at work": """
pool = ThreadPoolExecutor(2)
with agent('open'):
    for number in range(20):
        pool.submit(call, number)""",
    "an exit function that traces": """
import atexit
atexit.register(lambda: agent(call, name='late')(1))""",
    "a finaliser that traces": """
class Late:
    def __del__(self):
        with agent('late'):
            call(1)
late = Late()
cycle = [late]
cycle.append(cycle)""",
    "a loop that was not closed": """
loop = asyncio.new_event_loop()
waiting = loop.create_task(agent(asyncio.Event().wait, name='open')())
loop.run_until_complete(asyncio.sleep(0.01))
async def leave():
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
loop.run_until_complete(leave())
loop.close()""",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("flags", [(), ("-X", "dev")], ids=["", "dev"])
def test_the_end_of_a_process_is_as_quiet_as_without_us(ending: str, flags: tuple[str, ...]) -> None:
    """The same code without any of ours says what must be said: its own traceback, and nothing else."""
    plain = (
        "import asyncio, sys, threading, time\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "from contextlib import nullcontext\n"
        "def agent(it=None, name=None):\n    return nullcontext() if it is None or isinstance(it, str) else it\n"
        "tool = agent\ncall = lambda *args: args\n"
    )
    warnings = ("-W", "ignore::ResourceWarning", "-W", "ignore::DeprecationWarning")
    expected = python(plain + ENDINGS[ending], *flags, *warnings)
    done = python(SET_UP + ENDINGS[ending], *flags, *warnings)
    assert done.returncode == expected.returncode
    assert done.stdout == ""
    told = [line for line in done.stderr.splitlines() if line and not line.startswith(" ")]
    assert told == [line for line in expected.stderr.splitlines() if line and not line.startswith(" ")]
