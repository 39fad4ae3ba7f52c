"""`--fail-on`: the exit code for pipelines, and the line that says why."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from _traces import agent, llm, tool
from cli._run import AGENTPERF, PLANNER, Folder
from readers._otlp import document

LOOP = document(
    agent("planner", llm(0.1, tokens=(600, 50)), *[tool("search", 0.1, args={"n": n}) for n in range(8)]),
    trace_id="a" * 32,
)
QUIET = document(agent("writer", llm(0.3)), trace_id="b" * 32)


@pytest.fixture
def traces(folder: Folder) -> Path:
    path = folder.path / "traces.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (QUIET, LOOP)))
    return path


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("info", "planner: search · n_plus_one_calls · "),
        ("warning", "planner: search · n_plus_one_calls · "),
        ("n_plus_one_calls", "planner: search"),
        ("retry_storm,n_plus_one_calls", "planner: search"),
        ("score<0.98", "planner: score 0.96"),
        ("efficiency<0.5", "planner: efficiency 0.2"),
        ("duration>0.5", "planner: duration 0.9"),
        ("duration>500ms", "planner: duration 0.9"),
        ("saving > 0.5 s", "planner: saving 0.7"),
        ("tokens>649", "planner: tokens 650"),
    ],
)
def test_a_run_that_meets_a_condition_fails_and_says_why(
    folder: Folder, traces: Path, condition: str, reason: str
) -> None:
    done = folder.agentperf("report", "--format", "json", "--fail-on", condition, traces)
    assert done.code == 3
    assert done.runs == ["planner", "writer"]
    assert done.err.startswith(f"agentperf: failed on {condition.split(',')[-1]} in 1 run ({reason}")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "condition",
    ["retry_storm", "score<0.5", "efficiency<0.1", "duration>1s", "duration>1m", "saving>0.9", "tokens>650"],
)
def test_runs_that_meet_none_do_not_fail(folder: Folder, traces: Path, condition: str) -> None:
    done = folder.agentperf("report", "--format", "json", "--fail-on", condition, traces)
    assert (done.code, done.err) == (0, "")


def test_conditions_may_be_many_and_each_is_told(folder: Folder, traces: Path) -> None:
    done = folder.agentperf("report", "--fail-on", "score<0.99,duration>0.1s", "--fail-on", "n_plus_one_calls", traces)
    assert done.code == 3
    assert [line.split(" in ")[0] for line in sorted(done.err.splitlines())] == [
        "agentperf: failed on duration>0.1s",
        "agentperf: failed on n_plus_one_calls",
        "agentperf: failed on score<0.99",
    ]
    assert "failed on duration>0.1s in 2 runs (planner: duration 0.9)" in done.err


@pytest.mark.parametrize(
    "condition",
    ["", "bad", "warning,bad", "score>0.8", "duration<3s", "score<80%", "score<0.8s", "tokens>5s", "cost>1"],
)
@pytest.mark.parametrize("command", [["report", "x.json"], ["run", "app.py"]], ids=["report", "run"])
def test_a_condition_that_is_none_is_a_wrong_option(folder: Folder, condition: str, command: list[str]) -> None:
    done = folder.agentperf(command[0], "--fail-on", condition, *command[1:])
    assert (done.code, done.out) == (2, "")
    assert f"{condition.split(',')[-1]!r} is none of: info, warning, critical; " in done.err
    assert "score<N, efficiency<N, duration>Ns" in done.err


def test_bad_input_is_told_by_its_own_code(folder: Folder, traces: Path) -> None:
    done = folder.agentperf("report", "--fail-on", "warning", traces, "none.json")
    assert done.code == 1
    assert "none.json: No such file" in done.err
    assert "failed on warning" in done.err


def test_runs_that_are_not_shown_count_too(folder: Folder, traces: Path) -> None:
    done = folder.agentperf("report", "--only", "retry_storm", "--fail-on", "n_plus_one_calls", traces)
    assert (done.code, done.out) == (3, "No agent runs.\n")


def test_a_reader_that_goes_away_does_not_hide_the_failure(folder: Folder, traces: Path) -> None:
    traces.write_text(
        "".join(json.dumps(document(agent("a", llm(1.0)), trace_id=f"{n:032x}")) + "\n" for n in range(1, 300))
    )
    with traces.open("a") as file:
        file.write(json.dumps(LOOP))
    script = f'"$0" report --format json --fail-on n_plus_one_calls {traces} | head -c 1'
    done = folder.run("bash", "-c", f"set -o pipefail; {script}", AGENTPERF)
    assert done.code == 3
    assert "failed on n_plus_one_calls in 1 run" in done.err


def program(folder: Folder, code: str) -> None:
    folder.write(PLANNER + dedent(code))


def test_a_program_that_ends_well_fails_on_its_runs(folder: Folder) -> None:
    program(folder, "planner()")
    done = folder.agentperf("run", "--format", "json", "--fail-on", "duration>1ms", "app.py")
    assert done.code == 3
    assert done.runs == ["planner"]
    assert done.err.startswith("agentperf: failed on duration>1ms in 1 run (planner: duration 0.0")
    assert folder.agentperf("run", "--fail-on", "duration>10s", "app.py").code == 0


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("sys.exit(0)", 3),
        ("sys.exit()", 3),
        ("sys.exit(5)", 5),
        ("sys.exit('no')", 1),
        ("raise ValueError", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15),
        ("import os; os._exit(7)", 7),
    ],
)
def test_a_programs_own_failure_wins(folder: Folder, end: str, code: int) -> None:
    program(folder, f"import sys\nplanner()\n{end}")
    assert folder.agentperf("run", "--fail-on", "duration>1ms", "app.py").code == code


def test_what_a_program_does_at_its_end_is_done(folder: Folder) -> None:
    """Threads, exit functions, log handlers and temporary files, none of which the exit code may cut off."""
    program(
        folder,
        """
        import atexit, logging.handlers, tempfile, threading, time
        kept = tempfile.TemporaryDirectory(dir=".", prefix="kept")
        log = logging.handlers.MemoryHandler(1_000, target=logging.FileHandler("log.txt"))
        logging.getLogger().addHandler(log)
        logging.getLogger().warning("remembered")
        atexit.register(lambda: print("at exit"))
        threading.Thread(target=lambda: (time.sleep(0.2), planner(), print("thread"))).start()
    """,
    )
    done = folder.agentperf("run", "--output", "report.txt", "--fail-on", "duration>1ms", "app.py")
    assert done.code == 3
    assert done.out.splitlines() == ["thread", "at exit"]
    assert (folder.path / "log.txt").read_text() == "remembered\n"
    assert list(folder.path.glob("kept*")) == []
    assert (folder.path / "report.txt").read_text().startswith("planner took")


def test_runs_that_are_left_out_of_the_report_count_too(folder: Folder) -> None:
    program(
        folder,
        """
        import time
        @agent
        def slow():
            time.sleep(0.3)
        @agent
        def quick():
            pass
        slow()
        for _ in range(1_001):
            quick()
    """,
    )
    done = folder.agentperf("run", "--output", "report.txt", "--fail-on", "duration>0.2s", "app.py")
    assert "failed on duration>0.2s in 1 run (slow: duration 0.3" in done.err
    assert done.code == 3
