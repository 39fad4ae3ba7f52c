"""What flows through `analysis.compare`: the figures of runs in, what changed between two sets of them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["worse", "better", "same", "too few runs"]
Status = Literal["new", "gone", "worse", "better", "same"]


@dataclass(frozen=True, slots=True)
class OperationFigures:
    """An operation in one run, all its calls together."""

    kind: str
    name: str
    calls: int
    errors: int
    self_s: float
    critical_s: float


@dataclass(frozen=True, slots=True)
class FindingFigures:
    fingerprint: str
    kind: str
    agent: str
    operation: str
    severity: str
    saving_s: float


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What one run is compared by. `None` is "not told"."""

    name: str
    duration_s: float
    failed: bool
    score: float
    tokens: int
    cost_usd: float | None
    operations: tuple[OperationFigures, ...] = ()
    findings: tuple[FindingFigures, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What has to be exceeded to count as a change."""

    slower: float = 0.10
    """share of the base's time"""
    slower_s: float = 0.05
    more_tokens: float = 0.10
    """share of the base's tokens, or cost"""
    lower_score: float = 0.05
    min_samples: int = 5
    """runs on each side"""


@dataclass(frozen=True, slots=True)
class Change:
    """A figure on both sides: medians, or means where most runs have none of it."""

    figure: str
    base: float
    head: float
    base_p95: float
    head_p95: float
    p: float
    verdict: Verdict

    @property
    def difference(self) -> float:
        return self.head - self.base

    @property
    def share(self) -> float | None:
        """The difference as a share of the base; None where that is nothing."""
        return self.difference / self.base if self.base else None


@dataclass(frozen=True, slots=True)
class OperationChange:
    kind: str
    name: str
    base_calls: float
    """a run, on average"""
    head_calls: float
    critical: Change
    own: Change
    errors: Change


@dataclass(frozen=True, slots=True)
class FindingChange:
    finding: FindingFigures
    """as the head has it, where it does"""
    status: Status
    sure: bool
    """there are enough runs to say so"""
    base_runs: int
    """in which it is"""
    head_runs: int
    base_saving_s: float
    """a run, on average over all"""
    head_saving_s: float


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """The runs of one name on both sides."""

    name: str
    base_runs: int
    head_runs: int
    judged: bool
    """there are enough of them"""
    figures: tuple[Change, ...]
    operations: tuple[OperationChange, ...]
    """the largest change in critical time first"""
    findings: tuple[FindingChange, ...]

    @property
    def regressed(self) -> bool:
        return any(change.verdict == "worse" for change in self.figures)

    @property
    def new_findings(self) -> tuple[FindingChange, ...]:
        return tuple(change for change in self.findings if change.status == "new" and change.sure)
