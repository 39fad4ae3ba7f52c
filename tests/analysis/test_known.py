"""Names in the settings that nothing goes by are reported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_agentperf._config import Config
from otel_agentperf.analysis.analyze import detectors
from otel_agentperf.analysis.known import unknown_names

DETECTORS = Path(__file__).parents[2] / "src" / "otel_agentperf" / "detectors"


@pytest.mark.parametrize(
    "thresholds",
    [
        "slow_operation.tool_s=3",
        "slow_operation.tool_s@search=3",
        "slow_operation.db_s@SELECT a, b FROM t=3",
        "min_saving_s=1,min_saving_share@planner=0.1,critical_share=0.2",
        "",
    ],
)
def test_a_known_threshold_is_fine(thresholds):
    assert list(unknown_names(Config(thresholds=thresholds))) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("slow_operation.tools_s", "tool_s"),
        ("slow_operation.tools_s@search", "tool_s"),
        ("slow_operations.tool_s", "slow_operation"),
        ("min_savings_s", "min_saving_s"),
        ("tool_s", "slow_operation"),
    ],
)
def test_a_misspelt_threshold_is_named_with_what_there_is(name, hint):
    (message,) = unknown_names(Config(thresholds=f"{name}=3,retry_storm.attempts=4"))
    assert "OTEL_AGENTPERF_THRESHOLDS" in message
    assert name in message
    assert hint in message


def test_the_file_it_is_in_is_named():
    config = Config(thresholds="x.y=3", told_in={"thresholds": "pyproject.toml"})
    assert "thresholds in pyproject.toml" in next(unknown_names(config))


def test_a_suppressed_kind_that_no_detector_finds_is_named():
    (message,) = unknown_names(Config(suppress="n_plus_one:search=x;retry_*:search=y;slow_operation:a=z;search=w"))
    assert "n_plus_one" in message
    assert "OTEL_AGENTPERF_SUPPRESS" in message


@pytest.mark.parametrize("kind", sorted(kind for kind, module in detectors().items() if hasattr(module, "THRESHOLDS")))
def test_a_detector_states_every_threshold_it_asks_for(kind):
    source = (DETECTORS / f"{kind}.py").read_text(encoding="utf-8")
    asked = set(re.findall(rf'threshold\(\s*"{kind}\.(\w+)"', source))
    assert asked <= detectors()[kind].THRESHOLDS


@pytest.mark.parametrize(("value", "told"), [("", 0), (":critical", 0), (":retry_storm", 0), (":nope", 1)])
def test_a_sampling_rule_names_a_kind_or_severity_that_there_is(value, told):
    assert len(list(unknown_names(Config(sampling=f"findings{value}=1,0")))) == told
