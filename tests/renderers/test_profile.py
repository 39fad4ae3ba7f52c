"""Where the CPU went, as the terminal and the JSON report say it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

from jsonschema import Draft202012Validator

from otel_agentperf.model import HotFrame, Report, SpanProfile
from otel_agentperf.renderers import json as as_json
from otel_agentperf.renderers import terminal
from renderers._reports import HOSTILE, failed, trip

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report-v1.schema.json").read_text())
FRAMES = (
    HotFrame("_iterencode_dict", "json/encoder.py", 334, 0.5, "export app.py:12"),
    HotFrame("_iterencode_list", "json/encoder.py", 278, 0.3, "export app.py:12"),
    HotFrame("rank", "app.py", 30, 0.2),
)


def with_profile(report: Report, *profiles: SpanProfile, note: str = "") -> Report:
    root = replace(report.root, profile=profiles, profile_note=note)
    return replace(report, run=replace(report.run, root=root))


def shown(report: Report) -> str:
    output = io.StringIO()
    terminal.render([report], output)
    return " ".join(output.getvalue().split())


def told(report: Report) -> dict[str, object]:
    output = io.StringIO()
    as_json.render([report], output)
    document = json.loads(output.getvalue())
    Draft202012Validator(SCHEMA).validate(document)
    (run,) = document["runs"]
    return dict(run)


def test_the_line_stands_below_the_finding_about_the_call() -> None:
    report = trip()
    profile = SpanProfile(report.findings[0].evidence[0], "opening_hours", 99, FRAMES, 0.64, calls=12)
    text = shown(with_profile(report, profile))
    line = "CPU 640 ms in 12 calls: _iterencode_dict json/encoder.py:334 50%, _iterencode_list json/encoder.py:278 30% "
    assert text.index("1. opening_hours") < text.index(line + "(from export app.py:12), rank app.py:30 20%")
    assert "Where the CPU went" not in text


def test_a_call_without_a_finding_has_a_line_of_its_own() -> None:
    text = shown(with_profile(failed(), SpanProfile("00000000000000ab", "book", 5, FRAMES[2:], 0.2)))
    assert "Where the CPU went book · CPU 200 ms: rank app.py:30 20%" in text


def test_why_there_is_no_profile_is_said() -> None:
    assert "Where the CPU went not profiled: another run" in shown(
        with_profile(trip(), note="not profiled: another run was being profiled")
    )
    assert "Where the CPU went" not in shown(trip())


def test_names_cannot_draw_on_the_terminal() -> None:
    frame = HotFrame(HOSTILE, HOSTILE, 1, 1.0, HOSTILE)
    text = shown(with_profile(trip(), SpanProfile("00000000000000ab", HOSTILE, 5, (frame,), 0.2), note=HOSTILE))
    assert "\x1b" not in text
    assert "\x00" not in text


def test_the_json_report_has_it_whole() -> None:
    run = told(with_profile(trip(), SpanProfile("00000000000000ab", "book", 5, FRAMES, 0.2), note="why"))
    assert run["profile_note"] == "why"
    (profile,) = run["profile"]  # type: ignore[misc]
    assert (profile["span_id"], profile["name"], profile["samples"]) == ("00000000000000ab", "book", 5)
    assert profile["frames"][2] == {"function": "rank", "file": "app.py", "line": 30, "share": 0.2, "caller": ""}


def test_a_run_that_was_not_profiled_has_none() -> None:
    run = told(trip())
    assert (run["profile"], run["profile_note"]) == ([], None)
