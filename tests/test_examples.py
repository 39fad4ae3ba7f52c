"""The example programs show what they are there to show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli._run import environment

EXAMPLES = Path(__file__).parents[1] / "examples"
INDEPENDENT = {"weather", "find_hotels", "visa_rules"}
EXPECTED = {
    "retry_storm": "reserve_table",
    "n_plus_one_calls": "opening_hours",
    "duplicate_calls": "search_flights",
    "ineffective_cache": "exchange_rate",
}


@pytest.fixture(scope="module")
def trips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, dict[str, Any]]]:
    """What each trip planner printed, and the report of its run. Both wait most of the time, so they run at once."""
    agentperf = Path(sys.executable).with_name("agentperf")
    started = {
        name: subprocess.Popen(
            [agentperf, "run", "--format", "json", EXAMPLES / f"{name}.py"],
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=tmp_path_factory.mktemp("examples"),
            text=True,
        )
        for name in ("trip_planner", "trip_planner_fixed")
    }
    finished = {}
    for name, process in started.items():
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        printed, _, document = out.rstrip("\n").rpartition("\n")
        (finished[name],) = ((printed, run) for run in json.loads(document)["runs"])
    return finished


@pytest.fixture(scope="module")
def slow(trips: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return trips["trip_planner"][1]


@pytest.fixture(scope="module")
def fixed(trips: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return trips["trip_planner_fixed"][1]


def test_the_slow_trip_is_slow_for_exactly_the_reasons_it_was_given(slow: dict[str, Any]) -> None:
    found = [(finding["kind"], finding["operation"]) for finding in slow["findings"]]
    serialized = [operation for kind, operation in found if kind == "serialized_independent_calls"]
    assert len(serialized) == 1
    assert set(serialized) <= INDEPENDENT
    assert sorted(entry for entry in found if entry[0] != "serialized_independent_calls") == sorted(EXPECTED.items())


def test_the_saving_that_was_predicted_is_what_mending_saves(slow: dict[str, Any], fixed: dict[str, Any]) -> None:
    predicted = slow["duration_s"] * (1 - slow["efficiency"])
    measured = slow["duration_s"] - fixed["duration_s"]
    assert predicted == pytest.approx(measured, rel=0.2)
    assert predicted == pytest.approx(slow["saving_s"], abs=0.001)


def test_the_fixed_trip_is_better_and_clean(slow: dict[str, Any], fixed: dict[str, Any]) -> None:
    assert fixed["score"] > slow["score"]
    assert fixed["efficiency"] > slow["efficiency"]
    assert [finding for finding in fixed["findings"] if finding["severity"] != "info"] == []


def test_both_trips_print_what_they_are_about(trips: dict[str, tuple[str, dict[str, Any]]]) -> None:
    for printed, _ in trips.values():
        assert printed.startswith("Fly NH204, see 12 sights, spend 2107 euros")
        assert "table at Sushi Dai reserved" in printed
