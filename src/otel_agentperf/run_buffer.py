"""Collects ended spans until their run ends: bounded by runs, spans a run, spans of all runs, and age.

Spans are sorted into buckets as they start, so that a run's spans are at hand when it ends and nothing is
searched for: one bucket for each local root, and one for each agent that starts in a bucket without one.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

_MOST_OF_ALL = 20
"""times as many spans of all open runs together as of one: 200,000 by default, which take about 0.2 GB"""


@dataclass(slots=True, eq=False)
class Bucket:
    """The spans of one run that may be, below `root_id`."""

    root_id: int
    is_run: bool
    """its root is known to be an agent or workflow"""
    orphan: bool = False
    """its root's parent is of this process, but was never seen: it is late, or came from elsewhere"""
    outer: Bucket | None = None
    root: Any = None
    """the live span of a local root, until it ends: a run that is open at the end is reported even where the program
    has lost its span"""
    mark: Any = None
    """the caller's: what the process had used when the root started"""
    records: list[Any] = field(default_factory=list)
    """`SpanRecord`, or what becomes one where classifying can wait until the run ends"""
    members: list[int] = field(default_factory=list)
    """ids of its spans, open or ended"""
    nested: list[Bucket] = field(default_factory=list)
    """runs that ended below this local root"""
    has_runs: bool = False
    """runs ended below it, whether or not they are kept in `nested`"""
    dropped: int = 0
    closed: bool = False
    size: int = 0

    @property
    def open_spans(self) -> int:
        """of its own spans, how many have not ended"""
        return len(self.members) - len(self.records)

    def spans(self) -> list[Any]:
        """All ended spans below the root, those of nested runs included."""
        found = list(self.records)
        for bucket in self.nested:
            found.extend(bucket.spans())
        return found


@dataclass(slots=True, eq=False)
class _Trace:
    started: float
    open_spans: dict[int, Callable[[], Any]] = field(default_factory=dict)
    """references to the live spans, weak ones: what the program lost without ending it may hold megabytes"""
    open_agents: set[int] = field(default_factory=set)
    buckets: dict[int, Bucket] = field(default_factory=dict)
    """of the spans of its open buckets, open or ended, by span id"""
    open_runs: int = 0
    """buckets below a local root"""
    rest: Bucket | None = None
    """spans that outlived a local root which is no run: a late agent may be among them"""
    size: int = 0
    """spans that are kept of it, open or ended"""


class RunBuffer:
    """Open traces of this process. Thread-safe; a fork leaves the child an empty one."""

    def __init__(self, max_runs: int = 1_000, max_spans: int = 10_000, max_age_s: float = 3_600.0,
                 clock: Callable[[], float] = time.monotonic) -> None:  # fmt: skip
        self._max_runs = max_runs
        self._max_spans = max_spans
        self._most = _MOST_OF_ALL * max_spans
        self._max_age_s = max_age_s
        self._clock = clock
        self._traces: dict[int, _Trace] = {}
        self._size = 0
        # Re-entrant: a signal handler that traces may interrupt us on the thread that holds it.
        self._lock = RLock()
        self._forked = False
        self.dropped: dict[str, int] = {}
        """spans lost by reason: late (their run had ended), orphan (below no known span), full, old"""
        _at_fork(self)

    def started(self, trace_id: int, span_id: int, parent_id: int | None, span: Any, is_agent: bool) -> Bucket | None:
        """A span has started; `parent_id` is None for a root or a remote parent. Its bucket, None where that is
        full."""
        with self._lock:
            trace = self._traces.get(trace_id) or self._new_trace(trace_id)
            bucket = trace.buckets.get(parent_id)  # type: ignore[arg-type]  # None is nobody's id
            if bucket is None or is_agent:
                bucket = self._bucket(trace, span_id, parent_id, bucket, is_agent)
                if bucket.outer is None and bucket.root_id == span_id:
                    bucket.root = span
            size = bucket.size
            if size >= self._max_spans or (self._size >= self._most and not self._make_room(trace_id)):
                bucket.dropped += 1
                self._drop("full")
                return None
            bucket.size = size + 1
            trace.size += 1
            self._size += 1
            bucket.members.append(span_id)
            trace.buckets[span_id] = bucket
            trace.open_spans[span_id] = weakly(span)
            if is_agent:
                trace.open_agents.add(span_id)
            return bucket

    def ended(self, trace_id: int, span_id: int, record: object) -> Bucket | None:
        """A span has ended: its bucket with the record in it, or None when it came too late."""
        with self._lock:
            trace = self._traces.get(trace_id)
            if trace is None or trace.open_spans.pop(span_id, None) is None:
                return None
            trace.open_agents.discard(span_id)
            if not trace.open_spans:
                self._remove(trace_id)
            bucket = trace.buckets[span_id]
            bucket.records.append(record)
            if bucket.orphan and not bucket.is_run:
                self._drop("orphan")
            return bucket

    def close(self, trace_id: int, bucket: Bucket) -> None:
        """The bucket's root has ended: what is still open is late. Its spans stay with the local root above it, which
        may yet turn out to be an agent, as long as there is room."""
        with self._lock:
            bucket.closed = True
            bucket.root = None
            trace = self._traces.get(trace_id)
            if trace is not None:
                self._release(trace, bucket)
            is_kept = self._is_kept(bucket)
            if trace is None:
                return
            if not is_kept:
                freed = min(bucket.size, trace.size)
                trace.size -= freed
                self._size -= freed
            if not trace.open_spans:
                self._remove(trace_id)

    def is_open(self, trace_id: int, span_id: int) -> bool:
        """Has the span started and not ended?"""
        trace = self._traces.get(trace_id)
        return trace is not None and span_id in trace.open_spans

    def has_open_runs(self, trace_id: int) -> bool:
        """Is a run going on below the local root, or one of them? It may end a little after that."""
        trace = self._traces.get(trace_id)
        return trace is not None and trace.open_runs > 0

    def open_agents(self) -> set[tuple[int, int]]:
        """The agents that are running, by trace and span id."""
        with self._lock:
            return {(trace_id, span_id) for trace_id, trace in self._traces.items() for span_id in trace.open_agents}

    def open_ancestors(self, trace_id: int, parent_id: int | None) -> Iterator[Any]:
        """The live spans above, nearest first, as far as they are open. They end also where span ids that are used
        twice lead in a circle."""
        trace = self._traces.get(trace_id)
        if trace is None:
            return
        for _ in range(len(trace.open_spans)):
            reference = None if parent_id is None else trace.open_spans.get(parent_id)
            span = None if reference is None else reference()
            if span is None:
                return
            yield span
            parent = span.parent
            parent_id = None if parent is None or parent.is_remote else parent.span_id

    def drain(self) -> list[tuple[Bucket, list[Any]]]:
        """Everything that never ended, at the process's end: buckets with their open spans, those that are alive."""
        with self._lock:
            left: dict[int, tuple[Bucket, list[Any]]] = {}
            for trace in self._traces.values():
                for span_id, reference in trace.open_spans.items():
                    bucket, span = trace.buckets[span_id], reference()
                    alive = left.setdefault(id(bucket), (bucket, []))[1]
                    if span is not None:
                        alive.append(span)
            self._traces.clear()
            self._size = 0
            return list(left.values())

    def __len__(self) -> int:
        return len(self._traces)

    def _new_trace(self, trace_id: int) -> _Trace:
        trace = self._traces[trace_id] = _Trace(self._clock())
        oldest = next(iter(self._traces))
        if len(self._traces) > self._max_runs:
            self._forget(oldest, "full")
        elif trace.started - self._traces[oldest].started > self._max_age_s:
            self._forget(oldest, "old")
        return trace

    def _bucket(
        self, trace: _Trace, span_id: int, parent_id: int | None, outer: Bucket | None, is_agent: bool
    ) -> Bucket:
        if outer is None and parent_id is not None and trace.buckets:
            outer = next(iter(trace.buckets.values()))  # its parent was not kept; the trace is known
        if outer is None:
            return Bucket(span_id, is_agent, orphan=parent_id is not None and not self._forked)
        if is_agent and not outer.is_run and trace.open_runs < self._max_runs:
            trace.open_runs += 1
            return Bucket(span_id, True, outer=outer)
        return outer

    def _make_room(self, trace_id: int) -> bool:
        """For one more span: the oldest trace gives way. False where that is the span's own: then the span does."""
        oldest = next(iter(self._traces))
        if oldest == trace_id:
            return False
        self._forget(oldest, "full")
        return True

    def _is_kept(self, bucket: Bucket) -> bool:
        """Hand a closed bucket to the local root above it, if there is one that has room."""
        outer = bucket.outer
        if outer is None or outer.closed:
            return False
        outer.has_runs = True
        if outer.size + bucket.size > self._max_spans:
            outer.dropped += bucket.size
            return False
        outer.nested.append(bucket)
        outer.size += bucket.size
        return True

    def _forget(self, trace_id: int, reason: str) -> None:
        self._drop(reason, len(self._remove(trace_id).buckets))

    def _remove(self, trace_id: int) -> _Trace:
        trace = self._traces.pop(trace_id)
        self._size -= trace.size
        return trace

    def _release(self, trace: _Trace, bucket: Bucket) -> None:
        """Forget the spans of a closed bucket, so that a trace which goes on for days does not grow."""
        trace.open_runs -= bucket.outer is not None
        if bucket.open_spans:
            self._drop("late", bucket.open_spans)
            if not bucket.is_run and trace.rest is None:
                trace.rest = Bucket(0, False)
        for span_id in bucket.members:
            if not bucket.is_run and span_id in trace.open_spans and self._keep(trace, span_id):
                continue
            trace.buckets.pop(span_id, None)
            trace.open_spans.pop(span_id, None)
            trace.open_agents.discard(span_id)

    def _keep(self, trace: _Trace, span_id: int) -> bool:
        rest = trace.rest
        if rest is None or rest.size >= self._max_spans:
            return False
        rest.size += 1
        trace.size += 1
        self._size += 1
        rest.members.append(span_id)
        trace.buckets[span_id] = rest
        return True

    def _drop(self, reason: str, spans: int = 1) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + spans

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork_in_parent(self) -> None:
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        # The parent's open spans end in the parent; here they would never end.
        self._traces.clear()
        self._size = 0
        self._forked = True
        self._lock.release()


def weakly(thing: Any) -> Callable[[], Any]:
    """A reference to `thing` that does not keep it alive, unless it has no place for one."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


def _at_fork(buffer: RunBuffer) -> None:
    """Fork with our lock held by us, so that the child never finds it held by a thread it has not got."""
    if not hasattr(os, "register_at_fork"):
        return
    reference = weakref.ref(buffer)

    def call(method: Callable[[RunBuffer], None]) -> Callable[[], None]:
        def hook() -> None:
            alive = reference()
            if alive is not None:
                method(alive)

        return hook

    os.register_at_fork(
        before=call(RunBuffer._before_fork),
        after_in_parent=call(RunBuffer._after_fork_in_parent),
        after_in_child=call(RunBuffer._after_fork_in_child),
    )
