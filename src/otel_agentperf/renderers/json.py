"""`agentperf.report/v1`: the report for programs. One line, so that it is easily told from a program's own output."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Any, TextIO

from ..model import Finding, Report, Suppressed

SCHEMA = "agentperf.report/v1"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST_NS = 2**63
"""in 2262; what is later comes from a clock that was set wrong, and must not stop the report"""
SUMMARY = f"one JSON document ({SCHEMA})"


def render(reports: Iterable[Report], output: TextIO) -> None:
    """Write one document with all runs, each as it comes: there may be more than fit in memory."""
    output.write(f'{{"schema": {json.dumps(SCHEMA)}, "runs": [')
    for number, report in enumerate(reports):
        output.write((", " if number else "") + json.dumps(run_object(report), ensure_ascii=True))
    output.write("]}\n")


def run_object(report: Report) -> dict[str, Any]:
    """One run as the schema has it: seconds, offsets from the run's start, ids in hexadecimal."""
    root, run = report.root, report.run
    return {
        "trace_id": root.trace_id,
        "root_span_id": root.span_id,
        "service": root.service,
        "name": root.operation,
        "start": _rfc3339(root.start_ns),
        "duration_s": root.duration_s,
        "status": "ok" if root.error is None else "error",
        "incomplete": run.incomplete,
        "score": report.score,
        "score_parts": asdict(report.score_parts),
        "grade": report.grade,
        "efficiency": report.efficiency,
        "saving_s": report.saving_s,
        "critical_path": [
            {
                "span_id": segment.span.span_id,
                "name": segment.span.operation,
                "start_s": (segment.start_ns - root.start_ns) / 1e9,
                "end_s": (segment.end_ns - root.start_ns) / 1e9,
            }
            for segment in run.path
        ],
        "operations": [asdict(operation) for operation in report.operations],
        "agents": [asdict(agent) for agent in report.agents],
        "caches": [asdict(cache) for cache in report.caches],
        "tokens": {
            "input": report.tokens.input or 0,
            "output": report.tokens.output or 0,
            "cache_read": report.tokens.cache_read or 0,
        },
        "cost": {
            "usd": report.cost.usd,
            "basis": report.cost.basis,
            "unknown_models": list(report.cost.unknown_models),
            "complete": report.cost.complete,
        },
        "findings": [_finding(finding) for finding in report.findings],
        "findings_left_out": report.findings_left_out,
        "suppressed": [_suppressed(suppressed) for suppressed in report.suppressed],
        "unchecked_budgets": list(report.unchecked_budgets),
        "profile": [asdict(profile) for profile in root.profile],
        "profile_note": root.profile_note or None,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "operation": finding.operation,
        "calls": finding.calls,
        "wasted_s": finding.wasted_s,
        "saving_s": finding.saving_s,
        "saving_pct": finding.saving_pct,
        "evidence": list(finding.evidence),
        "threshold": finding.threshold,
        "recommendation": finding.recommendation,
        "agent": finding.agent,
        "fingerprint": finding.fingerprint,
    }


def _suppressed(suppressed: Suppressed) -> dict[str, Any]:
    finding = suppressed.finding
    return {
        "kind": finding.kind,
        "operation": finding.operation,
        "agent": finding.agent,
        "fingerprint": finding.fingerprint,
        "calls": finding.calls,
        "reason": suppressed.reason,
    }


def _rfc3339(moment_ns: int) -> str:
    moment = _EPOCH + timedelta(microseconds=max(0, min(moment_ns, _LAST_NS)) // 1_000)
    return moment.isoformat(timespec="microseconds")
