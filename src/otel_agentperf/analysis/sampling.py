"""Which runs are exported: the user's rules, in their order, on what is known of a run when it starts or has ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .._entries import SamplingRule, matches
from ..model import Report

_TRACE_BITS = 64
_CALLS = frozenset({"tool", "llm"})


class Start(NamedTuple):
    """What is known of a run when it starts."""

    agent: str
    environment: str
    """`deployment.environment.name` of the resource"""
    complexity: object = None
    """the user's own number or word for how hard the task is; None: the calls of the run are counted at its end"""


class Decision(NamedTuple):
    sampled: bool
    rule: str
    share: float


def decide(rules: Iterable[SamplingRule], trace_id: int, start: Start, report: Report | None = None) -> Decision | None:
    """By the first rule that the run meets; None where it meets none. Without a report (the run has only started) the
    rules about its end are passed over.

    Of one share the same traces are taken everywhere: those that OpenTelemetry's `TraceIdRatioBased` takes.
    """
    for rule in rules:
        if _holds(rule, start, report):
            sampled = (trace_id & (1 << _TRACE_BITS) - 1) < round(rule.share * (1 << _TRACE_BITS))
            return Decision(sampled, rule.key, rule.share)
    return None


def _holds(rule: SamplingRule, start: Start, report: Report | None) -> bool:
    if rule.condition == "rest":
        return True
    if rule.condition == "agent":
        return matches(rule.value, start.agent)
    if rule.condition == "env":
        return matches(rule.value, start.environment)
    if rule.condition == "complexity":
        return _is_complex(rule.value, start.complexity, report)
    return report is not None and _ended_so(rule, report)


def _is_complex(value: str, told: object, report: Report | None) -> bool:
    """At least that number, or that very word. Where the program tells nothing, its tool and model calls count."""
    if told is None and report is not None:
        told = sum(operation.calls for operation in report.operations if operation.kind in _CALLS)
    try:
        return told is not None and float(str(told)) >= float(value)
    except ValueError:
        return matches(value, str(told))


def _ended_so(rule: SamplingRule, report: Report) -> bool:
    if rule.condition == "error":
        return report.root.error is not None
    if rule.condition == "budget":
        return any(finding.kind == "budget_exceeded" for finding in report.findings)
    if rule.condition == "findings":
        return any(rule.value in (finding.kind, finding.severity) for finding in report.findings) or (
            not rule.value and any(finding.severity != "info" for finding in report.findings)
        )
    if rule.condition == "grade":
        return report.grade >= rule.value.upper()
    # Slower than its baseline, at which the score's part for speed is 0.
    return report.root.duration_s >= float(rule.value) if rule.value else report.score_parts.speed == 0
