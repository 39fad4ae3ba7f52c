"""Which calls of a stretch need which earlier ones, directly or by way of calls in between."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import attrgetter

from .._visible import distinctive_values, holds, searchable
from ..model import SpanRecord
from ._writes import Writes

_MOST_COMPARED = 50
"""calls looked back at; those before are taken not to be needed"""

Relation = bool | None
"""True: needs it. None: the trace cannot tell."""


class Needs:
    """Follows dependence through every call of the stretch: the one that passes a result on may be mutating,
    computing, failed or overlapped, and so no candidate itself."""

    def __init__(self, spans: Sequence[SpanRecord], writes: Writes) -> None:
        self._by_end = sorted(spans, key=attrgetter("end_ns"))
        self._writes = writes
        self._values: dict[str, tuple[str, ...] | None] = {}
        self._texts: dict[str, tuple[str, str]] = {}
        self._direct: dict[tuple[str, str], Relation] = {}
        self._surely: dict[str, tuple[SpanRecord, ...]] = {}
        self._known: dict[str, Mapping[str, Relation]] = {}

    def needs(self, later: SpanRecord, earlier: SpanRecord) -> Relation:
        """Must the later call wait for the earlier one?"""
        if later.span_id not in self._known:
            self._known[later.span_id] = self._follow(later)
        relations = self._known[later.span_id]
        return relations[earlier.span_id] if earlier.span_id in relations else self._directly(later, earlier)

    def _follow(self, later: SpanRecord) -> Mapping[str, Relation]:
        """What the call needs of those that had ended before it, by their span id: from the last to the first, so
        that all ways to a call are known when it is looked at."""
        before = self._ended_before(later)
        relations = {span.span_id: self._directly(later, span) for span in before}
        places = {span.span_id: place for place, span in enumerate(before)}
        for index in range(len(before) - 1, 0, -1):
            span = before[index]
            relation = relations[span.span_id]
            if relation is False:
                continue
            # Two links that nobody can tell are no sign of a chain.
            for needed in before[:index] if relation else self._surely_needed(span):
                if needed.end_ns > span.start_ns:
                    break
                if places.get(needed.span_id, index) < index:
                    link = _both(relation, self._directly(span, needed))
                    relations[needed.span_id] = _either(relations[needed.span_id], link)
        return relations

    def _surely_needed(self, span: SpanRecord) -> tuple[SpanRecord, ...]:
        """Those that had ended before the call and that it needs directly; mostly none."""
        if span.span_id not in self._surely:
            self._surely[span.span_id] = tuple(
                needed for needed in self._ended_before(span) if self._directly(span, needed) is True
            )
        return self._surely[span.span_id]

    def _ended_before(self, later: SpanRecord) -> list[SpanRecord]:
        place = bisect_right(self._by_end, later.start_ns, key=attrgetter("end_ns"))
        return [span for span in self._by_end[max(0, place - _MOST_COMPARED) : place] if span is not later]

    def _directly(self, later: SpanRecord, earlier: SpanRecord) -> Relation:
        pair = later.span_id, earlier.span_id
        if pair not in self._direct:
            self._direct[pair] = self._compare(later, earlier)
        return self._direct[pair]

    def _compare(self, later: SpanRecord, earlier: SpanRecord) -> Relation:
        if earlier.kind == "embedding" and later.kind != "embedding":
            return True  # the vector goes into what follows, though its span shows the question's text
        read, write = (earlier, later) if later.mutating else (later, earlier)
        if write.mutating and not read.mutating and not later.asked and self._writes.may_change(write, read):
            return True  # what is looked up before or after it is changed is in its place on purpose
        return self._holds_result(later, earlier)

    def _holds_result(self, later: SpanRecord, earlier: SpanRecord) -> Relation:
        if later.depends_on is not None:
            return earlier.span_id in later.depends_on
        values = self._given_values(later)
        if values is None or earlier.result_text is None:
            return None
        brought, given = self._searchable(earlier)
        return holds(values, brought, given)

    def _given_values(self, span: SpanRecord) -> tuple[str, ...] | None:
        if span.span_id not in self._values:
            self._values[span.span_id] = None if span.args_text is None else distinctive_values(span.args_text)
        return self._values[span.span_id]

    def _searchable(self, span: SpanRecord) -> tuple[str, str]:
        if span.span_id not in self._texts:
            self._texts[span.span_id] = searchable(span.result_text or ""), searchable(span.args_text or "")
        return self._texts[span.span_id]


def _either(one: Relation, other: Relation) -> Relation:
    if one is True or other is True:
        return True
    return None if None in (one, other) else False


def _both(one: Relation, other: Relation) -> Relation:
    if one is False or other is False:
        return False
    return True if one is True and other is True else None
