"""One sentence says how the run went and what can be saved."""

from __future__ import annotations

from dataclasses import replace

from _traces import agent, llm
from otel_agentperf._discover import discover
from otel_agentperf.model import Report
from otel_agentperf.renderers._kinds import biggest, help_text, title
from otel_agentperf.renderers._verdict import bottlenecks, verdict, verdict_of_all
from renderers._reports import failed, report_of, trip


def without_time(report: Report) -> Report:
    finding = replace(report.findings[0], change=None, saving_s=0.0, saving_pct=0.0)
    return replace(report, findings=(finding,), saving_s=0.0)


def test_what_can_be_saved() -> None:
    assert verdict(trip()) == "This run took 2.27 s; 880 ms of it (39%) can be saved."


def test_nothing_to_save() -> None:
    assert verdict(report_of(agent("planner", llm(0.2)))) == "This run took 200 ms; nothing to save was found."


def test_findings_that_cost_no_time() -> None:
    assert verdict(without_time(trip())) == "This run took 2.27 s; 1 finding that would save no time."


def test_a_failed_run() -> None:
    assert verdict(failed()) == "This run failed after 200 ms (TimeoutError); no bottleneck was found."


def test_many_runs() -> None:
    assert verdict_of_all([]) == "No agent runs."
    assert verdict_of_all([trip()]) == verdict(trip())
    told = (
        "3 runs took 4.74 s added up, 2.27 s by the clock (they overlapped), 1 failed; "
        "1.76 s of the sum (37%) can be saved."
    )
    assert verdict_of_all([trip(), failed(), trip()]) == told
    in_turn = [report_of(agent("planner", llm(0.2)), start_s=start) for start in (0.0, 0.5)]
    assert verdict_of_all(in_turn) == "2 runs took 400 ms in total; nothing to save was found."
    assert verdict_of_all([failed(), failed()]).endswith("2 failed; nothing to save was found.")
    assert verdict_of_all([without_time(trip())] * 2).endswith("; the findings would save no time.")


def test_the_same_bottleneck_in_several_runs_is_one() -> None:
    (found,) = bottlenecks(report.findings for report in (failed(), trip(), trip()))
    assert (found.runs, found.worst_run) == (2, 1)
    assert round(found.saving_s, 3) == 1.76


def test_the_biggest_fix_saves_most_and_not_just_is_worst() -> None:
    small, large = (replace(trip().findings[0], saving_s=saving) for saving in (0.1, 0.9))
    assert biggest((small, large)) is large
    assert biggest(()) is None
    free = replace(small, saving_s=0.0)
    assert biggest((free, free)) is free


def test_every_kind_has_words_of_its_own() -> None:
    for kind in discover("detectors"):
        assert title(kind) != kind.replace("_", " "), f"{kind} has no TITLE"
        assert help_text(kind).endswith(".")
    assert title("their_kind") == "their kind"
    assert help_text("their_kind") == "Their kind."
