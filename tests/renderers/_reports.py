"""Reports of runs that a renderer has to cope with: ordinary ones, odd ones, and hostile ones."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from _traces import Node, agent, cache, llm, run_of, span, together, tool, wait
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.runs import build_run
from otel_agentperf.model import Report

HOSTILE = "\x1b[31mred\x1b[0m [bold]markup[/] :smile: line\nbreak\r\ttab \u202ertl \ud800 日本語 \x00\x07"


def report_of(*tops: Node, **where: Any) -> Report:
    return analyze(run_of(*tops, **where))


def trip() -> Report:
    """A bit of everything: a loop, parallel calls, a model between them, a cache, tokens."""
    lookups = [cache("rates", 0.002, key=f"k{number % 2}", hit=number > 1) for number in range(6)]
    return report_of(
        agent(
            "planner",
            llm(0.4, tokens=(1_200, 80)),
            agent("sights", *[tool("opening_hours", 0.08, args={"sight": number}) for number in range(12)]),
            together(tool("weather", 0.3), tool("hotels", 0.5)),
            agent("budget", *lookups),
            llm(0.4, tokens=(1_300, 90)),
        )
    )


def failed() -> Report:
    return report_of(
        agent("planner", tool("book", 0.2, error="TimeoutError"), failed=True, more={"error.type": "TimeoutError"})
    )


def incomplete() -> Report:
    run = run_of(agent("planner", llm(1.0)))
    return analyze(build_run(run.root, run.spans, incomplete=True))


def of_no_duration() -> Report:
    return report_of(agent("planner", 0.0, tool("search", 0.0), llm(0.0)))


def of_one_span() -> Report:
    return report_of(span("GET /", 0.3))


def measured_not_at_all() -> Report:
    report = report_of(agent("planner", wait(1.0)))
    parts = replace(report.score_parts, success=None, speed=None, resource=None)
    return replace(report, score_parts=parts, score=0.0, grade="F")


def far_from_now() -> Report:
    """A clock that was set wrong: past the year 9999."""
    report = trip()
    root = replace(report.root, start_ns=10**21, end_ns=10**21 + 10**9)
    return analyze(build_run(root, [root]))


def hostile() -> Report:
    calls = [tool(HOSTILE, 0.08, args={"n": number}, error=HOSTILE if number == 3 else None) for number in range(9)]
    return report_of(agent(HOSTILE, *calls, failed=True, more={"error.type": HOSTILE}), trace_id="c" * 32)


def of_long_names() -> Report:
    return report_of(agent("a" * 10_000, *[tool("日" * 10_000, 0.1, args={"n": number}) for number in range(9)]))


def deep() -> Report:
    tree = tool("bottom", 0.5)
    for number in range(120):
        tree = agent(f"level {number}", tree, wait(0.001))
    return report_of(tree)


def of_many_spans(number: int = 10_000) -> Report:
    """As many tools of different names, and some of one name, below one agent."""
    tools = [tool(f"tool {index % 500}", 0.01, args={"n": index}) for index in range(number)]
    return report_of(agent("planner", *tools))


def overflowing() -> Report:
    """Children that start before their parent and end after it."""
    return report_of(agent("planner", tool("early", 2.0, at=-1.0), tool("late", 3.0, at=0.5), 1.0))


ORDINARY = {"trip": trip, "one span": of_one_span, "failed": failed, "incomplete": incomplete}
ODD = {
    "no duration": of_no_duration,
    "nothing measured": measured_not_at_all,
    "far from now": far_from_now,
    "hostile": hostile,
    "long names": of_long_names,
    "deep": deep,
    "many spans": of_many_spans,
    "overflowing": overflowing,
}
ALL = {**ORDINARY, **ODD}


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Pipe(io.TextIOWrapper):
    """A text stream of some encoding that is no terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]
