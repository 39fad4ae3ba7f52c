"""Many runs in one report: what is alike is told once, and single calls of no agent do not hide the agents."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from _traces import agent, llm, tool
from otel_agentperf.model import Report
from otel_agentperf.renderers import html, markdown, terminal
from otel_agentperf.renderers._overview import digest_of
from otel_agentperf.renderers._text import rounded_down
from renderers._reports import failed, report_of, trip

NO_AGENT = "No agent was seen. Mark the function that is one with @agent"


def calls(number: int, **fields: Any) -> list[Report]:
    return [report_of(tool("redis", 0.003, **fields), start_s=place / 10) for place in range(number)]


def healthy(number: int) -> list[Report]:
    return [report_of(agent("planner", llm(0.2 + place / 1_000)), start_s=place * 10) for place in range(number)]


def text_of(renderer: object, *reports: Report) -> str:
    output = io.StringIO()
    renderer.render(reports, output)  # type: ignore[attr-defined]
    return output.getvalue()


@pytest.mark.parametrize("renderer", [terminal, markdown, html])
def test_calls_outside_of_any_agent_are_one_line(renderer: object) -> None:
    text = text_of(renderer, *calls(300), trip(), *calls(1, error="TimeoutError"))
    assert text.count("301 calls outside of any agent") == 1 + (renderer is html)  # for where scripts are off, too
    assert "redis ×301, 1 failed, 903 ms added up" in text.replace("\\u00d7", "×")
    assert "planner" in text
    assert NO_AGENT not in text


@pytest.mark.parametrize("renderer", [terminal, markdown, html])
def test_where_there_are_only_such_calls_they_are_told_with_what_to_do(renderer: object) -> None:
    for number in (1, 3, 30):
        text = " ".join(re.sub("`|</?code>", "", text_of(renderer, *calls(number))).replace("&#64;", "@").split())
        assert "outside of any agent" not in text
        assert NO_AGENT in text


def test_a_call_with_a_finding_is_a_run_of_its_own() -> None:
    slow = report_of(tool("crawl", 90.0))
    assert slow.findings
    assert digest_of([slow, trip()], 5).runs == 2


def test_healthy_runs_of_one_name_are_one_row_where_there_are_many() -> None:
    text = text_of(terminal, *healthy(300), trip(), failed())
    overview = text[: text.index("The one with most to save")]
    rows = [line for line in overview.splitlines() if line.startswith("planner")]
    assert len(rows) == 3, "the one with a finding, the failed one, and the others"
    assert "planner ×300" in rows[-1]
    assert "350 ms" in rows[-1], "the median"
    assert "more" not in overview.split("planner ×300")[1]
    assert "| `planner` ×300, medians | 350 ms |" in text_of(markdown, *healthy(300), trip())


def test_few_runs_are_told_one_by_one() -> None:
    assert "×20" not in text_of(terminal, *healthy(20))
    assert "×21" in text_of(terminal, *healthy(21))


def test_only_runs_that_can_save_are_called_those_with_most_to_save() -> None:
    assert "\nThe one with most to save:\n" in text_of(terminal, *healthy(9), trip())
    assert "\nThe 5 with most to save:\n" in text_of(terminal, *healthy(9), *[trip() for _ in range(7)])
    text = text_of(terminal, *healthy(9))
    assert "most to save" not in text
    assert "\nThe longest:\n" in text


def test_a_score_below_a_grades_limit_is_not_shown_as_if_it_reached_it() -> None:
    assert [rounded_down(score) for score in (0.7978, 0.8, 0.29, 0.57, 1.0)] == [0.79, 0.8, 0.29, 0.57, 1.0]
