"""Leaves out the findings that the user knows of, and remembers why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .._entries import Suppression, matches
from ..model import Finding, Suppressed


def split(
    findings: Iterable[Finding], rules: Sequence[Suppression]
) -> tuple[tuple[Finding, ...], tuple[Suppressed, ...]]:
    """The findings that stay, and the suppressed ones with the reason of the first rule that matches each."""
    kept: list[Finding] = []
    suppressed: list[Suppressed] = []
    for finding in findings:
        rule = next((rule for rule in rules if _matches(rule, finding)), None)
        if rule is None:
            kept.append(finding)
        else:
            suppressed.append(Suppressed(finding, rule.reason))
    return tuple(kept), tuple(suppressed)


def _matches(rule: Suppression, finding: Finding) -> bool:
    names = (finding.fingerprint, finding.kind, finding.operation)
    wanted = (
        (rule.fingerprint, finding.fingerprint),
        (rule.kind, finding.kind),
        (rule.operation, finding.operation),
        (rule.agent, finding.agent),
    )
    return all(not pattern or matches(pattern, value) for pattern, value in wanted) and (
        not rule.name or any(matches(rule.name, name) for name in names)
    )
