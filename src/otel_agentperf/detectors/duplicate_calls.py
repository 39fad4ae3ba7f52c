"""The same call with the same arguments and the same result, made again."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from ..model import AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import ids, seconds, severity, total_s

REPLACED_BY = frozenset({"agent_loop", "ineffective_cache"})

_REPEATABLE: frozenset[Kind] = frozenset({"tool", "db", "http", "retrieval", "embedding", "mcp", "llm"})
_EMPTY = frozenset({"{}", "[]", '""'})
_WORD = re.compile(r"[a-z]+|[A-Z][a-z]*|\d+")
_TABLE = re.compile(r"\b(?:from|join|into|update|table)\s+[`\"\[]?([\w.]+)", re.IGNORECASE)
_VOLATILE = frozenset("""poll wait watch ping sleep await statu heartbeat progres now time clock random uuid""".split())
"""words (without a final s) in the name of a call that is meant to be asked again"""

Key = tuple[str, Kind, str, str]


def detect(run: AgentRun) -> Iterable[Finding]:
    """Successful calls of one agent with equal arguments, and equal results where they are known. Silent when any
    result differs (polling), when something of the same resource was written in between, and where arguments
    are hidden."""
    repeats: dict[Key, list[Sequence[SpanRecord]]] = defaultdict(list)
    writes = _Writes(run)
    for (agent, kind, operation, _), calls in _same_calls(run).items():
        for group in writes.split(calls):
            if len(group) > 1:
                repeats[agent, kind, operation, ""].append(group)
    for groups in repeats.values():
        yield _finding(run, groups)


def _same_calls(run: AgentRun) -> dict[Key, list[SpanRecord]]:
    """Calls by agent, operation and arguments; only groups that could be duplicates worth a closer look."""
    groups: dict[Key, list[SpanRecord]] = defaultdict(list)
    for span in run.spans:
        if span.kind in _REPEATABLE and span.args is not None and span.error is None and not span.mutating:
            groups[run.agents[span.span_id], span.kind, span.operation, span.args].append(span)
    return {key: calls for key, calls in groups.items() if len(calls) > 1 and _are_repeats(calls)}


def _are_repeats(calls: Sequence[SpanRecord]) -> bool:
    known = {span.result for span in calls if span.result is not None}
    if len(known) > 1 or _VOLATILE & _words(calls[0].operation):
        return False
    # A sampled generation, or a call that takes nothing, may well answer differently each time.
    return bool(known) or (calls[0].kind != "llm" and calls[0].args not in _EMPTY)


class _Writes:
    """The calls of a run that change something, to tell whether one lies between two reads."""

    def __init__(self, run: AgentRun) -> None:
        self._spans = [span for span in run.spans if span.mutating or _is_cache_write(span)]
        self._starts = [span.start_ns for span in self._spans]

    def split(self, calls: Sequence[SpanRecord]) -> Iterator[list[SpanRecord]]:
        """The calls, cut where something of the same resource was written."""
        group = [calls[0]]
        for call in calls[1:]:
            if self._between(group[-1], call):
                yield group
                group = []
            group.append(call)
        yield group

    def _between(self, earlier: SpanRecord, later: SpanRecord) -> bool:
        first, last = (bisect_left(self._starts, span.start_ns) for span in (earlier, later))
        return any(_same_resource(write, later) for write in self._spans[first:last])


def _is_cache_write(span: SpanRecord) -> bool:
    return span.cache is not None and span.cache.operation != "get"


def _same_resource(write: SpanRecord, read: SpanRecord) -> bool:
    """Could the write change what the read returns? Yes where the trace cannot rule it out."""
    if write.kind != read.kind:
        return False
    if write.kind == "db":
        tables = _tables(write), _tables(read)
        return not all(tables) or bool(tables[0] & tables[1])
    if write.kind == "http":
        return _host(write) == _host(read)
    if write.args_text is None or read.args_text is None:
        return True
    nouns = _words(write.operation) & _words(read.operation)
    return bool(nouns or _words(write.args_text) & _words(read.args_text))


def _tables(span: SpanRecord) -> set[str]:
    return {table.lower() for table in _TABLE.findall(span.operation)}


def _host(span: SpanRecord) -> str:
    return "/".join(span.operation.split("/")[:3])


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower().rstrip("s") for word in _WORD.findall(text))


def _finding(run: AgentRun, groups: Sequence[Sequence[SpanRecord]]) -> Finding:
    calls = [span for group in groups for span in group]
    repeats = [span for group in groups for span in group[1:]]
    longest = max(len(group) for group in groups)
    warn_at = run.threshold("duplicate_calls.warning", 3)
    wasted = total_s(repeats)
    name, kind = calls[0].operation, calls[0].kind
    same = "arguments and result" if all(span.result is not None for span in calls) else "arguments"
    return Finding(
        kind="duplicate_calls",
        severity=severity(run, wasted) if longest >= warn_at else "info",
        operation=name,
        calls=len(calls),
        wasted_s=wasted,
        evidence=ids(calls),
        threshold=f"≥2 calls with the same {same}, nothing written in between",
        recommend=lambda saving: (
            f"{name} was called {len(calls)} times where {len(calls) - len(repeats)} would do (same {same}): keep the "
            f"first result, or cache this {kind} call; that saves {seconds(saving)}."
        ),
        change=Change(drop=frozenset(span.span_id for span in repeats)),
    )
