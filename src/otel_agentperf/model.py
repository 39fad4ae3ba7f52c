"""What flows: spans as records, a run of them, findings, and the report. Frozen, no behaviour beyond look-ups.

Times are integer nanoseconds since the Unix epoch (`*_ns`) or float seconds (`*_s`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Literal

Kind = Literal["agent", "workflow", "tool", "llm", "embedding", "retrieval", "cache", "db", "http", "mcp", "other"]
Severity = Literal["info", "warning", "critical"]
RUN_KINDS: frozenset[Kind] = frozenset({"agent", "workflow"})


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one model call, or of a run. `None` is "not told", never zero."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None

    def __bool__(self) -> bool:
        return self.input is not None or self.output is not None


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """One operation on a cache, as a span tells it. `hit` is None where the span does not say."""

    operation: str
    hit: bool | None
    key: str | None
    counted: bool = False
    """Its lookup is also in the run's `CacheCounts`, so it must not be counted again."""


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """What an in-process cache did during a run: counted, because a span costs more than such a lookup."""

    name: str
    lookups: int
    hits: int
    hit_s: float = 0.0
    """mean seconds of a hit, 0 where not measured"""
    miss_s: float = 0.0
    """mean seconds of a miss, computation included"""


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What the process used while the run was going on."""

    memory_mb: float | None = None
    cpu_percent: float | None = None
    """100 is one core"""


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One ended span, whoever made it, in our terms. Made by `analysis.classify` only."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: Kind
    operation: str
    """the bare name a person would search for: tool, agent, model, cache, query or URL template"""
    start_ns: int
    end_ns: int
    error: str | None = None
    """`error.type`, None for a success"""
    scope: str = ""
    service: str = ""
    process: str = ""
    """tells the processes of a trace apart; empty where only one is looked at"""
    remote_parent: bool = False
    mutating: bool = False
    """the call changes something (INSERT, POST, set, `create_…`), as far as its name or verb tells"""
    args: str | None = None
    """identity of the canonical arguments; None: unknown"""
    args_text: str | None = None
    """the arguments themselves, where the span shows them whole"""
    result: str | None = None
    result_text: str | None = None
    result_size: int | None = None
    depends_on: tuple[str, ...] | None = None
    """earlier siblings whose result this call's arguments hold; None: unknown"""
    asked: bool = False
    """a model asked for this call: it carries the id of the model's tool call"""
    asks: tuple[str, ...] | None = None
    """of a model call: the names of the tools it asked for, one for each call; None: its answer is not visible"""
    chain: bool = False
    """a framework's chain: a workflow where it is the outermost, otherwise a step. `analysis.runs` decides"""
    cpu_ns: int | None = None
    """CPU time of a synchronous call"""
    first_chunk_s: float | None = None
    """seconds to the first chunk of a stream"""
    tokens: Tokens = Tokens()
    cache: CacheLookup | None = None
    counts: tuple[CacheCounts, ...] = ()
    """on a run's root: in-process caches"""
    usage: ResourceUsage | None = None
    """on a run's root"""
    incomplete: bool = False
    """on a run's root: whoever recorded it already knew that spans were missing"""

    @property
    def duration_ns(self) -> int:
        return max(0, self.end_ns - self.start_ns)

    @property
    def duration_s(self) -> float:
        return self.duration_ns / 1e9


@dataclass(frozen=True, slots=True)
class PathSegment:
    """A stretch of the critical path: `span` itself was what the run waited for from start to end."""

    span: SpanRecord
    start_ns: int
    end_ns: int


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
    """the same in every run for the same bottleneck: of kind, agent and operation; filled in by `analysis.analyze`"""

    @property
    def recommendation(self) -> str:
        return self.recommend(self.saving_s)


@dataclass(frozen=True)
class AgentRun:
    """A run: its root and everything below it, indexed. Made by `analysis.runs.build_run`."""

    root: SpanRecord
    spans: tuple[SpanRecord, ...]
    """the root and all below it, by start; of those that start together the longest first"""
    children: Mapping[str, tuple[SpanRecord, ...]]
    """by parent's span id, each by start"""
    path: tuple[PathSegment, ...] = ()
    """the critical path, in time order; tiles the root exactly"""
    critical_ns: Mapping[str, int] = field(default_factory=dict)
    """by span id: its own time on the critical path"""
    self_ns: Mapping[str, int] = field(default_factory=dict)
    incomplete: bool = False
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """the user's, by `kind.name`; a detector states the default where it uses one"""
    callers: frozenset[str] = frozenset()
    """ids of the trace's spans that called another process in which a run happened"""

    @cached_property
    def by_id(self) -> Mapping[str, SpanRecord]:
        return {span.span_id: span for span in self.spans}

    @cached_property
    def agents(self) -> Mapping[str, str]:
        """The span id of the nearest agent (or the root) that each span works for, by span id."""
        owner: dict[str, str] = {}
        for span in self.walk():
            above = owner.get(span.parent_id or "", self.root.span_id)
            owner[span.span_id] = span.span_id if span.kind in RUN_KINDS or self._is_inner_agent(span) else above
        return owner

    def _is_inner_agent(self, span: SpanRecord) -> bool:
        """A chain that takes several turns and, in other steps, calls tools: a graph inside the graph, not a node of
        it, nor one cycle of a loop."""
        if not (span.chain and len(self.turns.get(span.span_id, ())) > 1):
            return False
        others = (step for step in self.children[span.span_id] if step.span_id not in self.turn_asks)
        return any(
            call.kind == "tool" for step in others for call in chain([step], self.children.get(step.span_id, ()))
        )

    @cached_property
    def thinking(self) -> frozenset[str]:
        """The model calls and everything above them, by span id."""
        found: set[str] = set()
        for span in self.spans:
            for member in chain([span], self.ancestors(span)) if span.kind == "llm" else ():
                if member.span_id in found:
                    break
                found.add(member.span_id)
        return frozenset(found)

    @cached_property
    def turn_asks(self) -> Mapping[str, tuple[str, ...] | None]:
        """The model's calls, and the frameworks' steps around them (not the agents and tools), by span id: what the
        last model call inside asked for."""
        found: dict[str, tuple[str, ...] | None] = {}
        for span in reversed(self.spans):
            for step in chain([span], self.ancestors(span)) if span.kind == "llm" else ():
                if step.span_id in found or not (step is span or step.kind == "other"):
                    break
                found[step.span_id] = span.asks
        return found

    @cached_property
    def turns(self) -> Mapping[str, Sequence[SpanRecord]]:
        """The turns (model calls and steps around them) by parent's span id, each by start."""
        found: dict[str, list[SpanRecord]] = defaultdict(list)
        for span in self.spans:
            if span.span_id in self.turn_asks and span is not self.root:
                found[span.parent_id or ""].append(span)
        return found

    @cached_property
    def turn_bounds(self) -> Mapping[str, tuple[int, int]]:
        """By parent's span id: when the first turn below it had ended, and when the last one started."""
        return {
            parent: (min(turn.end_ns for turn in turns), turns[-1].start_ns) for parent, turns in self.turns.items()
        }

    def walk(self, top: SpanRecord | None = None) -> Iterator[SpanRecord]:
        """`top` (or the root) and all below it, parents before children."""
        stack = [top or self.root]
        while stack:
            span = stack.pop()
            yield span
            stack.extend(reversed(self.children.get(span.span_id, ())))

    def below(self, span: SpanRecord) -> Iterator[SpanRecord]:
        """All spans below `span`, without it."""
        found = self.walk(span)
        next(found)
        return found

    def ancestors(self, span: SpanRecord) -> Iterator[SpanRecord]:
        """The parents of `span`, nearest first, up to the run's root."""
        while span is not self.root:
            parent = self.by_id.get(span.parent_id or "")
            if parent is None:
                return
            yield parent
            span = parent

    def threshold(self, name: str, default: float, span: SpanRecord | None = None) -> float:
        """The user's value of a threshold such as `n_plus_one_calls.calls`, or the detector's default. One for the
        operation of `span` (`slow_operation.tool_s@search`) or its agent (`…@planner`) wins, in this order."""
        if span is not None and self.thresholds:
            for scope in (span.operation, self.agent_of(span.span_id)):
                told = self.thresholds.get(f"{name}@{scope}")
                if told is not None:
                    return told
        return self.thresholds.get(name, default)

    def agent_of(self, span_id: str) -> str:
        """The name of the agent that a span works for; the root's for an unknown span."""
        return self.by_id.get(self.agents.get(span_id, ""), self.root).operation


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
