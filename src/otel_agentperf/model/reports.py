"""What one run's analysis says, before rendering."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .findings import Finding
from .kinds import Kind
from .runs import AgentRun
from .spans import SpanRecord, Tokens


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """Shares from 0 to 1; None: not measured, its weight goes to the others."""

    success: float | None = None
    speed: float | None = None
    resource: float | None = None


@dataclass(frozen=True, slots=True)
class OperationStats:
    kind: Kind
    name: str
    calls: int
    errors: int
    total_s: float
    self_s: float
    critical_s: float
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class AgentStats:
    name: str
    calls: int
    errors: int
    score: float | None


@dataclass(frozen=True, slots=True)
class CacheStats:
    name: str
    lookups: int
    hits: int
    time_saved_s: float | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the model calls of a run cost."""

    usd: float | None = None
    """None: unknown. Where `complete` is false it is the part that is known: the run cost at least that"""
    basis: str = ""
    """where the prices are from, and what is not known"""
    unknown_models: tuple[str, ...] = ()
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A finding that the user does not want to hear of."""

    finding: Finding
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What one run's analysis says: section "The report, as JSON" of the docs, before rendering."""

    run: AgentRun
    score: float
    score_parts: ScoreParts
    grade: str
    efficiency: float
    saving_s: float
    """what all findings together would save: one joint replay"""
    operations: tuple[OperationStats, ...]
    agents: tuple[AgentStats, ...]
    caches: tuple[CacheStats, ...]
    tokens: Tokens
    findings: tuple[Finding, ...]
    """worst first"""
    cost: Cost = Cost()
    suppressed: tuple[Suppressed, ...] = ()
    """what would be among the findings if the user's settings did not leave it out"""
    unchecked_budgets: tuple[str, ...] = ()
    """budgets that could not be checked in this run, each with the reason"""
    findings_left_out: int = 0
    """how many more there were of kinds that have very many; the worst are told"""

    @property
    def root(self) -> SpanRecord:
        return self.run.root

    def calls(self, *kinds: Kind) -> int:
        return sum(operation.calls for operation in self.operations if operation.kind in kinds)

    def errors(self, *kinds: Kind) -> int:
        return sum(operation.errors for operation in self.operations if operation.kind in kinds)


def total(values: Iterable[int | None]) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
