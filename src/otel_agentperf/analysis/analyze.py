"""The heart: a run in, its report out. Pure: no OpenTelemetry, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from types import ModuleType

from .. import _guard
from .._config import Config
from .._discover import discover
from ..detectors._budgets import unchecked
from ..model import RUN_KINDS, AgentRun, Change, Finding, Kind, Report, Severity
from ..sanitize import blake2b
from . import cost, score, summary, suppress
from .cost import PriceSource
from .replay import merge, movable, replay

THRESHOLDS = frozenset({"min_saving_s", "min_saving_share", "critical_share"})
"""the user's that are about findings of every kind"""
SEVERITIES = ("critical", "warning", "info")
_LEAST_S = 0.1
_MOST_OF_A_KIND = 64
"""findings: nobody reads more, each is an event on the root, and each is compared with each"""


def analyze(run: AgentRun, config: Config | None = None, prices: PriceSource | None = None) -> Report:
    """Score a run and diagnose its bottlenecks, worst first.

    Live and offline use this function, so the same spans give the same report either way. `prices`: of models that
    `config` gives no price of, as `otel_agentperf.prices` has them.
    """
    config = config or Config()
    own_prices = config.price_list()
    run = replace(run, budgets=config.budget_list(), costs=cost.costs(run, own_prices, prices))
    operations = summary.operations(run)
    parts = summary.score_parts(run, operations, config)
    total = score.weigh(parts, config.weight_triple()) or 0.0
    told, left_out = bottlenecks(run)
    found = (_with_source(finding, run, config) for finding in told)
    findings, suppressed = suppress.split(found, config.suppression_list())
    duration = run.root.duration_ns
    replayed = _replayed(run, [finding for finding in findings if finding.change])
    return Report(
        run=run,
        score=total,
        score_parts=parts,
        grade=score.grade(total),
        efficiency=min(1.0, replayed / duration) if duration else 1.0,
        saving_s=max(0, duration - replayed) / 1e9,
        operations=operations,
        agents=summary.agents(run, config),
        caches=summary.caches(run),
        tokens=summary.tokens(run.spans),
        findings=findings,
        cost=cost.total(run, own_prices, prices),
        suppressed=suppressed,
        unchecked_budgets=unchecked(run),
        findings_left_out=left_out,
    )


def _replayed(run: AgentRun, findings: Sequence[Finding]) -> int:
    """Nanoseconds that the run would take with all changes made. That of a single one is known already."""
    if len(findings) == 1:
        return run.root.duration_ns - round(findings[0].saving_s * 1e9)
    return replay(run, merge(finding.change for finding in findings if finding.change))


def _with_source(finding: Finding, run: AgentRun, config: Config) -> Finding:
    """A threshold that is not the default says where it was set."""
    if not any(name.startswith(f"{finding.kind}.") for name in run.thresholds):
        return finding
    return replace(finding, threshold=f"{finding.threshold}; set in {config.source('thresholds')}")


def find_bottlenecks(run: AgentRun) -> tuple[Finding, ...]:
    """All detectors' findings that save enough, each call spoken for by the most specific one, worst first."""
    return bottlenecks(run)[0]


def bottlenecks(run: AgentRun) -> tuple[tuple[Finding, ...], int]:
    """The same, and how many more there were of kinds that have too many to tell them all."""
    found: list[Finding] = []
    left_out = 0
    matters = lru_cache(maxsize=1)(partial(movable, run))
    is_short = run.root.duration_s < _least_of_all_s(run)
    for kind, detector in detectors().items():
        if is_short and getattr(detector, "SAVES_TIME", False):
            continue
        with _guard.guard(f"detector {kind}"):
            of_kind = list(_worthwhile(run, detector.detect(run), matters))
            if len(of_kind) > _MOST_OF_A_KIND:
                of_kind.sort(key=lambda finding: (*_rank(finding), -finding.wasted_s))
            found.extend(of_kind[:_MOST_OF_A_KIND])
            left_out += max(0, len(of_kind) - _MOST_OF_A_KIND)
    unchallenged = [finding for finding in found if not _is_replaced(finding, found, run)]
    # Twice, because one that is itself replaced speaks for nobody.
    kept = [finding for finding in found if not _is_replaced(finding, unchallenged, run)]
    named = (_named(run, finding) for finding in kept)
    return tuple(sorted(named, key=_rank)), left_out


def _rank(finding: Finding) -> tuple[int, float]:
    """Worst first."""
    return SEVERITIES.index(finding.severity), -finding.saving_s


def _named(run: AgentRun, finding: Finding) -> Finding:
    agent = run.agent_of(finding.evidence[0] if finding.evidence else run.root.span_id)
    identity = "\0".join(filter(None, (finding.kind, agent, finding.operation, finding.fingerprint)))
    digest = blake2b(identity.encode("utf-8", "replace"), digest_size=6).hexdigest()
    return replace(finding, agent=agent, fingerprint=digest)


@lru_cache(maxsize=1)
def detectors() -> dict[str, ModuleType]:
    """The detectors by kind. The processor asks for them early: importing them when the first run ends would take
    its thread 7 ms, and would leave the import lock held in a child that another thread forks meanwhile."""
    return discover("detectors")


def _worthwhile(run: AgentRun, findings: Iterable[Finding], matters: Callable[[], frozenset[str]]) -> Iterator[Finding]:
    """Findings with their replayed saving, without those below max(100 ms, 5 % of the run)."""
    duration = run.root.duration_s
    for finding in findings:
        least = _least_s(run, finding)
        if finding.change is None:
            yield finding
        # Nothing saves more than it wastes, or beside what the run waited for: that spares most replays.
        elif finding.wasted_s >= least and not matters().isdisjoint(_touched(finding.change)):
            saving = (run.root.duration_ns - replay(run, finding.change)) / 1e9
            if saving >= least:
                severity = _honest(run, finding, saving)
                yield replace(
                    finding, severity=severity, saving_s=saving, saving_pct=min(100.0, 100 * saving / duration)
                )


def _honest(run: AgentRun, finding: Finding, saving: float) -> Severity:
    """What is wasted beside the critical path is no emergency; and where spans are missing, what a detector that
    needs them all has seen may be what it has not."""
    if run.incomplete and getattr(detectors()[finding.kind], "NEEDS_WHOLE_RUN", False):
        return "info"
    share = run.threshold("critical_share", 0.5, run.by_id.get(next(iter(finding.evidence), "")))
    return "warning" if finding.severity == "critical" and saving < share * run.root.duration_s else finding.severity


def _least_s(run: AgentRun, finding: Finding) -> float:
    """The seconds that a finding must save, by its operation or agent where the user sets it so."""
    calls = [run.by_id[span_id] for span_id in finding.evidence if span_id in run.by_id] if run.thresholds else []
    call = next((call for call in calls if call.operation == finding.operation), calls[0] if calls else None)
    return max(
        run.threshold("min_saving_s", _LEAST_S, call),
        run.threshold("min_saving_share", 0.05, call) * run.root.duration_s,
    )


def _least_of_all_s(run: AgentRun) -> float:
    """The seconds below which no operation's or agent's finding is worth telling; no run saves more than it took."""
    own = (value for name, value in run.thresholds.items() if name.partition("@")[0] == "min_saving_s")
    return min((_LEAST_S, *own))


def _is_replaced(finding: Finding, found: Iterable[Finding], run: AgentRun) -> bool:
    return any(
        _speaks_instead(other, finding, run) or _contains(other, finding, run)
        for other in found
        if other is not finding
    )


def _speaks_instead(other: Finding, finding: Finding, run: AgentRun) -> bool:
    """Is most of what `finding` is about also what `other`, which is more specific, is about?"""
    specific: frozenset[str] = getattr(detectors()[finding.kind], "REPLACED_BY", frozenset())
    if other.kind == finding.kind or not (other.kind in specific or "*" in specific):
        return False
    if getattr(detectors()[other.kind], "SPEAKS_BESIDES", False):
        return False
    if other.change and 2 * other.saving_s < finding.saving_s:
        return False  # about the same calls, but not about where most of their time goes
    calls = {span_id for span_id in other.evidence if _kind(run, span_id) not in RUN_KINDS}
    waiting = {gap[0] for gap in other.change.gaps} if other.change else set[str]()
    said = waiting.union(other.evidence)
    shared = sum(span_id in said or _is_inside(run, span_id, calls) for span_id in finding.evidence)
    return 2 * shared > len(finding.evidence)


def _kind(run: AgentRun, span_id: str) -> Kind:
    return run.by_id[span_id].kind if span_id in run.by_id else "other"


def _is_inside(run: AgentRun, span_id: str, calls: Container[str]) -> bool:
    """Is it part of one of the calls (the request that a tool makes)?"""
    return span_id in run.by_id and any(above.span_id in calls for above in run.ancestors(run.by_id[span_id]))


def _contains(other: Finding, finding: Finding, run: AgentRun) -> bool:
    """Do the calls that `other`'s fix removes include all that `finding` would change?"""
    if other.change is None or finding.change is None or not other.change.drop:
        return False
    touched = _touched(finding.change)
    return touched.isdisjoint(_touched(other.change)) and all(
        any(above.span_id in other.change.drop for above in run.ancestors(run.by_id[span_id]))
        for span_id in touched
        if span_id in run.by_id
    )


def _touched(change: Change) -> set[str]:
    members = {span_id for group in change.parallel for span_id in group}
    return {*change.drop, *change.shrink, *members, *(gap[0] for gap in change.gaps)}
