"""`agentperf report`: any number of sources, the good ones reported and the bad ones named."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from _traces import agent, llm, tool
from cli._run import AGENTPERF, Folder, environment
from otel_agentperf.cli import main
from readers._jaeger import FakeJaeger, serving
from readers._otlp import document

LOOP = document(agent("planner", *[tool("search", 0.1, args={"n": n}) for n in range(8)]), trace_id="a" * 32)
QUIET = document(agent("writer", llm(0.3)), trace_id="b" * 32)


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    path = tmp_path / "loop.jsonl"
    path.write_text(json.dumps(LOOP) + "\n")
    return path


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    path = tmp_path / "more" / "quiet.json"
    path.parent.mkdir()
    path.write_text(json.dumps(QUIET, indent=1))
    return path


def report(*args: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, args)], input=stdin)


def names(result: Result) -> list[str]:
    return [run["name"] for run in json.loads(result.stdout)["runs"]]


def test_a_file_is_reported(loop: Path) -> None:
    result = report(loop)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("planner took 800 ms, 700 ms of it avoidable")
    assert "1. search · n_plus_one_calls · saves 700 ms (88%)" in result.stdout


def test_json_is_one_line_with_the_schema(loop: Path) -> None:
    result = report("--format", "json", loop)
    assert result.stdout.startswith('{"schema": "agentperf.report/v1"')
    assert result.stdout.count("\n") == 1


def test_files_folders_standard_input_and_jaeger_are_taken_together(loop: Path, quiet: Path) -> None:
    other = document(agent("reader", llm(0.3)), trace_id="c" * 32)
    with serving(FakeJaeger(20, {"svc": [other]}).answer) as url:
        result = report("--format", "json", loop, quiet.parent, "-", url, stdin=json.dumps(QUIET))
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(names(result)) == ["planner", "reader", "writer"]


def test_the_parts_of_a_trace_may_be_in_several_sources(tmp_path: Path) -> None:
    (holder,) = LOOP["resourceSpans"]
    spans = holder["scopeSpans"][0]["spans"]
    for name, part in (("a.json", spans[:4]), ("b.json", spans[4:])):
        whole = {"resourceSpans": [{**holder, "scopeSpans": [{"scope": {}, "spans": part}]}]}
        (tmp_path / name).write_text(json.dumps(whole))
    (run,) = json.loads(report("--format", "json", tmp_path).stdout)["runs"]
    assert run["duration_s"] == pytest.approx(0.8)
    assert [finding["calls"] for finding in run["findings"]] == [8]


def test_a_bad_source_is_named_in_a_line_and_the_good_ones_are_reported(loop: Path, tmp_path: Path) -> None:
    binary = tmp_path / "photo.jpg"
    binary.write_bytes(b"\xff\xd8\xff\xe0\x00")
    result = report("--format", "json", tmp_path / "none.json", loop, binary, "ftp://host/x", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert names(result) == ["planner"]
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    assert lines[0] == f"agentperf: {tmp_path}/none.json: No such file or directory"
    assert lines[1].startswith(f"agentperf: {binary}: not text")
    assert lines[2] == "agentperf: ftp://host/x: no reader for this kind of source"
    assert lines[3].startswith("agentperf: http://127.0.0.1:1: no answer from http://127.0.0.1:1 (")


def test_a_bad_line_is_named_and_the_rest_is_reported(loop: Path) -> None:
    loop.write_text(json.dumps(LOOP) + "\n" + json.dumps(QUIET)[:200])
    result = report("--format", "json", loop)
    assert result.exit_code == 1
    assert names(result) == ["planner"]
    assert result.stderr.startswith(f"agentperf: {loop}: line 2: not JSON, or cut off")
    assert result.stderr.count("\n") == 1


def test_only_bad_sources_are_an_empty_report(tmp_path: Path) -> None:
    result = report("--format", "json", tmp_path / "none.json")
    assert (result.exit_code, names(result)) == (1, [])
    result = report(tmp_path / "none.json")
    assert (result.exit_code, result.stdout) == (1, "No agent runs.\n")


def test_names_of_sources_cannot_move_the_cursor(tmp_path: Path) -> None:
    result = report(tmp_path / "a\x1b[2J\nb.json")
    assert "\x1b" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_reader_of_others_that_fails_does_not_stop_the_rest(loop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_agentperf.readers.jaeger.read", lambda source, query: 1 / 0)
    result = report("--format", "json", "http://x", loop)
    assert result.stderr == "agentperf: http://x: its reader failed (ZeroDivisionError: division by zero)\n"
    assert names(result) == ["planner"]


def test_the_login_of_an_address_is_not_shown() -> None:
    result = report("http://maria:hunter2@127.0.0.1:1/trace?token=hunter3")
    assert result.exit_code == 1
    assert "http://***@127.0.0.1:1" in result.stderr
    assert "hunter" not in result.output


def test_options_for_jaeger_reach_it() -> None:
    fake = FakeJaeger(13, {"svc": [QUIET], "other": []})
    with serving(fake.answer) as url:
        report("--service", "svc", "--service", "other", "--lookback", "30m", "--limit", "7", url)
    assert [asked["query.service_name"] for asked in fake.asked] == ["svc", "other"]
    assert {asked["query.num_traces"] for asked in fake.asked} == {"7"}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--lookback", "soon", "-"], "'soon' is no duration such as 30m, 2h or 1d"),
        (["--limit", "0", "-"], "--limit"),
        (["--format", "xml", "-"], "'xml' is not"),
        ([], "Missing argument 'SOURCE…'"),
        (["--top", "0", "-"], "--top"),
        (["--only", "bad_luck", "-"], "'bad_luck' is none of: "),
        (["--output", "/no/such/folder/x", "-"], "cannot write /no/such/folder/x: No such file or directory"),
    ],
)
def test_a_wrong_option_is_explained(args: list[str], expected: str) -> None:
    result = report(*args)
    assert result.exit_code == 2
    assert expected in result.stderr


def test_top_is_the_runs_with_most_to_save_worst_first(tmp_path: Path) -> None:
    trees = [agent(f"a{n}", *[tool("search", 0.1, args={"n": m}) for m in range(n)]) for n in (6, 9, 7, 8)]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(document(tree, trace_id=f"{n:032x}")) + "\n" for n, tree in enumerate(trees, 1)))
    assert names(report("--format", "json", "--top", "2", path)) == ["a9", "a8"]
    assert names(report("--format", "json", "--top", "9", path)) == ["a9", "a8", "a7", "a6"]
    assert "runs, 0 failed" not in report("--top", "1", path).stdout


def test_only_shows_runs_with_a_finding_of_the_kind(loop: Path, quiet: Path) -> None:
    assert names(report("--format", "json", "--only", "n_plus_one_calls", loop, quiet)) == ["planner"]
    assert names(report("--format", "json", "--only", "retry_storm", loop, quiet)) == []


def test_a_report_is_no_trace_but_says_what_it_is_for(loop: Path, tmp_path: Path) -> None:
    report("--format", "json", "--output", tmp_path / "report.json", loop)
    assert "it is a report, which agentperf diff compares" in report(tmp_path / "report.json").stderr


def test_runs_come_by_start_whatever_the_order_of_the_traces(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    order = (3, 1, 2)
    path.write_text(
        "".join(json.dumps(document(agent(f"a{n}", llm(1.0)), trace_id=f"{9 - n:032x}", start_s=n)) for n in order)
    )
    assert names(report("--format", "json", path)) == ["a1", "a2", "a3"]


def test_output_goes_to_a_file(loop: Path, tmp_path: Path) -> None:
    result = report("--format", "json", "--output", tmp_path / "report.json", loop)
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads((tmp_path / "report.json").read_text())["runs"][0]["name"] == "planner"


def test_a_report_in_the_folder_of_the_traces_is_no_trace(loop: Path, tmp_path: Path) -> None:
    for _ in range(2):
        result = report("--format", "json", "--output", tmp_path / "report.json", tmp_path)
        assert (result.exit_code, result.stderr) == (0, "")


def test_a_reader_that_goes_away_is_no_error(folder: Folder, loop: Path) -> None:
    many = "\n".join(json.dumps(document(agent("a", llm(1.0)), trace_id=f"{n:032x}")) for n in range(1, 300))
    loop.write_text(many)
    done = folder.run(
        "sh", "-c", f"{AGENTPERF} report --format json {loop} | head -c 1; {AGENTPERF} report {loop} | head -1"
    )
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("{299 runs, 0 failed")


def test_a_full_disk_is_said_in_a_line(folder: Folder, loop: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("has no /dev/full")
    done = folder.agentperf("report", "-o", "/dev/full", loop)
    assert (done.code, done.err) == (1, "Error: cannot write the report: No space left on device\n")


def test_a_closed_standard_output_is_said_in_a_line(folder: Folder, loop: Path) -> None:
    done = folder.run("sh", "-c", f"{AGENTPERF} report {loop} >&-")
    assert done.code == 1
    assert done.err == "Error: cannot write the report: standard output is closed; give --output FILE\n"


def test_progress_is_for_a_terminal_only(loop: Path) -> None:
    def errors_of(terminal: bool) -> bytes:
        ours, theirs = pty.openpty() if terminal else os.pipe()
        env = environment(TERM="xterm")
        subprocess.run([AGENTPERF, "report", loop], env=env, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
        os.close(theirs)
        try:
            return os.read(ours, 100_000)
        except OSError:  # nothing was written before the other end closed
            return b""
        finally:
            os.close(ours)

    assert errors_of(terminal=False) == b""
    assert b"analysing traces" in errors_of(terminal=True)


def test_progress_is_not_in_the_midst_of_a_report_on_the_same_terminal(loop: Path) -> None:
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm")
    command = [AGENTPERF, "report", "--format", "json", loop]
    subprocess.run(command, env=env, stdout=theirs, stderr=theirs, check=True)
    os.close(theirs)
    written = b""
    with suppress(OSError):
        while chunk := os.read(ours, 100_000):
            written += chunk
    os.close(ours)
    assert b"analysing" not in written
    start = written.index(b'{"schema"')
    assert json.loads(written[start:])["runs"][0]["name"] == "planner"


@pytest.mark.parametrize("args", [[], ["run"], ["report"], ["diff"], ["doctor"]], ids=str)
def test_help_says_what_to_type(args: list[str]) -> None:
    result = CliRunner().invoke(main, [*args, "--help"])
    assert result.exit_code == 0
    assert re.search(rf"^  agentperf {args[0] if args else 'run'}\b", result.stdout, re.MULTILINE)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert CliRunner().invoke(main, [*args, "-h"]).stdout == result.stdout
    assert "..." not in result.stdout.replace("[ARGS]...", "")


def test_the_version_is_told() -> None:
    told = CliRunner().invoke(main, ["--version"]).stdout
    assert told.startswith("agentperf, version ")
    module = subprocess.run(
        [sys.executable, "-m", "otel_agentperf", "--version"], capture_output=True, text=True, timeout=60
    )
    assert module.stdout == told
