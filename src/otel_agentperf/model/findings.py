"""One bottleneck, and what mending it would change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Change:
    """A what-if for `analysis.replay`: what the fix of a finding would change in the run's timeline."""

    drop: frozenset[str] = frozenset()
    """span ids that would not happen any more"""
    shrink: Mapping[str, int] = field(default_factory=dict)
    """span id → nanoseconds it would take instead (never longer than it did)"""
    parallel: tuple[tuple[str, ...], ...] = ()
    """groups of siblings that would all start when the group's first does"""
    gaps: tuple[tuple[str, int, int], ...] = ()
    """(parent span id, start, end): stretches of the parent's own time that would go"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One bottleneck. A detector fills all but the two savings, which `analysis.analyze` replays."""

    kind: str
    severity: Severity
    operation: str
    calls: int
    wasted_s: float
    evidence: tuple[str, ...]
    """span ids, in time order"""
    threshold: str
    recommend: Callable[[float], str] = field(compare=False)
    """the recommendation, given the seconds that the replay says are saved"""
    change: Change | None = None
    """None: no time is claimed, and no saving is required"""
    saving_s: float = 0.0
    saving_pct: float = 0.0
    agent: str = ""
    """the agent whose calls these are; filled in by `analysis.analyze`"""
    fingerprint: str = ""
    """the same in every run for the same bottleneck: of kind, agent and operation; filled in by `analysis.analyze`, out
    of whatever else a detector tells its findings apart by"""

    @property
    def recommendation(self) -> str:
        return self.recommend(self.saving_s)
