"""CPU, memory or a connection pool is full. Claims no time: no trace tells how fast it would be otherwise."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from ..model import AgentRun, Finding, FullCpu, Kind, ResourceUsage, SpanRecord
from ._calls import ids, seconds

TITLE = "CPU, memory or a pool is full"
THRESHOLDS = frozenset({"cpu", "cpu_s", "cpu_share", "db_spans", "memory"})
_REMOTE: frozenset[Kind] = frozenset({"llm", "embedding", "retrieval", "http", "db", "mcp", "cache"})
_LEAST_DB_NS = 10_000_000
"""so many database calls open for less than this is a quick fan-out that a pool copes with"""


def detect(run: AgentRun) -> Iterable[Finding]:
    """The process's cores ≥90 % busy for ≥0.5 s and ≥20 % of the run while the critical path worked; its memory ≥90 %
    of the limit; or ≥10 database calls of one agent open at one moment. Silent where none of it was measured."""
    usage = run.root.usage
    if usage is not None:
        yield from _cpu(run, usage)
        yield from _memory(run, usage)
    for calls in _database_calls(run).values():
        yield from _database(run, calls)


def _cpu(run: AgentRun, usage: ResourceUsage) -> Iterator[Finding]:
    share = run.threshold("resource_saturation.cpu", 0.9, run.root)
    full = sorted(
        (stretch for stretch in usage.full_cpu if max(stretch.own, stretch.machine) >= share),
        key=lambda stretch: stretch.start_ns,
    )
    busy = _on_path(run, full)
    total, duration = sum(busy.values()) / 1e9, run.root.duration_s
    least = max(
        run.threshold("resource_saturation.cpu_s", 0.5, run.root),
        run.threshold("resource_saturation.cpu_share", 0.2, run.root) * duration,
    )
    if not busy or total < least:
        return
    name = run.by_id[max(busy, key=lambda span_id: busy[span_id])].operation
    own, cores = max(stretch.own for stretch in full), usage.cores
    whose = "this process" if own >= share else f"all programs of the machine ({own:.0%} by this process)"
    # Others' work may or may not have slowed this one down; its own it surely wanted more room for.
    sure = own >= share and 2 * total >= duration
    room = f"{cores:g} core{'s' if cores != 1 else ''}" if cores else "cores"
    yield Finding(
        kind="resource_saturation",
        severity="warning" if sure else "info",
        operation=name,
        calls=len(busy),
        wasted_s=0.0,
        evidence=ids(run.by_id[span_id] for span_id in busy),
        threshold=f"CPU ≥{share:.0%} of the {room} for ≥{seconds(least)} on the critical path",
        recommend=lambda saving: (
            f"The {room} were full, by {whose}, for {seconds(total)} of the critical path, mostly in {name}: give it "
            f"more cores, spread the work over more machines, or make it cheaper."
        ),
    )


def _on_path(run: AgentRun, full: Sequence[FullCpu]) -> dict[str, int]:
    """Nanoseconds of the critical path in which the cores were full, by span; without those that waited for others."""
    found: dict[str, int] = defaultdict(int)
    index = 0
    for segment in run.path:
        while index < len(full) and full[index].start_ns + full[index].duration_ns <= segment.start_ns:
            index += 1
        if _waits(segment.span):
            continue
        for stretch in full[index:]:
            if stretch.start_ns >= segment.end_ns:
                break
            end = min(stretch.start_ns + stretch.duration_ns, segment.end_ns)
            found[segment.span.span_id] += max(0, end - max(stretch.start_ns, segment.start_ns))
    return {span_id: taken for span_id, taken in found.items() if taken}


def _waits(span: SpanRecord) -> bool:
    """A call that another machine works on, unless its CPU time says that the work is done here."""
    return span.kind in _REMOTE and not (span.cpu_ns and 2 * span.cpu_ns >= span.duration_ns)


def _memory(run: AgentRun, usage: ResourceUsage) -> Iterator[Finding]:
    share = run.threshold("resource_saturation.memory", 0.9, run.root)
    peak, limit = usage.memory_peak_mb, usage.memory_limit_mb
    if peak is None or not limit or peak < share * limit:
        return
    name = run.root.operation
    yield Finding(
        kind="resource_saturation",
        severity="warning",
        operation=name,
        calls=1,
        wasted_s=0.0,
        evidence=(run.root.span_id,),
        threshold=f"memory ≥{share:.0%} of the limit",
        recommend=lambda saving: (
            f"{name} ran at {peak:,.0f} MB of the {limit:,.0f} MB of memory that its process may use "
            f"({peak / limit:.0%}): beyond it the process is killed; raise the limit, or keep less at a time."
        ),
    )


def _database_calls(run: AgentRun) -> dict[tuple[str, str], list[SpanRecord]]:
    """By agent and instrumentation (one for each database library); a call inside another one is part of it."""
    calls: dict[tuple[str, str], list[SpanRecord]] = defaultdict(list)
    for span in run.spans:
        if span.kind == "db" and span.duration_ns:
            above = run.by_id.get(span.parent_id or "")
            if above is None or above.kind != "db":
                calls[run.agents[span.span_id], span.scope].append(span)
    return calls


def _database(run: AgentRun, calls: Sequence[SpanRecord]) -> Iterator[Finding]:
    least = int(run.threshold("resource_saturation.db_spans", 10, calls[0]))
    if len(calls) < least:
        return
    peak, crowded_ns = _most_open(calls, least)
    if len(peak) < least or crowded_ns < _LEAST_DB_NS:
        return
    name, count = Counter(span.operation for span in peak).most_common(1)[0][0], len(peak)
    yield Finding(
        kind="resource_saturation",
        severity="warning" if count >= 2 * least else "info",
        operation=name,
        calls=count,
        wasted_s=0.0,
        evidence=ids(peak),
        threshold=f"≥{least} database calls open at one moment",
        recommend=lambda saving: (
            f"{count} database calls were open at one moment, mostly {name}: as many connections are taken, or they "
            f"wait for one; batch them, or limit how many run at a time to the size of the pool."
        ),
    )


def _most_open(calls: Sequence[SpanRecord], least: int) -> tuple[list[SpanRecord], int]:
    """The calls that are open at the fullest moment, and for how long `least` or more are."""
    # An end comes before a start at the same time: the connection is free again.
    moments = sorted((moment, change) for span in calls for moment, change in ((span.start_ns, 1), (span.end_ns, -1)))
    now_open = most = fullest = crowded_ns = since = 0
    for moment, change in moments:
        if now_open >= least:
            crowded_ns += moment - since
        since = moment
        now_open += change
        if now_open > most:
            most, fullest = now_open, moment
    return [span for span in calls if span.start_ns <= fullest < span.end_ns], crowded_ns
