"""The report for people: readable at every width, in colour and without, and whatever the names are."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.cells import cell_len

from _traces import agent, llm, run_of, tool
from otel_agentperf._config import Config
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.model import Report
from otel_agentperf.renderers import terminal
from otel_agentperf.renderers._text import plain, seconds
from renderers._reports import (
    ALL,
    Pipe,
    Terminal,
    deep,
    failed,
    hostile,
    incomplete,
    of_long_names,
    of_many_spans,
    report_of,
    trip,
)

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def piped(*reports: Report) -> str:
    output = io.StringIO()
    terminal.render(reports, output)
    return output.getvalue()


def shown(*reports: Report) -> str:
    output = Terminal()
    terminal.render(reports, output)
    return output.getvalue()


EXPECTED = """\
planner took 2.27 s, 880 ms of it avoidable · grade A (0.90)
score: success 1.00, speed 0.77, resource not measured · efficiency 61%
3 agent calls · 2 model calls · 14 tool calls · 2,500 tokens in, 170 out · cache
rates 4 of 6 look-ups hit
trace aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa of svc

planner agent                                  2.27 s ░░░░░░░░░░░░░░░░░░░░░░░░░░
  gpt llm                                      400 ms █████
  sights agent                                 960 ms      ░░░░░░░░░░░
    opening_hours ×12 tool                     960 ms      ███████████
  hotels tool                                  500 ms                 █████
  weather tool                                 300 ms                 ░░░
  budget agent                                  12 ms                      ░
    rates ×6 cache                              12 ms                      █
  gpt llm                                      400 ms                      █████
█ on the critical path   ░ in parallel, or waiting for the rows below it

1. opening_hours · n_plus_one_calls · saves 880 ms (39%) · warning
"""


def test_a_run_at_80_columns() -> None:
    text = piped(trip())
    assert text.startswith(EXPECTED)
    assert text.endswith("\n\nWith this mended: 2.27 s → 1.39 s, 39% less.\n")


def test_a_run_without_findings_says_so() -> None:
    assert piped(report_of(agent("planner", llm(0.2), tool("a", 0.1)))).endswith("\n\n✓ No bottlenecks found.\n")


def test_a_failed_run_says_so_at_the_top() -> None:
    assert "failed: TimeoutError" in piped(failed()).splitlines()[0]
    assert "book tool failed" in piped(failed())
    assert piped(failed()).endswith("No bottlenecks found; the run failed: TimeoutError.\n")


def test_an_incomplete_run_says_so_at_the_top() -> None:
    assert "incomplete" in piped(incomplete()).splitlines()[0]


def test_no_runs_are_said_to_be_none() -> None:
    assert piped() == "No agent runs.\n"


@pytest.mark.parametrize("report", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize("columns", [None, "40", "80", "200", "0", "wide", "7"])
def test_nothing_is_wider_than_the_output(
    report: Callable[[], Report], columns: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    width = {None: 80, "40": 40, "80": 80, "200": 110, "0": 80, "wide": 80, "7": 40}[columns]
    text = piped(report())
    assert max(map(cell_len, text.splitlines())) <= width
    assert not ESCAPE.search(text)
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_a_wide_terminal_is_used_up_to_what_reads_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert max(map(len, piped(trip()).splitlines())) == 110


def test_a_terminal_gets_colours_and_the_same_words() -> None:
    text = shown(trip())
    assert "\x1b[1;35m█" in text
    uncoloured = [line.rstrip() for line in ESCAPE.sub("", text).splitlines()]
    assert uncoloured == piped(trip()).splitlines()


def test_no_color_means_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    codes = {int(code) for found in re.findall(r"\x1b\[([0-9;]*)m", shown(trip())) for code in found.split(";")}
    assert not codes & set(range(30, 108))


def test_force_color_colours_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert ESCAPE.search(piped(trip()))


def test_a_dumb_terminal_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not ESCAPE.search(shown(trip()))


def test_an_output_of_ascii_gets_ascii_signs() -> None:
    output = Pipe("ascii")
    terminal.render([trip(), hostile(), of_long_names()], output)
    text = output.text()
    assert "##### " in text or "#####\n" in text
    assert "opening_hours x12 tool" in text
    assert "-----" in text


def test_hostile_names_stay_on_their_line() -> None:
    for text in (piped(hostile()), ESCAPE.sub("", shown(hostile()))):
        assert text.splitlines()[0].startswith("\ufffd[31mred\ufffd[0m [bold]markup[/] :smile: line\ufffdbreak")
        assert "\ufffd[31mred" in next(line for line in text.splitlines() if "×9" in line)


def test_long_names_leave_room_for_the_rest() -> None:
    lines = piped(of_long_names()).splitlines()
    assert len(lines) < 40
    assert any("… ×9 tool" in line and "900 ms" in line for line in lines)


def test_a_run_of_ten_thousand_spans_stays_short() -> None:
    lines = piped(of_many_spans()).splitlines()
    assert len(lines) < 80
    assert any(re.search(r"… 489 shorter rows", line) for line in lines)


def test_the_rows_that_take_longest_are_shown() -> None:
    short = [tool(f"t{number}", 0.2 + number / 1e4) for number in range(60)]
    text = piped(report_of(agent("planner", *short, tool("the one at the end", 5.0))))
    assert "the one at the end tool" in text
    assert "t0 tool" not in text


def test_depth_does_not_push_the_names_out() -> None:
    assert all(re.search(r"\S", line[:44]) for line in piped(deep()).splitlines() if "█" in line or "░" in line)


def test_a_loop_over_several_tools_is_a_row_for_each() -> None:
    calls = [call for number in range(20) for call in (tool("fetch", 0.1, args=number), tool("parse", 0.02))]
    text = piped(report_of(agent("planner", *calls)))
    assert "fetch ×20 tool" in text
    assert "parse ×20 tool" in text


def test_parallel_calls_are_told_by_the_time_they_took_together() -> None:
    calls = [tool("fetch", 1.0, args=number, at=0.0) for number in range(10)]
    row = next(line for line in piped(report_of(agent("planner", *calls))).splitlines() if "fetch ×10" in line)
    assert " 1.00 s " in row


def test_many_runs_are_an_overview_and_those_with_most_to_save() -> None:
    reports = [
        analyze(run_of(agent(f"planner {number}", *loop(number)), trace_id=f"{number:032x}")) for number in range(1, 41)
    ]
    text = piped(*reports)
    lines = text.splitlines()
    assert lines[0].startswith("40 runs, 0 failed, median ")
    assert "n_plus_one_calls" in text
    assert re.search(r"n_plus_one_calls +search +36 ", text)
    assert "… 25 more" in text
    assert "planner 40 took" in text
    assert "planner 20 took" not in text
    assert len(lines) < 120
    assert max(map(len, lines)) <= 80


def loop(times: int) -> list[object]:
    return [tool("search", 0.1, args={"n": number}) for number in range(times)]


def test_few_runs_are_all_told() -> None:
    text = piped(trip(), failed())
    assert "planner took 2.27 s" in text
    assert "planner took 200 ms" in text
    assert "─" * 80 in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 ms"), (0.0004, "0.4 ms"), (0.0099, "9.9 ms"), (0.012, "12 ms"), (0.9996, "1.00 s"), (1.234, "1.23 s"),
        (9.996, "10.0 s"), (45.6, "45.6 s"), (119.6, "2m 00s"), (725, "12m 05s"), (3_599.9, "1h 00m"),
        (10_920, "3h 02m"), (400_000, "111h 06m"),
    ],
)  # fmt: skip
def test_seconds_are_told_as_people_do(value: float, text: str) -> None:
    assert seconds(value) == text


def test_plain_text_has_nothing_that_moves_the_cursor() -> None:
    assert plain("a\x1b[2J\r\nb\u200b") == "a\ufffd[2J\ufffd\ufffdb\ufffd"


def test_the_cost_is_told_where_it_is_known() -> None:
    assert "$" not in piped(trip())
    assert "$0.00284 (gpt as configured)" in " ".join(piped(analyze(trip().run, Config(prices="gpt=1/2"))).split())


def test_a_part_of_the_cost_is_told_as_a_part() -> None:
    run = run_of(agent("planner", llm(1.0, tokens=(1_000_000, 0)), llm(1.0)))
    assert "at least $1 (gpt as configured; 1 of 2 model calls" in " ".join(
        piped(analyze(run, Config(prices="gpt=1/2"))).split()
    )


def test_what_is_suppressed_is_told_in_a_line_with_the_reason() -> None:
    text = " ".join(piped(analyze(trip().run, Config(suppress="n_plus_one_calls=paged API"))).split())
    assert "No bottlenecks found. 1 finding suppressed: n_plus_one_calls of opening_hours (paged API)" in text


def test_findings_that_are_left_out_are_told() -> None:
    text = " ".join(piped(replace(trip(), findings_left_out=36)).split())
    assert "36 more findings of the same kinds left out: the worst are told" in text


def test_budgets_that_could_not_be_checked_are_told() -> None:
    text = " ".join(piped(analyze(trip().run, Config(budgets="run.memory_mb=5"))).split())
    assert "not checked: run.memory_mb of planner: memory was not measured" in text


def test_a_call_that_two_instrumentations_describe_is_one_row() -> None:
    twice = analyze(run_of(agent("planner", llm(llm(1.0, tokens=(10, 5))), tool("search", 0.5))))
    rows = [line.split()[0] for line in piped(twice).splitlines() if "█" in line and "critical" not in line]
    assert rows == ["gpt", "search"]
