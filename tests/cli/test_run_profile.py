"""`agentperf run --profile`."""

from __future__ import annotations

import re

from cli._run import PLANNER, Folder

INDEX = """

def tokenize():
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass

@tool
def index():
    tokenize()

@agent
def indexer():
    index()

indexer()
"""


def test_it_says_where_the_cpu_went(folder: Folder) -> None:
    folder.write(PLANNER + INDEX)
    done = folder.agentperf("run", "--profile", "app.py")
    assert (done.code, done.err) == (0, "")
    line = PLANNER.count("\n") + INDEX.split("def tokenize")[0].count("\n") + 1
    assert re.search(rf"Where the CPU went\n   index · CPU (1\d\d|2\d\d) ms: tokenize app.py:{line} ", done.out)


def test_without_it_nothing_is_said(folder: Folder) -> None:
    folder.write(PLANNER + INDEX)
    assert "CPU" not in folder.agentperf("run", "app.py").out


def test_the_json_report_names_the_span(folder: Folder) -> None:
    folder.write(PLANNER + INDEX)
    (run,) = folder.agentperf("run", "--profile", "--format", "json", "app.py").document["runs"]
    (profile,) = run["profile"]
    assert (profile["name"], profile["frames"][0]["function"]) == ("index", "tokenize")
    assert profile["frames"][0]["file"] == "app.py"


def test_the_programs_environment_is_what_it_was(folder: Folder) -> None:
    folder.write("import os; print([name for name in os.environ if name.startswith('OTEL')])")
    assert folder.agentperf("run", "--profile", "app.py").out.splitlines()[0] == "[]"


def test_a_missing_profiler_costs_one_line(folder: Folder) -> None:
    folder.write("raise ImportError('not installed')", "pyinstrument.py")
    folder.write(PLANNER + "planner(); print('ran')")
    done = folder.agentperf("run", "--profile", "app.py", env={"PYTHONPATH": str(folder.path)})
    assert done.code == 0
    assert done.out.startswith("ran\n")
    assert done.err.count("\n") == 1
    assert 'pip install "otel-agentperf[profile]"' in done.err
