"""The report for CI: valid XML for any name, and a case fails exactly where there is something to mend."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from _traces import agent, llm, tool
from otel_agentperf.analysis.analyze import detectors
from otel_agentperf.model import Report
from otel_agentperf.renderers import junit
from renderers._reports import ALL, HOSTILE, failed, far_from_now, hostile, report_of, trip


def suites_of(*reports: Report) -> Element:
    output = io.StringIO()
    junit.render(reports, output)
    assert output.getvalue().isascii()
    return fromstring(output.getvalue())


def case(suites: Element, kind: str) -> Element:
    (found,) = [one for one in suites.iter("testcase") if one.get("name", "").split(":")[0] == kind]
    return found


@pytest.mark.parametrize("report", ALL.values(), ids=ALL.keys())
def test_every_run_is_valid_and_its_counts_are_right(report: Callable[[], Report]) -> None:
    suites = suites_of(report(), trip())
    assert len(suites) == 2
    for level in (suites, *suites):
        assert int(level.get("tests", "")) == len(list(level.iter("testcase")))
        assert int(level.get("failures", "")) == len(list(level.iter("failure")))
        assert int(level.get("errors", "")) == len(list(level.iter("error")))


def test_no_runs_are_no_suites() -> None:
    suites = suites_of()
    assert (suites.tag, suites.get("tests"), len(suites)) == ("testsuites", "0", 0)


def test_every_kind_that_was_looked_for_is_a_case() -> None:
    names = {one.get("name", "").split(":")[0] for one in suites_of(trip()).iter("testcase")}
    assert names == {"run", *detectors()}


def test_a_warning_fails_the_case_of_its_kind_alone() -> None:
    suites = suites_of(trip())
    (failure,) = suites.iter("failure")
    assert failure in list(case(suites, "n_plus_one_calls"))
    assert (failure.get("type"), failure.get("message")) == ("warning", trip().findings[0].recommendation)
    assert (failure.text or "").startswith("[warning, saves 880 ms (39%)] opening_hours ran 12 times")


@pytest.mark.parametrize(("severity", "failures"), [("critical", 1), ("warning", 1), ("info", 0)])
def test_what_is_only_worth_knowing_fails_nothing(severity: Any, failures: int) -> None:
    report = trip()
    suites = suites_of(replace(report, findings=(replace(report.findings[0], severity=severity),)))
    assert len(list(suites.iter("failure"))) == failures
    assert len(list(suites.iter("system-out"))) == 1 - failures


def test_findings_of_one_kind_are_told_in_one_case() -> None:
    report = trip()
    other = replace(report.findings[0], operation="other", severity="critical")
    suites = suites_of(replace(report, findings=(other, report.findings[0])))
    (failure,) = suites.iter("failure")
    assert failure.get("type") == "critical"
    assert len((failure.text or "").splitlines()) == 2


def test_a_run_that_failed_is_an_error() -> None:
    (error,) = suites_of(failed()).iter("error")
    assert (error.get("type"), error.get("message")) == ("TimeoutError", "the run failed: TimeoutError")
    assert not list(suites_of(trip()).iter("error"))


def test_a_suite_names_its_run_and_tells_how_long_it_took() -> None:
    (suite,) = suites_of(trip())
    assert (suite.get("name"), suite.get("time"), suite.get("timestamp")) == ("planner", "2.272", "2023-11-14T22:13:20")
    told = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert (told["grade"], told["saving_s"], told["incomplete"]) == ("A", "0.880", "false")


def test_names_that_xml_cannot_hold_are_made_plain() -> None:
    (suite,) = suites_of(hostile())
    assert (suite.get("name") or "").startswith("\ufffd[31mred")
    assert HOSTILE not in (suite.get("name") or "")


@pytest.mark.parametrize("name", ["]]>", "<a/>", "&amp;", '"', "\ufffe\uffff", "\x0b", "\ud800"])
def test_any_name_is_text(name: str) -> None:
    calls = [tool(name, 0.1, args={"n": number}) for number in range(9)]
    suites = suites_of(report_of(agent("planner", llm(0.1), *calls)))
    assert len(list(suites.iter("failure"))) == 1


def test_an_unnamed_run_has_a_name() -> None:
    report = trip()
    root = replace(report.root, operation="")
    (suite,) = suites_of(replace(report, run=replace(report.run, root=root)))
    assert suite.get("name") == "run"


def test_a_start_past_the_end_of_the_calendar_is_still_a_date() -> None:
    (suite,) = suites_of(far_from_now())
    assert (suite.get("timestamp") or "").startswith("2242-")
