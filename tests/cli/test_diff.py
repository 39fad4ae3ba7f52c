"""`agentperf diff BASE HEAD`: verdicts, formats, exit codes, and every kind of source."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from _traces import agent, llm, tool
from cli._run import AGENTPERF, Folder
from otel_agentperf.cli import main
from readers._jaeger import FakeJaeger, serving
from readers._otlp import document
from readers._proto import framed, request


def trees(runs: int, slow: float = 1.0, loop: int = 0, name: str = "planner", seed: int = 1) -> list[Any]:
    numbers = random.Random(seed)
    return [
        agent(
            name,
            llm(numbers.uniform(0.9, 1.1), tokens=(100, 10)),
            tool("search", numbers.uniform(0.5, 0.6) * slow),
            *[tool("fetch", 0.06, args={"n": n}) for n in range(loop)],
        )
        for _ in range(runs)
    ]


def documents(found: list[Any], side: str) -> list[dict[str, Any]]:
    return [document(tree, trace_id=f"{side}{n:031x}", start_s=10.0 * n) for n, tree in enumerate(found, 1)]


def write(path: Path, found: list[Any], side: str) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in documents(found, side)))
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path / "base.jsonl", trees(8), "a")


@pytest.fixture
def same(tmp_path: Path) -> Path:
    return write(tmp_path / "same.jsonl", trees(8, seed=2), "b")


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    return write(tmp_path / "slow.jsonl", trees(8, slow=3.0, loop=8, seed=3), "c")


def diff(*args: object, stdin: bytes | str | None = None) -> Result:
    return CliRunner().invoke(main, ["diff", *map(str, args)], input=stdin)


def compared(*args: object, stdin: bytes | str | None = None) -> dict[str, Any]:
    result = diff("--format", "json", *args, stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, "")
    return dict(json.loads(result.stdout))


def test_runs_that_only_jitter_are_no_change(base: Path, same: Path) -> None:
    result = diff("--fail-on", "regression,new-findings", base, same)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("planner · 8 → 8 runs, no change\n")
    assert "worse" not in result.stdout


def test_a_regression_says_what_got_worse_and_where(base: Path, slow: Path) -> None:
    result = diff(base, slow)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "planner · 8 → 8 runs, worse: duration, score; 1 new finding"
    assert next(line for line in lines if line.startswith("duration ")).endswith("worse")
    assert "fetch ×0→8" in result.stdout
    assert "new: fetch · n_plus_one_calls · in 0 → 8 runs · costs 0 ms → 420 ms a run" in result.stdout
    assert max(map(len, lines)) <= 80


def test_the_other_way_round_it_got_better(base: Path, slow: Path) -> None:
    result = diff("--fail-on", "regression", "--fail-on", "new-findings", slow, base)
    assert result.exit_code == 0
    assert result.stdout.startswith("planner · 8 → 8 runs, better: duration, score\n")
    assert "gone: fetch · n_plus_one_calls · in 8 → 0 runs" in result.stdout


def test_json_is_one_line_with_everything(base: Path, slow: Path) -> None:
    result = diff("--format", "json", base, slow)
    assert result.stdout.count("\n") == 1
    whole = json.loads(result.stdout)
    assert (whole["schema"], whole["regression"], whole["new_findings"]) == ("agentperf.diff/v1", True, 1)
    assert whole["limits"]["min_samples"] == 5
    (group,) = whole["groups"]
    assert (group["name"], group["base_runs"], group["head_runs"], group["judged"]) == ("planner", 8, 8, True)
    duration = next(figure for figure in group["figures"] if figure["figure"] == "duration_s")
    assert duration["verdict"] == "worse"
    assert duration["head"] - duration["base"] == pytest.approx(1.6, abs=0.2)
    search = next(one for one in group["operations"] if one["name"] == "search")
    assert search["critical"]["verdict"] == "worse"
    assert [(one["kind"], one["status"], one["sure"]) for one in group["findings"]] == [
        ("n_plus_one_calls", "new", True)
    ]


def test_markdown_is_a_table_for_a_pull_request(base: Path, slow: Path) -> None:
    text = diff("--format", "markdown", base, slow).stdout
    assert text.startswith("### planner: 8 → 8 runs, worse: duration, score; 1 new finding\n\n| | base | head |")
    assert "| **worse** |\n" in text
    assert "- new: fetch · n\\_plus\\_one\\_calls · in 0 → 8 runs" in text


def test_names_from_traces_are_only_text(tmp_path: Path) -> None:
    name = "a|b\x1b[2J<script>`*"
    path = write(tmp_path / "odd.jsonl", trees(5, name=name), "a")
    assert "\x1b" not in diff(path, path).stdout
    text = diff("--format", "markdown", path, path).stdout
    assert "\x1b" not in text
    assert "<script>" not in text
    assert "a\\|b" in text


@pytest.mark.parametrize(
    ("conditions", "code", "said"),
    [
        (["regression"], 3, ["failed on regression: planner (duration_s, score)"]),
        (["new-findings"], 3, ["failed on 1 new finding: planner (fetch · n_plus_one_calls)"]),
        (["regression, new-findings"], 3, ["failed on regression", "failed on 1 new finding"]),
    ],
)
def test_fail_on_is_exit_code_3_and_says_why(
    base: Path, slow: Path, conditions: list[str], code: int, said: list[str]
) -> None:
    result = diff(*(part for condition in conditions for part in ("--fail-on", condition)), base, slow)
    assert result.exit_code == code
    lines = result.stderr.splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(f"agentperf: {expected}") for line, expected in zip(lines, said, strict=True))


def test_too_few_runs_are_shown_and_never_fail(base: Path, tmp_path: Path) -> None:
    few = write(tmp_path / "few.jsonl", trees(4, slow=5.0, loop=8), "d")
    result = diff("--fail-on", "regression,new-findings", base, few)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("planner · 8 → 4 runs, too few to judge (it takes 5 on each side)")
    assert "(too few to judge)" in result.stdout.replace("\n", " ")
    assert "duration" in result.stdout
    assert diff("--fail-on", "regression", "--min-samples", "1", base, few).exit_code == 3


def test_limits_are_the_users(base: Path, slow: Path) -> None:
    result = diff("--fail-on", "regression", "--slower", "500", base, slow)
    assert "worse: score" in result.stdout
    result = diff("--slower-ms", "60000", base, slow)
    assert "worse: score" in result.stdout


def test_a_name_on_one_side_only_is_said_to_be_so(base: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", trees(3, name="writer"), "d")
    lines = diff("--fail-on", "regression,new-findings", base, other).stdout.splitlines()
    assert "planner · 8 → 0 runs, only in base" in lines
    assert "writer · 0 → 3 runs, only in head" in lines


def test_a_report_made_earlier_is_as_good_as_its_traces(base: Path, slow: Path, tmp_path: Path) -> None:
    reports = []
    for traces in (base, slow):
        reports.append(tmp_path / f"{traces.stem}-report.json")
        CliRunner().invoke(main, ["report", "--format", "json", "--output", str(reports[-1]), str(traces)])
    assert compared(*reports) == compared(base, slow) == compared(base, reports[1])


def test_a_folder_with_traces_and_their_report_has_each_run_once(base: Path, slow: Path, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    traces = write(folder / "traces.jsonl", trees(8, slow=3.0, loop=8, seed=3), "c")
    CliRunner().invoke(main, ["report", "--format", "json", "--output", str(folder / "report.json"), str(traces)])
    assert compared(base, folder) == compared(base, slow)


def test_every_source_of_report_is_a_side(base: Path, slow: Path, tmp_path: Path) -> None:
    messages = [
        request(tree, trace_id=f"c{n:031x}", start_s=10.0 * n)  # type: ignore[arg-type]
        for n, tree in enumerate(trees(8, slow=3.0, loop=8, seed=3), 1)
    ]
    (tmp_path / "traces.pb").write_bytes(framed(messages))
    expected = compared(base, slow)
    assert compared(base, tmp_path / "traces.pb") == expected
    assert compared(base, "-", stdin=slow.read_text()) == expected
    with serving(FakeJaeger(20, {"svc": documents(trees(8, slow=3.0, loop=8, seed=3), "c")}).answer) as url:
        assert compared(base, url) == expected


def test_bad_input_is_named_and_the_rest_is_compared(base: Path, slow: Path, tmp_path: Path) -> None:
    with slow.open("a") as file:
        file.write('{"cut')
    result = diff("--fail-on", "regression", base, slow)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"agentperf: {slow}: line 9: not JSON, or cut off")
    assert "failed on regression" in result.stderr
    result = diff(base, tmp_path / "none.json")
    assert (result.exit_code, result.stderr) == (1, f"agentperf: {tmp_path}/none.json: No such file or directory\n")


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"name": "planner"}, "it has no duration_s"),
        ({"name": "p", "duration_s": "long"}, "could not convert string to float"),
        ({}, "it has no name"),
    ],
)
def test_a_report_that_is_none_is_named(base: Path, tmp_path: Path, run: dict[str, Any], expected: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"schema": "agentperf.report/v1", "runs": [run]}))
    result = diff(path, base)
    assert result.exit_code == 1
    assert f"{path}: run 1 of the report is not as agentperf.report/v1 has it ({expected}" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["-", "-"], "BASE and HEAD cannot both be standard input"),
        (["only-one"], "Missing argument 'HEAD'"),
        (["--fail-on", "warning", "a", "b"], "'warning' is none of: regression, new-findings"),
        (["--min-samples", "0", "a", "b"], "--min-samples"),
        (["--slower", "-3", "a", "b"], "--slower"),
        (["--format", "xml", "a", "b"], "'xml' is not"),
        (["--output", "/no/such/folder/x", "a", "b"], "cannot write /no/such/folder/x"),
    ],
)
def test_a_wrong_option_is_explained(args: list[str], expected: str) -> None:
    result = diff(*args)
    assert result.exit_code == 2
    assert expected in result.stderr


def test_it_works_as_a_command(folder: Folder, base: Path, slow: Path) -> None:
    done = folder.agentperf("diff", "--fail-on", "regression", base, slow, env={"NO_COLOR": "1"})
    assert done.code == 3
    assert "\x1b" not in done.out
    done = folder.run(
        "sh", "-c", f"agentperf diff {base} {slow} | head -1", env={"PATH": f"{AGENTPERF.parent}:/bin:/usr/bin"}
    )
    assert (done.code, done.err) == (0, "")
    done = folder.agentperf("diff", base, slow, "-o", "diff.txt")
    assert done.out == ""
    assert (folder.path / "diff.txt").read_text().startswith("planner · 8 → 8 runs, worse")


def test_colour_is_for_those_who_want_it(folder: Folder, base: Path, slow: Path) -> None:
    assert "\x1b[1;31mworse" in folder.agentperf("diff", base, slow, env={"FORCE_COLOR": "1", "TERM": "xterm"}).out
