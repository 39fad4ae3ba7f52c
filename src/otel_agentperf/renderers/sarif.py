"""The report as SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/), for code scanning.

A bottleneck that several runs share is one result, told as in the run where it costs most: an alert is something to
fix, not something that happened. Traces know no source lines, so results carry logical locations (the agent and its
operation); the address beside them is there because GitHub refuses results without one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO
from urllib.parse import quote

from .._version import VERSION
from ..model import Report, Severity
from ._kinds import help_text, kinds, title
from ._text import plain
from ._verdict import Bottleneck, bottlenecks

SUMMARY = "SARIF 2.1.0 for code scanning: a rule per kind, a result per bottleneck"

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: dict[Severity, str] = {"critical": "error", "warning": "warning", "info": "note"}
_MOST_RESULTS = 5_000
"""what GitHub shows of one upload"""
_LONGEST_TEXT, _LONGEST_NAME = 1_000, 200


def render(reports: Iterable[Report], output: TextIO) -> None:
    """Write one log with all runs' bottlenecks."""
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [_run(list(reports))]}
    output.write(json.dumps(log, ensure_ascii=True, indent=2) + "\n")


def _run(reports: Sequence[Report]) -> dict[str, Any]:
    rules = kinds(reports)
    found = bottlenecks(report.findings for report in reports)
    left_out = bottlenecks([one.finding for one in report.suppressed] for report in reports)
    reasons = {one.finding.fingerprint: one.reason for report in reports for one in report.suppressed}
    results = [_result(one, rules, reports) for one in found]
    results += [
        _result(one, rules, reports) | {"suppressions": [_suppression(reasons[one.worst.fingerprint])]}
        for one in left_out
    ]
    return {
        "tool": {"driver": {"name": "agentperf", "semanticVersion": VERSION, "rules": [_rule(kind) for kind in rules]}},
        "automationDetails": {"id": "agentperf/"},
        "invocations": [{"executionSuccessful": True}],
        "columnKind": "unicodeCodePoints",
        "results": results[:_MOST_RESULTS],
    }


def _rule(kind: str) -> dict[str, Any]:
    shown = title(kind)
    return {
        "id": kind,
        "name": "".join(word.capitalize() for word in kind.split("_")),
        "shortDescription": {"text": shown[:1].upper() + shown[1:]},
        "fullDescription": {"text": help_text(kind)},
        "help": {"text": f"{help_text(kind)} A finding says what to change and what a replay of the run saves."},
        "defaultConfiguration": {"level": "warning"},
        "properties": {"tags": ["performance", "agents"], "problem.severity": "warning"},
    }


def _result(bottleneck: Bottleneck, rules: Sequence[str], reports: Sequence[Report]) -> dict[str, Any]:
    worst, report = bottleneck.worst, reports[bottleneck.worst_run]
    return {
        "ruleId": worst.kind,
        "ruleIndex": rules.index(worst.kind),
        "level": _LEVELS[worst.severity],
        "message": {"text": plain(worst.recommendation, _LONGEST_TEXT)},
        "locations": [_location(plain(worst.agent, _LONGEST_NAME), plain(worst.operation, _LONGEST_NAME))],
        # GitHub tells alerts of two uploads to be the same by this one name only.
        "partialFingerprints": {
            "agentperfFinding/v1": worst.fingerprint,
            "primaryLocationLineHash": f"{worst.fingerprint}:1",
        },
        "occurrenceCount": bottleneck.runs,
        "properties": {
            "calls": worst.calls,
            "savingSeconds": worst.saving_s,
            "savingPercent": worst.saving_pct,
            "savingSecondsOfAllRuns": bottleneck.saving_s,
            "threshold": plain(worst.threshold, _LONGEST_TEXT),
            "run": plain(report.root.operation, _LONGEST_NAME),
            "traceId": report.root.trace_id,
            "runs": f"{bottleneck.runs:,} of {len(reports):,}",
        },
    }


def _suppression(reason: str) -> dict[str, Any]:
    justification = plain(reason, _LONGEST_TEXT)
    return {"kind": "external", **({"justification": justification} if justification else {})}


def _location(agent: str, operation: str) -> dict[str, Any]:
    names = [name for name in dict.fromkeys((agent, operation)) if name]
    address = "/".join(["agents", *(quote(name, safe="") for name in names)])
    logical = {"name": operation, "fullyQualifiedName": "/".join(names), "kind": "function"}
    return {
        "physicalLocation": {"artifactLocation": {"uri": address}, "region": {"startLine": 1}},
        "logicalLocations": [{key: value for key, value in logical.items() if value}],
    }
