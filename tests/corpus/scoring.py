"""Findings against labels: what was found, what was missed, and what was said without reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from .build import Case, Expected

_RANK = {"info": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True)
class Outcome:
    """One label or one finding, judged."""

    verdict: str
    """found, missed, false (an alarm without reason), or info (a remark that nobody asked for)"""
    kind: str
    """of the label or of the finding"""
    case: Case
    detail: str
    error: float | None = None
    """of the saving: the difference to the true one, as a part of that"""


@dataclass
class Score:
    """The outcomes of one kind."""

    positives: int = 0
    """runs with a counted label of the kind"""
    negatives: int = 0
    """healthy programs that come close to the kind"""
    found: int = 0
    missed: int = 0
    false: int = 0
    info: int = 0
    errors: list[float] = field(default_factory=list)

    @property
    def recall(self) -> float | None:
        labels = self.found + self.missed
        return self.found / labels if labels else None

    @property
    def precision(self) -> float | None:
        said = self.found + self.false
        return self.found / said if said else None

    def saving_error(self, share: float) -> float | None:
        """The error that `share` of the predictions stay within (nearest rank)."""
        if not self.errors:
            return None
        ordered = sorted(self.errors)
        return ordered[max(0, ceil(share * len(ordered)) - 1)]


def judge(case: Case, run: Mapping[str, Any] | None) -> list[Outcome]:
    """The outcomes of one run; `run` is its report, None where there was none."""
    findings = list(run["findings"]) if run else []
    outcomes = []
    for expected in sorted(case.expected, key=lambda one: not one.counted):
        matching = [finding for finding in findings if _matches(expected, finding)]
        for finding in matching:
            findings.remove(finding)
        if expected.counted:
            outcomes.append(_for_label(case, expected, matching))
    outcomes.extend(_for_finding(case, finding) for finding in findings)
    return outcomes


def _matches(expected: Expected, finding: Mapping[str, Any]) -> bool:
    label = expected.label
    names = label.operations
    return finding["kind"] == label.kind and (not names or finding["operation"] in names)


def _for_label(case: Case, expected: Expected, matching: Sequence[Mapping[str, Any]]) -> Outcome:
    label = expected.label
    loud = [finding for finding in matching if _RANK[finding["severity"]] >= _RANK[label.severity]]
    wanted = f"{label.severity} {label.kind} of {' or '.join(label.operations)}"
    if not loud:
        said = f", said {matching[0]['severity']}" if matching else ""
        return Outcome("missed", label.kind, case, f"{wanted}{said}")
    if not expected.saving_s:
        return Outcome("found", label.kind, case, wanted)
    saving = max(finding["saving_s"] for finding in loud)
    error = abs(saving - expected.saving_s) / expected.saving_s
    detail = f"{wanted}: saves {expected.saving_s:.2f} s, predicted {saving:.2f} s"
    return Outcome("found", label.kind, case, detail, error)


def _for_finding(case: Case, finding: Mapping[str, Any]) -> Outcome:
    verdict = "info" if finding["severity"] == "info" else "false"
    detail = f"{finding['severity']} {finding['kind']} of {finding['operation']}, saving {finding['saving_s']:.2f} s"
    return Outcome(verdict, finding["kind"], case, detail)


def scores(cases: Iterable[Case], outcomes: Iterable[Outcome]) -> dict[str, Score]:
    """By kind. Cases that the rule leaves open count for nothing."""
    table: dict[str, Score] = {}
    for case in cases:
        if case.scenario.sort == "open":
            continue
        if case.scenario.sort == "negative":
            table.setdefault(case.scenario.kind, Score()).negatives += 1
        for kind in {expected.label.kind for expected in case.expected if expected.counted}:
            table.setdefault(kind, Score()).positives += 1
    for outcome in outcomes:
        if outcome.case.scenario.sort != "open":
            score = table.setdefault(outcome.kind, Score())
            setattr(score, outcome.verdict, getattr(score, outcome.verdict) + 1)
            if outcome.error is not None:
                score.errors.append(outcome.error)
    return dict(sorted(table.items()))
