"""Ctrl-C at any line of ours: the program goes on, and its report is right, or says that something is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import otel_agentperf
from _recording import recording
from otel_agentperf import AgentPerfSpanProcessor, agent, tool
from otel_agentperf.model import Report

OURS = str(Path(otel_agentperf.__file__).parent)


class CtrlC:
    """Raised at the line of ours that comes after so many others, while it is on."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __enter__(self) -> None:
        sys.settrace(self._look)

    def __exit__(self, *raised: object) -> None:
        sys.settrace(None)

    def _look(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line":
            self.left -= 1
            if self.left == -1:
                raise KeyboardInterrupt
        return self._look


def test_a_call_is_in_the_report_or_the_report_says_that_it_is_not(reports: list[Report]) -> None:
    ran: list[str] = []
    tools = [
        tool(name=name)(lambda name=name: ran.append(name) or {"told": name}) for name in ("before", "hit", "after")
    ]

    @agent(name="planner")
    def run(after: int) -> bool:
        before, hit, behind = tools
        before()
        ctrl_c = CtrlC(after)
        try:
            with ctrl_c:
                hit()
        except KeyboardInterrupt:
            pass
        behind()
        return ctrl_c.left < 0

    lines, whole = 0, 0
    with recording(AgentPerfSpanProcessor()) as recorded:
        while run(lines):
            (report,) = reports
            told = {span.operation for span in report.run.spans if span.kind == "tool"}
            assert report.run.incomplete or told.issuperset(ran), f"line {lines}"
            assert recorded.names.count("invoke_agent planner") == lines + 1
            whole += not report.run.incomplete
            lines += 1
            ran.clear()
            reports.clear()
    assert lines > 100
    assert whole > lines // 2
