"""The report for code scanning keeps to SARIF 2.1.0, and to what GitHub asks for beyond it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft7Validator

from otel_agentperf.analysis.analyze import detectors
from otel_agentperf.model import Report, Suppressed
from otel_agentperf.renderers import sarif
from renderers._reports import ALL, failed, hostile, of_long_names, trip

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
LOG = {
    "type": "object",
    "required": ["version", "runs", "$schema"],
    "properties": {
        "version": {"const": "2.1.0"},
        "$schema": {"type": "string", "pattern": "^https://.*sarif.*2\\.1\\.0.*\\.json$"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "required": ["tool", "results"],
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name", "rules"],
                                "properties": {
                                    "rules": {
                                        "uniqueItems": True,
                                        "items": {
                                            "required": ["id", "shortDescription", "fullDescription", "help"],
                                            "properties": {
                                                "shortDescription": TEXT,
                                                "fullDescription": TEXT,
                                                "help": TEXT,
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "results": {
                        "items": {
                            "required": ["ruleId", "message", "level", "locations", "partialFingerprints"],
                            "properties": {
                                "message": TEXT,
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "occurrenceCount": {"type": "integer", "minimum": 1},
                                "partialFingerprints": {"additionalProperties": {"type": "string", "minLength": 1}},
                                "locations": {"type": "array", "minItems": 1},
                            },
                        }
                    },
                },
            },
        },
    },
}
"""What the standard and GitHub require of the parts that we write; the schema itself is not ours to ship."""


def log_of(*reports: Report) -> dict[str, Any]:
    output = io.StringIO()
    sarif.render(reports, output)
    log = dict(json.loads(output.getvalue()))
    Draft7Validator(LOG).validate(log)
    return log


def results_of(*reports: Report) -> list[dict[str, Any]]:
    return list(log_of(*reports)["runs"][0]["results"])


@pytest.mark.parametrize("report", ALL.values(), ids=ALL.keys())
def test_every_run_is_valid(report: Callable[[], Report]) -> None:
    log_of(report())


def test_no_runs_are_a_log_without_results() -> None:
    assert results_of() == []


def test_every_detector_is_a_rule() -> None:
    rules = log_of(trip())["runs"][0]["tool"]["driver"]["rules"]
    assert {rule["id"] for rule in rules} == set(detectors())
    assert all(rule["fullDescription"]["text"].endswith(".") for rule in rules)


def test_a_finding_is_a_result() -> None:
    report = trip()
    (result,) = results_of(report)
    rules = log_of(report)["runs"][0]["tool"]["driver"]["rules"]
    assert (result["ruleId"], rules[result["ruleIndex"]]["id"]) == ("n_plus_one_calls", "n_plus_one_calls")
    assert result["level"] == "warning"
    assert result["message"]["text"] == report.findings[0].recommendation
    assert result["properties"]["savingSeconds"] == pytest.approx(0.88)
    assert result["partialFingerprints"]["agentperfFinding/v1"] == report.findings[0].fingerprint


def test_it_is_located_at_the_agent_and_its_operation() -> None:
    (location,) = results_of(trip())[0]["locations"]
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "sights/opening_hours"
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "agents/sights/opening_hours"
    assert location["physicalLocation"]["region"]["startLine"] == 1


@pytest.mark.parametrize("report", [hostile(), of_long_names()], ids=["hostile", "long"])
def test_an_address_is_one_whatever_the_names_are(report: Report) -> None:
    for result in results_of(report):
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"agents(/[A-Za-z0-9._~%-]+){1,2}", uri)


@pytest.mark.parametrize(("severity", "level"), [("critical", "error"), ("warning", "warning"), ("info", "note")])
def test_the_level_follows_the_severity(severity: Any, level: str) -> None:
    report = trip()
    changed = replace(report, findings=(replace(report.findings[0], severity=severity),))
    assert results_of(changed)[0]["level"] == level


def test_what_several_runs_share_is_one_result() -> None:
    (result,) = results_of(trip(), failed(), trip())
    assert result["occurrenceCount"] == 2
    assert result["properties"]["runs"] == "2 of 3"
    assert result["properties"]["savingSecondsOfAllRuns"] == pytest.approx(1.76)


def test_a_suppressed_finding_is_a_suppressed_result() -> None:
    report = trip()
    known = Suppressed(report.findings[0], "known, see the wiki")
    (result,) = results_of(replace(report, findings=(), suppressed=(known,)))
    assert result["suppressions"] == [{"kind": "external", "justification": "known, see the wiki"}]
    assert "suppressions" not in results_of(report)[0]


def test_a_kind_of_a_third_party_is_a_rule_too() -> None:
    report = trip()
    other = replace(report, findings=(replace(report.findings[0], kind="their_kind"),))
    (result,) = results_of(other)
    rule = log_of(other)["runs"][0]["tool"]["driver"]["rules"][result["ruleIndex"]]
    assert (rule["id"], rule["fullDescription"]["text"]) == ("their_kind", "Their kind.")
