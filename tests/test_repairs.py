"""Programs that are run slow, repaired, and run again: the bottleneck is found in the first and not in the second,
and the saving that was predicted is what the repair really saves."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.trace import TracerProvider

import otel_agentperf
from otel_agentperf import agent, llm, tool
from otel_agentperf._config import Config
from otel_agentperf.capture.tracing import state
from otel_agentperf.model import Report
from otel_agentperf.processor import off_report

_TOLERANCE = 0.15
_NOISE_S = 0.03
"""what a busy machine adds to a run, whatever its length"""


class Repair(NamedTuple):
    kind: str
    operation: str
    slow: Callable[[], Any]
    repaired: Callable[[], Any]


@tool
def look_up(ids: Any, seconds: float = 0.08) -> list[Any]:
    time.sleep(seconds)
    return [f"row {number}" for number in (ids if isinstance(ids, list) else [ids])]


@llm(model="small")
def decide(turn: int, seconds: float = 0.1) -> str:
    time.sleep(seconds)
    return f"decision {turn}"


def loop() -> None:
    decide(1)
    for number in range(8):
        look_up(100 + number)


def batch() -> None:
    decide(1)
    look_up([100 + number for number in range(8)])


def again() -> None:
    for _ in range(4):
        look_up("Oslo", 0.15)


def once() -> None:
    look_up("Oslo", 0.15)


@tool
def weather(city: str) -> str:
    time.sleep(0.25)
    return f"mild in {city}"


@tool
def hotels(city: str) -> str:
    time.sleep(0.2)
    return f"three in {city}"


@tool
def trains(city: str) -> str:
    time.sleep(0.15)
    return f"hourly to {city}"


def one_by_one() -> None:
    decide(1)
    for call in (weather, hotels, trains):
        call("Bergen")
    decide(2)


def side_by_side() -> None:
    decide(1)
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(copy_context().run, call, "Bergen") for call in (weather, hotels, trains)]
        for call in calls:
            call.result()
    decide(2)


class Flaky:
    def __init__(self, failures: int, error: type[Exception] = ConnectionError) -> None:
        self.failures, self.error = failures, error

    def __call__(self) -> str:
        time.sleep(0.08)
        self.failures -= 1
        if self.failures >= 0:
            raise self.error("no")
        return "yes"


def persistent(failures: int) -> None:
    fetch = tool(Flaky(failures), name="fetch")
    decide(1)
    for _ in range(9):
        try:
            fetch()
            return
        except ConnectionError:
            time.sleep(0.1)


def query(seconds: float) -> None:
    decide(1)
    with state.tracer.start_as_current_span(
        "SELECT", attributes={"db.system.name": "sqlite", "db.query.text": "SELECT"}
    ):
        time.sleep(seconds)


def cached(size: int) -> None:
    @functools.lru_cache(maxsize=size)
    def rates(currency: str) -> list[str]:
        return look_up(currency)  # type: ignore[no-any-return]

    for _ in range(4):
        for currency in ("NOK", "SEK", "DKK"):
            rates(currency)


class RateLimitError(Exception):
    status_code = 429


def refused(times: int) -> None:
    fetch = tool(Flaky(times, RateLimitError), name="fetch")
    decide(1)
    for _ in range(9):
        try:
            fetch()
            break
        except RateLimitError:
            time.sleep(0.5)
    decide(2)


def idle(seconds: float) -> None:
    decide(1)
    look_up(1)
    time.sleep(seconds)
    look_up(2)
    decide(2)


def warming_up(seconds: float) -> None:
    decide(1)
    look_up(1, seconds)
    decide(2)
    for number in (2, 3, 4):
        look_up(number, 0.1)
        decide(number)


@tool
async def read_page(number: int) -> str:
    await asyncio.sleep(0.1 * number)
    return f"page {number}"


@tool
async def parse(seconds: float, blocking: bool) -> str:
    if blocking:
        time.sleep(seconds)
    else:
        await asyncio.to_thread(time.sleep, seconds)
    return "parsed"


async def on_the_loop() -> None:
    await asyncio.gather(*(read_then_read(number) for number in (1, 2)), parse(0.6, blocking=True))


async def beside_the_loop() -> None:
    await asyncio.gather(*(read_then_read(number) for number in (1, 2)), parse(0.6, blocking=False))


@tool
async def read_then_read(number: int) -> None:
    await read_page(number)
    await read_page(number + 1)


def going_in_circles(times: int) -> None:
    for turn in range(times):
        decide(turn)
        look_up("Oslo", 0.15)
    decide(99)


REPAIRS = [
    Repair("n_plus_one_calls", "look_up", loop, batch),
    Repair("duplicate_calls", "look_up", again, once),
    Repair("serialized_independent_calls", "weather", one_by_one, side_by_side),
    Repair("retry_storm", "fetch", lambda: persistent(4), lambda: persistent(0)),
    Repair("slow_operation", "SELECT", lambda: query(1.6), lambda: query(1.0)),
    Repair("ineffective_cache", "rates", lambda: cached(1), lambda: cached(8)),
    Repair("rate_limited", "fetch", lambda: refused(1), lambda: refused(0)),
    Repair("scheduling_gap", "planner", lambda: idle(0.7), lambda: idle(0.0)),
    Repair("cold_start", "look_up", lambda: warming_up(1.0), lambda: warming_up(0.1)),
    Repair("agent_loop", "look_up", lambda: going_in_circles(4), lambda: going_in_circles(1)),
    Repair("blocked_event_loop", "parse", on_the_loop, beside_the_loop),
]


@pytest.fixture
def run() -> Iterator[Callable[[Callable[[], Any]], tuple[Report, float]]]:
    """Runs a program as an agent: its report, and the seconds it took."""
    before, reports = state.tracer, list[Report]()

    def run(program: Callable[[], Any]) -> tuple[Report, float]:
        planner = agent(program, name="planner")
        started = time.perf_counter()
        asyncio.run(planner()) if asyncio.iscoroutinefunction(program) else planner()
        return reports[-1], time.perf_counter() - started

    otel_agentperf.instrument(tracer_provider=TracerProvider(shutdown_on_exit=False), config=Config())
    otel_agentperf.on_report(reports.append)
    yield run
    off_report(reports.append)
    otel_agentperf.uninstrument()
    state.tracer = before


@pytest.mark.parametrize("repair", REPAIRS, ids=[repair.kind for repair in REPAIRS])
def test_the_repair_saves_what_was_predicted(run: Callable[..., tuple[Report, float]], repair: Repair) -> None:
    before, slow_s = run(repair.slow)
    after, repaired_s = run(repair.repaired)
    (found,) = [finding for finding in before.findings if finding.severity != "info"]
    assert (found.kind, found.operation) == (repair.kind, repair.operation)
    assert [finding.kind for finding in after.findings if finding.severity != "info"] == []
    assert found.saving_s == pytest.approx(slow_s - repaired_s, rel=_TOLERANCE, abs=_NOISE_S)
    assert slow_s - before.saving_s == pytest.approx(repaired_s, rel=_TOLERANCE, abs=_NOISE_S)
