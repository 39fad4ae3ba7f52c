"""Whatever a program does, memory stays within a stated limit; what was dropped is counted, and the report says so.

Each flood (tests/_floods.py) runs in a fresh process, with a size that takes seconds and would break the limit if the
bound were not there; `python benchmarks/bounds.py` runs them at full size.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from _floods import FLOODS, poured

# Flood, size, MB that the process's peak may grow by. 20,000 spans that are never dropped take 40 MB and more.
SIZES = [
    ("short_runs", 3_000, 3),
    ("tool_names", 10_000, 25),
    ("agent_names", 3_000, 20),
    ("error_types", 3_000, 10),
    ("cache_names", 100_000, 10),
    ("never_ending_roots", 100_000, 10),
    ("never_ending_children", 100_000, 50),
    ("never_ending_agents", 100_000, 50),
    ("one_long_trace", 6_000, 40),
    ("one_remote_trace", 3_000, 3),
    ("one_large_run", 30_000, 60),
    ("many_findings", 3_000, 40),
    ("large_queries", 100, 10),
    ("large_attributes", 100, 10),
    ("large_names", 50, 20),
    ("dead_exporter", 2_000, 40),
    ("stalled_exporter", 2_000, 40),
]
ALL_RUNS_END = ("short_runs", "agent_names", "error_types", "one_long_trace", "one_remote_trace", "large_names",
                "dead_exporter", "stalled_exporter")  # fmt: skip
_MOST_SERIES = 1_000
_LARGEST_ROOT = 50_000
"""characters; gRPC takes 4 MB"""


@pytest.mark.parametrize(("flood", "count", "limit_mb"), SIZES, ids=[flood for flood, _, _ in SIZES])
def test_memory_series_and_roots_are_bounded(flood: str, count: int, limit_mb: float) -> None:
    seen = poured(flood, count)
    assert seen["grown_mb"] < limit_mb, seen
    assert seen["most_series"] < _MOST_SERIES, seen
    if flood != "large_names":  # there the program's own attributes are large
        assert seen["largest_root"] < _LARGEST_ROOT, seen
    if flood in ALL_RUNS_END:
        assert (seen["reports"], seen["incomplete"], seen["dropped"]) == (count, 0, {}), seen


def test_every_flood_is_poured() -> None:
    assert {flood for flood, _, _ in SIZES} == FLOODS.keys() - {"open_runs"}, "which has a test of its own"


def test_spans_beyond_the_bounds_are_counted_and_the_run_is_incomplete() -> None:
    seen = poured("one_large_run", 12_000)
    assert (seen["reports"], seen["incomplete"]) == (1, 1)
    assert seen["dropped"] == {"full": 12_001 - 10_000}


def test_spans_that_never_end_are_counted_one_by_one() -> None:
    seen = poured("never_ending_children", 15_000)
    assert (seen["reports"], seen["incomplete"]) == (1, 1)
    assert sum(seen["dropped"].values()) == 15_000
    assert poured("never_ending_roots", 15_000)["dropped"] == {"full": 14_000}, "1,000 runs may be open"


def test_of_too_many_spans_in_open_runs_the_oldest_runs_give_way() -> None:
    some = {"OTEL_AGENTPERF_MAX_SPANS": "1000"}  # of all together 20 times as many
    seen = poured("open_runs", 16_000, **some)
    assert (seen["reports"], seen["incomplete"], seen["dropped"]) == (40, 0, {})
    seen = poured("open_runs", 64_000, **some)
    kept = 20_000 // 401
    assert seen["grown_mb"] < 40, seen
    assert (seen["reports"], seen["incomplete"]) == (kept, 0), "the others are whole"
    assert seen["dropped"] == {"full": (160 - kept) * 401}


AGENTPERF = Path(sys.executable).with_name("agentperf")
PROGRAM = """
from otel_agentperf import agent, tool

with agent("planner"):
    for number in range(500):
        with tool("search"):
            pass
"""


def run_program(tmp_path: Path, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [str(AGENTPERF), "run", *options, str(program)]
    return subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True, check=True
    )


def test_the_terminal_report_says_in_words_that_spans_are_missing(tmp_path: Path) -> None:
    whole = run_program(tmp_path)
    assert "incomplete" not in whole.stdout
    assert "dropped" not in whole.stderr
    cut = run_program(tmp_path, OTEL_AGENTPERF_MAX_SPANS="100")
    assert "incomplete: some spans are missing" in cut.stdout
    assert "401 spans were dropped" in cut.stderr
    assert "OTEL_AGENTPERF_MAX_SPANS" in cut.stderr


def test_the_json_report_says_that_spans_are_missing(tmp_path: Path) -> None:
    def incomplete(**settings: str) -> Any:
        (run,) = json.loads(run_program(tmp_path, "--format", "json", **settings).stdout)["runs"]
        return run["incomplete"]

    assert incomplete() is False
    assert incomplete(OTEL_AGENTPERF_MAX_SPANS="100") is True
