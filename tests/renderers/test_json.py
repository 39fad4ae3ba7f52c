"""The JSON report is what its schema says, for every run."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from otel_agentperf._config import Config
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.model import Report
from otel_agentperf.renderers import json as renderer
from renderers._reports import ALL, HOSTILE, failed, far_from_now, hostile, incomplete, measured_not_at_all, trip

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report-v1.schema.json").read_text())


def rendered(*reports: Report) -> str:
    output = io.StringIO()
    renderer.render(reports, output)
    return output.getvalue()


def the_run(report: Report) -> dict[str, Any]:
    (run,) = json.loads(rendered(report))["runs"]
    return run


@pytest.mark.parametrize("report", ALL.values(), ids=ALL.keys())
def test_every_run_is_valid(report: Callable[[], Report]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    Draft202012Validator(SCHEMA).validate(json.loads(rendered(report()), parse_constant=refuse))


def test_no_runs_are_valid() -> None:
    document = json.loads(rendered())
    Draft202012Validator(SCHEMA).validate(document)
    assert document["runs"] == []


def test_it_is_one_line_of_ascii() -> None:
    text = rendered(trip(), hostile())
    assert text.isascii()
    assert text.count("\n") == 1
    assert text.endswith("}\n")


def test_the_start_is_told_to_the_microsecond() -> None:
    report = trip()
    root = replace(report.root, start_ns=1_763_600_000_123_457_999)
    assert the_run(replace(report, run=replace(report.run, root=root)))["start"] == "2025-11-20T00:53:20.123457+00:00"


def test_names_come_back_as_they_were() -> None:
    run = the_run(hostile())
    assert run["name"] == HOSTILE
    assert {operation["name"] for operation in run["operations"]} == {HOSTILE}


def test_the_run_is_told_in_seconds_from_its_start() -> None:
    run = the_run(trip())
    assert run["name"] == "planner"
    assert run["start"] == "2023-11-14T22:13:20.000000+00:00"
    assert run["duration_s"] == pytest.approx(2.272)
    path = run["critical_path"]
    assert (path[0]["start_s"], path[-1]["end_s"]) == (0.0, pytest.approx(2.272))
    assert all(one["end_s"] == pytest.approx(following["start_s"]) for one, following in pairwise(path))
    assert {"hotels", "gpt", "opening_hours"} <= {segment["name"] for segment in path}


def test_a_finding_is_told_whole() -> None:
    (finding,) = the_run(trip())["findings"]
    assert (finding["kind"], finding["operation"], finding["calls"]) == ("n_plus_one_calls", "opening_hours", 12)
    assert finding["saving_s"] == pytest.approx(0.88, rel=0.01)
    assert len(finding["evidence"]) == 12


def test_tokens_caches_and_agents_are_there() -> None:
    run = the_run(trip())
    assert run["tokens"] == {"input": 2_500, "output": 170, "cache_read": 0}
    assert [(one["name"], one["lookups"], one["hits"]) for one in run["caches"]] == [("rates", 6, 4)]
    assert {one["name"] for one in run["agents"]} == {"planner", "sights", "budget"}


def test_what_was_not_measured_is_null() -> None:
    assert the_run(measured_not_at_all())["score_parts"] == {"success": None, "speed": None, "resource": None}


def test_failed_and_incomplete_runs_say_so() -> None:
    assert the_run(failed())["status"] == "error"
    assert the_run(incomplete())["incomplete"] is True
    assert (the_run(trip())["status"], the_run(trip())["incomplete"]) == ("ok", False)


def test_a_start_past_the_end_of_the_calendar_is_still_a_date() -> None:
    assert the_run(far_from_now())["start"].startswith("2262-")


def test_the_cost_the_suppressed_and_the_unchecked_are_told() -> None:
    settings = Config(prices="gpt=1/2", suppress="n_plus_one_calls:opening_hours=paged API", budgets="run.memory_mb=5")
    run = the_run(analyze(trip().run, settings))
    assert run["cost"]["usd"] == pytest.approx((2_500 * 1 + 170 * 2) / 1e6)
    assert (run["cost"]["basis"], run["cost"]["unknown_models"]) == ("gpt as configured", [])
    assert run["findings"] == []
    (suppressed,) = run["suppressed"]
    assert (suppressed["kind"], suppressed["operation"]) == ("n_plus_one_calls", "opening_hours")
    assert suppressed["reason"] == "paged API"
    (unchecked,) = run["unchecked_budgets"]
    assert "run.memory_mb" in unchecked


def test_an_unknown_cost_is_null() -> None:
    cost = the_run(trip())["cost"]
    assert (cost["usd"], cost["unknown_models"]) == (None, ["gpt"])
