"""Finds the runs in a heap of spans, and indexes one run for the analysis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from ..model import RUN_KINDS, AgentRun, SpanRecord
from .critical_path import critical_times, lasting, walk_back
from .deduplicate import deduplicate
from .self_time import self_times
from .settle import settle
from .workflows import with_workflows

Children = Mapping[str, Sequence[SpanRecord]]
Local = Mapping[str, SpanRecord]
"""the spans of one process in a trace, by span id"""


def find_runs(spans: Iterable[SpanRecord], thresholds: Mapping[str, float] | None = None) -> list[AgentRun]:
    """The runs of any number of traces, by start: the outermost agent or workflow span of each process in a
    trace with everything below it, or the local root where the whole trace has none."""
    traces: dict[str, dict[str, dict[str, SpanRecord]]] = defaultdict(lambda: defaultdict(dict))
    for span in spans:
        traces[span.trace_id][span.process].setdefault(span.span_id, span)
    runs = (run for processes in traces.values() for run in _runs_of_trace(list(processes.values()), thresholds or {}))
    return sorted(runs, key=lambda run: (run.root.start_ns, run.root.trace_id, run.root.span_id))


def build_run(
    root: SpanRecord,
    spans: Iterable[SpanRecord],
    thresholds: Mapping[str, float] | None = None,
    incomplete: bool = False,
    callers: frozenset[str] = frozenset(),
) -> AgentRun:
    """The run of `root` with those of `spans` that are below it, doubles removed and times computed. `callers`:
    see `AgentRun`."""
    return _indexed(root, list(_reachable(root, _by_parent(spans))), thresholds or {}, incomplete, callers)


def _indexed(
    root: SpanRecord,
    reached: Sequence[SpanRecord],
    thresholds: Mapping[str, float],
    incomplete: bool,
    callers: frozenset[str],
) -> AgentRun:
    """The run of `root` with the spans below it, and no others."""
    reached = settle(reached, root)
    kept = deduplicate(sorted(reached, key=lambda span: (span.start_ns, span is not root, -span.end_ns, span.span_id)))
    root = next(span for span in kept if span.span_id == root.span_id)
    children = {parent: tuple(below) for parent, below in _by_parent(span for span in kept if span is not root).items()}
    walked = list(walk_back(root, children))
    walked.reverse()
    return AgentRun(
        root=root,
        spans=tuple(kept),
        children=children,
        path=lasting(walked),
        critical_ns=critical_times(walked),
        self_ns=self_times(kept, children),
        incomplete=incomplete or root.incomplete,
        thresholds=thresholds,
        callers=callers,
    )


def _by_parent(spans: Iterable[SpanRecord]) -> dict[str, list[SpanRecord]]:
    children: dict[str, list[SpanRecord]] = defaultdict(list)
    for span in spans:
        if span.parent_id and span.parent_id != span.span_id and not span.remote_parent:
            children[span.parent_id].append(span)
    return children


def _reachable(root: SpanRecord, children: Children) -> Iterator[SpanRecord]:
    seen = {root.span_id}
    stack = [root]
    while stack:
        span = stack.pop()
        yield span
        for child in children.get(span.span_id, ()):
            if child.span_id not in seen:
                seen.add(child.span_id)
                stack.append(child)


def _runs_of_trace(processes: Sequence[Local], thresholds: Mapping[str, float]) -> Iterator[AgentRun]:
    processes = [with_workflows(local, _by_parent(local.values())) for local in processes]
    has_agent = any(span.kind in RUN_KINDS for local in processes for span in local.values())
    of_trace = {span_id for local in processes for span_id in local}
    heaps = [_Heap(local, of_trace, has_agent) for local in processes]
    callers = frozenset(caller for heap in heaps if has_agent for caller in heap.callers())
    for heap in heaps:
        yield from heap.runs(thresholds, callers)


class _Heap:
    """The spans of one process in a trace, with the roots of the runs among them."""

    def __init__(self, local: Local, of_trace: Container[str], has_agent: bool) -> None:
        self._local = local
        self._children = _by_parent(local.values())
        tops = list(_tops(local, self._children))
        orphans = [span for span in tops if _is_orphan(span, of_trace) and span.kind not in RUN_KINDS]
        roots = list(_outermost_agents(tops, self._children)) if has_agent else _without(tops, orphans)
        if not roots and not has_agent:
            roots, orphans = tops, []
        self._roots = roots
        self._adopted = _adopted(roots, orphans)

    def runs(self, thresholds: Mapping[str, float], callers: frozenset[str]) -> Iterator[AgentRun]:
        for root in self._roots:
            adopted = self._adopted[root.span_id]
            spans = list(_reachable(root, self._children))
            if not adopted:
                yield _indexed(root, spans, thresholds, False, callers)
                continue
            spans.extend(_under(root, span) for span in adopted)
            for span in adopted:
                spans.extend(below for below in _reachable(span, self._children) if below is not span)
            yield build_run(root, spans, thresholds, incomplete=True, callers=callers)

    def callers(self) -> Iterator[str]:
        """The spans, of other processes, below which the runs are."""
        seen: set[str] = set()
        for span in self._roots:
            while span.span_id not in seen:
                seen.add(span.span_id)
                parent = None if span.remote_parent else self._local.get(span.parent_id or "")
                if parent is None and span.parent_id:
                    yield span.parent_id
                span = parent or span


def _tops(local: Mapping[str, SpanRecord], children: Children) -> Iterator[SpanRecord]:
    """The spans with no parent in this process, and of each circle of parents (broken data) the earliest."""
    seen: set[str] = set()
    for span in local.values():
        if span.remote_parent or span.parent_id not in local or span.parent_id == span.span_id:
            seen.update(below.span_id for below in _reachable(span, children))
            yield span
    if len(seen) < len(local):
        for span in sorted(local.values(), key=attrgetter("start_ns")):
            if span.span_id not in seen:
                seen.update(below.span_id for below in _reachable(span, children))
                yield span


def _is_orphan(span: SpanRecord, of_trace: Container[str]) -> bool:
    """Did its parent, of this process, never arrive? A parent that another process of the trace has is remote."""
    return bool(span.parent_id) and not span.remote_parent and span.parent_id not in of_trace


def _adopted(roots: Sequence[SpanRecord], orphans: Iterable[SpanRecord]) -> dict[str, list[SpanRecord]]:
    """The orphans by the one run they happened in; where several were going on, nobody knows whose they are."""
    adopted: dict[str, list[SpanRecord]] = defaultdict(list)
    for span in orphans:
        around = [root for root in roots if root is not span and _encloses(root, span)]
        if len(around) == 1:
            adopted[around[0].span_id].append(span)
    return adopted


def _outermost_agents(tops: Iterable[SpanRecord], children: Children) -> Iterator[SpanRecord]:
    seen: set[str] = set()
    stack = list(tops)
    while stack:
        span = stack.pop()
        if span.kind in RUN_KINDS:
            yield span
        elif span.span_id not in seen:
            seen.add(span.span_id)
            stack.extend(children.get(span.span_id, ()))


def _without(spans: Iterable[SpanRecord], left_out: Iterable[SpanRecord]) -> list[SpanRecord]:
    ids = {span.span_id for span in left_out}
    return [span for span in spans if span.span_id not in ids]


def _encloses(root: SpanRecord, span: SpanRecord) -> bool:
    return root.start_ns <= span.start_ns and span.end_ns <= root.end_ns


def _under(root: SpanRecord, orphan: SpanRecord) -> SpanRecord:
    """A span whose parent never arrived, hung below the run it happened in."""
    return replace(orphan, parent_id=root.span_id)
