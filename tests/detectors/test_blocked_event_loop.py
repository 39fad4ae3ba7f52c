from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from _recording import attributes, recording
from _traces import EPOCH_NS, Node, agent, calls_of, findings, llm, node, run_of, the_finding, together, tool, wait
from otel_agentperf import AgentPerfSpanProcessor, on_report
from otel_agentperf import agent as traced_agent
from otel_agentperf import tool as traced_tool
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.runs import build_run, find_runs
from otel_agentperf.ended import ended
from otel_agentperf.model import AgentRun, Report, Stall
from otel_agentperf.processor import off_report
from otel_agentperf.reporting import Reporter

KIND = "blocked_event_loop"
FRAME = "app/tools.py:42 parse"


def stall(start_s: float, seconds: float, by: str = "", **fields: Any) -> tuple[Stall, str]:
    """A stall, and the operation in whose span it was."""
    due = tuple(round(moment * 1e9) for moment in fields.pop("due", ()))
    ready = tuple((operation, round(since * 1e9)) for operation, since in fields.pop("ready", ()))
    return Stall(EPOCH_NS + round(start_s * 1e9), round(seconds * 1e9), FRAME, due_ns=due, ready=ready, **fields), by


def stalled(trace: Node, *stalls: tuple[Stall, str], late: str = "", **settings: Any) -> AgentRun:
    """The run of the trace with stalls, their `ready` by operation; `late`: the operation whose calls could not start
    meanwhile."""
    run = run_of(trace, **settings)
    waiting = calls_of(run, late) if late else ()
    told = tuple(
        replace(
            one,
            span_id=calls_of(run, by)[0] if by else "",
            waiting=one.waiting or waiting,
            ready=tuple((calls_of(run, operation)[0], since) for operation, since in one.ready),
        )
        for one, by in stalls
    )
    root = replace(run.root, stalls=told)
    return build_run(root, [root, *run.spans[1:]], run.thresholds)


def in_turn(seconds: float, *ready: tuple[tuple[int, float], ...]) -> AgentRun:
    """Calls that were all open from the start and blocked one after another. `ready`: in each one's stall, the calls
    that were seen ready, and how many seconds after its start."""
    run = run_of(agent("a", together(*(tool("parse", seconds * (number + 1)) for number in range(len(ready))))))
    calls = sorted(run.spans[1:], key=lambda span: span.end_ns)
    told = tuple(
        Stall(
            EPOCH_NS + round(seconds * number * 1e9),
            round(seconds * 1e9),
            FRAME,
            call.span_id,
            ready=tuple((calls[other].span_id, round(since * 1e9)) for other, since in seen),
        )
        for number, (call, seen) in enumerate(zip(calls, ready, strict=True))
    )
    root = replace(run.root, stalls=told)
    return build_run(root, [root, *run.spans[1:]], run.thresholds)


BESIDE = together(tool("parse", 0.3), tool("fetch", 0.31))

SILENT = {
    "no stalls": stalled(agent("a", BESIDE)),
    "nothing else going on": stalled(agent("a", tool("parse", 0.3), tool("fetch", 0.5)), stall(0.0, 0.3, "parse")),
    "its own step inside": stalled(agent("a", tool("parse", tool("load", 0.3))), stall(0.0, 0.3, "load")),
    "others that wait for longer": stalled(
        agent("a", together(tool("parse", 0.3), llm(2.0))), stall(0.0, 0.3, "parse")
    ),
    "others that were done before": stalled(
        agent("a", tool("fetch", 0.2), tool("parse", 0.3)), stall(0.2, 0.3, "parse")
    ),
    "too short": stalled(agent("a", together(tool("parse", 0.08), tool("fetch", 0.09))), stall(0.0, 0.08, "parse")),
    "the user's own threshold": stalled(
        agent("a", BESIDE, llm(0.1)), stall(0.0, 0.3, "parse"), thresholds={f"{KIND}.block_s@parse": 0.5}
    ),
    "a delay that the run did not wait for": stalled(
        agent("a", together(tool("parse", 0.3), tool("fetch", 0.31), llm(2.0))), stall(0.0, 0.3, "parse", due=[0.1])
    ),
    "one open call, and nobody knows whose work it was": stalled(agent("a", tool("parse", 0.3)), stall(0.0, 0.3)),
    "a call that is the blocking one itself, its span made on another thread": stalled(
        agent("a", tool("parse", 0.3)), stall(0.0, 0.3, "a")
    ),
    "calls that take turns, each woken by the one before": in_turn(0.3, (), (), ()),
    "calls that follow each other": stalled(
        agent("a", tool("parse", 0.3), tool("parse", 0.3)), stall(0.0, 0.3, "parse"), stall(0.3, 0.3)
    ),
    "a ready call that goes on to wait for longer": stalled(
        agent("a", together(tool("parse", 0.3), tool("fetch", 2.0))), stall(0.0, 0.3, "parse", ready=[("fetch", 0.0)])
    ),
    "after the run": stalled(agent("a", BESIDE), stall(5.0, 0.3, "parse")),
    "of a span that is not there": stalled(agent("a", tool("t", 0.3)), stall(0.0, 0.3, waiting=("f" * 16,))),
}


@pytest.mark.parametrize("run", SILENT.values(), ids=SILENT.keys())
def test_silent(run: AgentRun) -> None:
    assert findings(run, KIND) == []


def _workers(blocking: float, fetching: float) -> Node:
    return agent("a", together(node("one", tool("parse", blocking)), node("two", tool("fetch", fetching), llm(0.5))))


LOUD = {
    "a call that stood ready": (
        stalled(_workers(0.4, 0.4), stall(0.0, 0.4, "parse", due=[0.1])),
        0.3,
        {"parse", "fetch"},
    ),
    "a call whose task was in the loop's queue all the while": (
        stalled(_workers(0.4, 0.4), stall(0.0, 0.4, "parse", ready=[("fetch", 0.0)])),
        0.4,
        {"parse", "fetch"},
    ),
    "a call whose own timer is known, and another's": (
        stalled(_workers(0.4, 0.4), stall(0.0, 0.4, "parse", due=[0.1, 0.3], ready=[("fetch", 0.1)])),
        0.3,
        {"parse", "fetch"},
    ),
    "calls that had all begun, and blocked in turn": (
        in_turn(0.4, ((1, 0.0), (2, 0.0)), ((2, 0.0),), ()),
        0.8,
        {"parse"},
    ),
    "calls that became ready while the first blocked": (
        in_turn(0.4, ((1, 0.1), (2, 0.1)), ((2, 0.0),), ()),
        0.7,
        {"parse"},
    ),
    "a ready call that takes as long as a callback of an unknown task": (
        stalled(agent("a", together(node("one", tool("crawl", 0.5)), node("two", tool("fetch", 0.4), llm(0.5)))),
                stall(0.0, 0.4, ready=[("fetch", 0.0)])),
        0.4,
        {"fetch"},
    ),
    "nobody saw when it was ready: in the middle": (
        stalled(_workers(0.4, 0.4), stall(0.0, 0.4, "parse")),
        0.2,
        {"parse", "fetch"},
    ),
    "another run's callback": (
        stalled(agent("a", llm(0.6), llm(0.5)), stall(0.1, 0.5, elsewhere=True, due=[0.1])),
        0.4,
        {"gpt"},
    ),
    "a call that waited more than once inside": (
        stalled(agent("a", together(tool("parse", 0.4), tool("crawl", 1.0))), stall(0.0, 0.4, "parse", due=[0.1])),
        0.3,
        {"parse", "crawl"},
    ),
    "calls that could not start": (
        stalled(agent("a", tool("parse", 0.4), together(tool("fetch", 0.5), tool("fetch", 0.3))),
                stall(0.0, 0.4, "parse"), late="fetch"),
        0.4,
        {"parse", "fetch"},
    ),
    "a worker that could not go on": (
        stalled(
            agent("a", together(node("one", tool("parse", 0.4)), node("two", wait(0.4), tool("fetch", 0.5)))),
            stall(0.0, 0.4, "parse"),
            late="fetch",
        ),
        0.4,
        {"parse", "fetch"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("run", "saving", "evidence"), LOUD.values(), ids=LOUD.keys())
def test_loud(run: AgentRun, saving: float, evidence: set[str]) -> None:
    finding = the_finding(run, KIND)
    assert finding.saving_s == pytest.approx(saving, abs=0.011)
    assert {run.by_id[span_id].operation for span_id in finding.evidence} == evidence
    assert FRAME in finding.recommendation
    assert "asyncio.to_thread" in finding.recommendation
    assert finding.operation in finding.recommendation


def test_the_stalls_of_one_function_are_one_finding() -> None:
    run = stalled(_workers(0.4, 0.4), stall(0.0, 0.2, "parse", due=[0.05]), stall(0.2, 0.2, "parse", due=[0.05]))
    (found,) = findings(run, KIND)
    assert found.calls == 2


def test_it_speaks_instead_of_calls_in_sequence() -> None:
    tools = [tool("parse", 0.3, call_id=str(number)) for number in range(3)]
    trace = agent("a", llm(0.2), *tools, llm(0.2))
    assert [finding.kind for finding in findings(run_of(trace))] == ["serialized_independent_calls"]
    run = run_of(trace)
    calls = calls_of(run, "parse")
    told = tuple(
        Stall(EPOCH_NS + round((0.2 + 0.3 * number) * 1e9), 300_000_000, FRAME, calls[number], calls[number + 1 :])
        for number in range(3)
    )
    root = replace(run.root, stalls=told)
    (finding,) = findings(build_run(root, [root, *run.spans[1:]]))
    assert finding.kind == KIND
    assert finding.saving_s == pytest.approx(0.6, abs=0.01)


# --- live: the same program blocking and repaired -----------------------------------------------------------


async def nap(seconds: float, blocking: bool) -> None:
    if blocking:
        time.sleep(seconds)
    else:
        await asyncio.to_thread(time.sleep, seconds)


@traced_tool
async def parse(number: int, blocking: bool, seconds: float = 0.3) -> None:
    await nap(seconds, blocking)


@traced_tool
async def fetch(number: int, seconds: float) -> None:
    await asyncio.sleep(seconds)


@traced_tool
async def crawl(pages: int, seconds: float) -> None:
    for _ in range(pages):
        await asyncio.sleep(seconds)


async def all_block(blocking: bool) -> None:
    await asyncio.gather(*(parse(number, blocking) for number in range(3)))


async def first_blocks(blocking: bool) -> None:
    await asyncio.gather(parse(0, blocking), fetch(1, 0.5), fetch(2, 0.2))


async def others_had_begun(blocking: bool) -> None:
    await asyncio.gather(crawl(5, 0.1), fetch(2, 0.2), parse(0, blocking))


def had_all_begun(tools: int, pause: float) -> Work:
    @traced_tool
    async def parse(number: int, blocking: bool) -> None:
        await asyncio.sleep(pause)
        await nap(0.25, blocking)

    async def work(blocking: bool) -> None:
        # The default one has fewer threads on a small machine.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(tools))
        await asyncio.gather(*(parse(number, blocking) for number in range(tools)))

    return work


async def take_turns(blocking: bool) -> None:
    turn = asyncio.Lock()

    @traced_tool
    async def parse(number: int) -> None:
        async with turn:
            await asyncio.sleep(0.01)
            time.sleep(0.2)

    await asyncio.gather(*(parse(number) for number in range(3)))


async def woken_by_the_one_before(blocking: bool) -> None:
    turns = [asyncio.Event() for _ in range(4)]
    turns[0].set()

    @traced_tool
    async def parse(number: int) -> None:
        await turns[number].wait()
        time.sleep(0.2)
        turns[number + 1].set()

    await asyncio.gather(*(parse(number) for number in (2, 1, 0)))


async def one_after_another(blocking: bool) -> None:
    for number in range(3):
        await parse(number, True, 0.2)


Work = Callable[[bool], Coroutine[Any, Any, None]]


def live(work: Work, blocking: bool) -> tuple[Report, Report]:
    """The live report of a run, and one of the spans that it exported."""
    reports: list[Report] = []
    on_report(reports.append)
    processor = AgentPerfSpanProcessor()
    try:
        with recording(processor) as recorded:

            @traced_agent(name="planner")
            async def main() -> None:
                await work(blocking)

            asyncio.run(main())
            (run,) = find_runs(Reporter.classified(ended(span)) for span in recorded.spans)
            assert "asyncio" not in str(attributes(recorded.one("invoke_agent planner")).get("agentperf.stalls"))
    finally:
        off_report(reports.append)
        processor.shutdown()
    return reports[-1], analyze(run)


def _shortest(work: Work, blocking: bool) -> tuple[Report, Report]:
    """Of three: what else the machine does only makes a run longer."""
    return min((live(work, blocking) for _ in range(3)), key=lambda reports: reports[0].root.duration_s)


@pytest.mark.parametrize("work", [take_turns, woken_by_the_one_before, one_after_another])
def test_silent_where_nobody_else_could_go_on(work: Work) -> None:
    report, _ = live(work, True)
    assert report.root.stalls
    assert not [finding for finding in report.findings if finding.kind == KIND]


@pytest.mark.parametrize(
    "work",
    [
        all_block,
        first_blocks,
        others_had_begun,
        pytest.param(had_all_begun(2, 0.0), id="2 had begun"),
        pytest.param(had_all_begun(4, 0.02), id="4 had begun"),
        pytest.param(had_all_begun(8, 0.0), id="8 had begun"),
    ],
)
def test_the_prediction_holds_when_the_fix_is_made(work: Work) -> None:
    broken, offline = _shortest(work, True)
    repaired, _ = _shortest(work, False)
    measured = broken.root.duration_s - repaired.root.duration_s
    (finding,) = [finding for finding in broken.findings if finding.kind == KIND]
    assert finding.saving_s == pytest.approx(measured, rel=0.15)
    assert finding.operation == "parse"
    assert "test_blocked_event_loop.py:" in finding.recommendation
    assert " nap" in finding.recommendation
    assert not [finding for finding in repaired.findings if finding.kind == KIND]
    (read,) = [finding for finding in offline.findings if finding.kind == KIND]
    assert (read.saving_s, read.evidence, read.recommendation) == (
        finding.saving_s,
        finding.evidence,
        finding.recommendation,
    )
    assert offline.root.stalls == broken.root.stalls
