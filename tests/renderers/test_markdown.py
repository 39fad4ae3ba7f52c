"""The report for pull requests: short, in order, and nobody is mentioned by a name out of a trace."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from _traces import agent, llm, run_of, tool
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.model import Cost, Report, Suppressed
from otel_agentperf.renderers import markdown
from otel_agentperf.renderers._markup import code, prose
from renderers._reports import failed, hostile, incomplete, of_long_names, of_many_spans, report_of, trip

EXPECTED = """\
## This run took 2.27 s; 880 ms of it (39%) can be saved.

| run | took | can be saved | efficiency | score | model calls | tool calls | tokens | cost | findings |
|---|--:|--:|--:|:-:|--:|--:|--:|--:|--:|
| `planner` | 2.27 s | 880 ms (39%) | 61% | 0.90 (A) | 2 | 14 | 2,670 | – | 1 |

### What to fix

1. 🟠 **`opening_hours`** calls in a loop, one item each · saves **880 ms** (39%) · warning<br>
   `opening_hours` ran 12 times in a loop with 12 different arguments: one batched call saves about 880 ms of 2.3 s.

<details><summary>Operations of <code>planner</code></summary>

| operation | kind | calls | failed | critical path | total | median | p95 |
|---|---|--:|--:|--:|--:|--:|--:|
| `opening_hours` | tool | 12 | 0 | 960 ms (42%) | 960 ms | 80 ms | 80 ms |
"""


def rendered(*reports: Report) -> str:
    output = io.StringIO()
    markdown.render(reports, output)
    return output.getvalue()


def loops(runs: int) -> list[Report]:
    return [
        analyze(
            run_of(
                agent(f"agent {number}", llm(0.1), *[tool("search", 0.1, args={"n": n}) for n in range(number)]),
                trace_id=f"{number:032x}",
            )
        )
        for number in range(runs)
    ]


def test_a_run_is_told_whole() -> None:
    text = rendered(trip())
    assert text.startswith(EXPECTED)
    assert text.endswith("\n\n</details>\n")


def test_no_runs_are_said_to_be_none() -> None:
    assert rendered() == "## No agent runs.\n"


def test_a_run_without_findings_says_so() -> None:
    assert "\nNo bottleneck was found.\n" in rendered(report_of(agent("planner", llm(0.2))))


def test_failed_and_incomplete_runs_say_so() -> None:
    assert "| `planner`, **failed:** `TimeoutError` |" in rendered(failed())
    assert "| `planner`, incomplete: some spans are missing |" in rendered(incomplete())


def test_many_runs_stay_short_and_what_is_left_out_is_stated() -> None:
    text = rendered(*loops(40))
    assert len(text.splitlines()) < 120
    assert "30 runs with less to save are not listed." in text
    assert "25 findings that weigh less not listed." in text
    assert text.index("`agent 39`") < text.index("`agent 38`")


def test_what_several_runs_share_is_told_once() -> None:
    text = rendered(trip(), trip(), failed())
    assert len(re.findall(r"^\d+\. ", text, re.MULTILINE)) == 1
    assert "saves **1.76 s** · warning · in 2 of 3 runs" in text
    assert "Where it costs most: `opening_hours` ran 12 times" in text


def test_cost_and_suppressed_findings_are_told() -> None:
    report = trip()
    told = replace(report, cost=Cost(usd=0.25, basis="x"), suppressed=(Suppressed(report.findings[0], "known"),))
    assert "| ≥ &#36;0.2500 |" in rendered(told)
    assert "1 finding suppressed by the settings." in rendered(told)


def test_every_row_of_a_table_has_as_many_cells() -> None:
    for report in (trip(), hostile(), of_long_names(), of_many_spans(500)):
        tables = [line for line in rendered(report).splitlines() if line.startswith("|")]
        cells = [line.count("|") for line in tables]
        assert set(cells) <= {11, 9}


@pytest.mark.parametrize(
    "name",
    [
        "@octocat", "a|b", "`rm`", "<script>alert(1)</script>", "#42", "[x](http://evil)", "![x](y)", "**b**", "~~s~~",
        "</code></details>", "&amp;", "\\", "$x$", "www.example.com|", "`", "``", "@org/team",
    ],
)  # fmt: skip
def test_a_name_is_no_markup(name: str) -> None:
    shown = code(name)
    assert re.fullmatch(r"`[A-Za-z0-9_ ./:+-]+`|<code>([A-Za-z0-9_ ]|&#\d+;)*</code>", shown)
    assert shown in rendered(report_of(agent("planner", tool(name, 0.3))))


@pytest.mark.parametrize(
    "word",
    ["@octocat", "#42", "GH-42", "deadbeef1", "https://evil.example", "www.evil.example", "a_b_", "*b*", "a|b"],
)
def test_a_word_of_a_sentence_that_would_be_a_link_or_markup_is_code(word: str) -> None:
    assert prose(f"the {word} ran") == f"the {code(word)} ran"
    assert prose(f"{word}, too") == f"{code(word)}, too"


@pytest.mark.parametrize("start", ["1.", "2)", "-", "+", "#", ">", "---", "==="])
def test_a_sentence_starts_no_list_nor_heading(start: str) -> None:
    assert prose(f"{start} ran twice")[0] in "`<"


def test_ordinary_sentences_stay_as_they_are() -> None:
    sentence = "This run took 5.36 s; 3.28 s of it (61%) can be saved: it's 3× slower, ≥10% of the run."
    assert prose(sentence) == sentence


def test_an_empty_name_is_still_a_cell() -> None:
    assert "no name" in code("")
    assert code("   ").startswith("<code>")


def test_long_names_are_cut() -> None:
    assert max(map(len, rendered(of_long_names()).splitlines())) < 1_500
