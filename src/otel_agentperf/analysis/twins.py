"""Calls that two instrumentations tell side by side, brought one below the other.

Some instrumentations hang their spans below spans of their own, never below what is current, so two descriptions of
one call are not nested: both children of the agent, or in two trees that describe the same run. They are told by their
times: one lies within the other and lasts about as long. `deduplicate` then sees a call inside the same call, and what
is below either is below both.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..model import RUN_KINDS, Kind, SpanRecord, Tokens

_CALLS: frozenset[Kind] = RUN_KINDS | {"tool", "llm", "embedding", "retrieval"}
_HAIR_NS = 2_000_000
"""what a span may stick out of its twin: both are ended one after the other"""
_LONGER_NS = 50_000_000
_SHARE = 0.5
"""twins differ by at most so much: what one does before and after the other, imports included"""


@dataclass(eq=False)
class _Chain:
    """Descriptions of one call that are nested already, outer ones first."""

    members: list[SpanRecord] = field(default_factory=list)
    scopes: set[str] = field(default_factory=set)

    @property
    def top(self) -> SpanRecord:
        return self.members[0]

    @property
    def tokens(self) -> Tokens:
        return next((span.tokens for span in reversed(self.members) if span.tokens), Tokens())


def nest_twins(spans: Sequence[SpanRecord]) -> list[SpanRecord]:
    """The same spans in the same order, parents changed."""
    if len({span.scope for span in spans}) < 2:
        return list(spans)
    groups: dict[tuple[Kind, str], set[str]] = defaultdict(set)
    for span in spans:
        if span.kind in _CALLS:
            groups[span.kind, span.operation].add(span.scope)
    several = {group for group, scopes in groups.items() if len(scopes) > 1}
    if not several:
        return list(spans)
    above: dict[str, str] = {}
    by_id = {span.span_id: span for span in spans}
    for chains in _chains(spans, several):
        for inner, outer in _paired(chains).items():
            if not _is_below(outer, inner, by_id, above):
                above[inner] = outer
    return [replace(span, parent_id=above[span.span_id]) if span.span_id in above else span for span in spans]


def _is_below(span_id: str, top: str, by_id: Mapping[str, SpanRecord], above: Mapping[str, str]) -> bool:
    """A span that is made afterwards (LiteLLM's own) starts before the one that it is already below."""
    seen: set[str] = set()
    while span_id in by_id and span_id not in seen:
        if span_id == top:
            return True
        seen.add(span_id)
        span_id = above.get(span_id) or by_id[span_id].parent_id or ""
    return False


def _chains(spans: Sequence[SpanRecord], groups: set[tuple[Kind, str]]) -> Iterable[list[_Chain]]:
    """The chains of each group. Spans without a kind of their own are looked through."""
    by_id = {span.span_id: span for span in spans}
    chain_of: dict[str, _Chain] = {}
    found: dict[tuple[Kind, str], list[_Chain]] = defaultdict(list)
    for span in spans:  # outer ones first: they start first
        group = span.kind, span.operation
        if group not in groups:
            continue
        outer = _enclosing(span, by_id)
        same = outer is not None and (outer.kind, outer.operation) == group
        chain = chain_of.get(outer.span_id) if outer is not None and same else None
        if chain is None:
            chain = _Chain()
            found[group].append(chain)
        chain.members.append(span)
        chain.scopes.add(span.scope)
        chain_of[span.span_id] = chain
    return found.values()


def _enclosing(span: SpanRecord, by_id: Mapping[str, SpanRecord]) -> SpanRecord | None:
    seen = {span.span_id}
    above = by_id.get(span.parent_id or "")
    while above is not None and above.kind not in _CALLS and above.span_id not in seen:
        seen.add(above.span_id)
        above = by_id.get(above.parent_id or "")
    return above


def _paired(chains: list[_Chain]) -> dict[str, str]:
    """New parents by span id. The closest twins first, each of an instrumentation at most once."""
    above: dict[str, str] = {}
    chain_of = {id(chain): chain for chain in chains}
    for _, outer, inner in sorted(_candidates(chains), key=lambda pair: pair[0]):
        outer = _merged(outer, chain_of)
        if inner.top.span_id in above or outer is inner or inner.top.scope in outer.scopes:
            continue
        holder = next((span for span in reversed(outer.members) if _holds(span, inner.top)), outer.top)
        above[inner.top.span_id] = holder.span_id
        for span in outer.members:
            if span is not holder and span.parent_id == holder.span_id and _holds(inner.top, span):
                above[span.span_id] = next(it for it in reversed(inner.members) if _holds(it, span)).span_id
        outer.members = sorted([*outer.members, *inner.members], key=lambda span: (span.start_ns, -span.end_ns))
        outer.scopes |= inner.scopes
        chain_of[id(inner)] = outer
    return above


def _merged(chain: _Chain, chain_of: Mapping[int, _Chain]) -> _Chain:
    while chain_of[id(chain)] is not chain:
        chain = chain_of[id(chain)]
    return chain


def _candidates(chains: list[_Chain]) -> Iterator[tuple[int, _Chain, _Chain]]:
    """(difference in ns, outer, inner) of chains that may be twins."""
    ordered = sorted(chains, key=lambda chain: chain.top.start_ns)
    starts = [chain.top.start_ns for chain in ordered]
    for inner in ordered:
        span = inner.top
        first = bisect_left(starts, span.start_ns - _longest_difference(span.duration_ns))
        last = bisect_right(starts, span.start_ns + _HAIR_NS)
        for outer in ordered[first:last]:
            if span.scope not in outer.scopes and _may_be_twins(outer, inner):
                yield _difference(outer.top, span), outer, inner


def _may_be_twins(outer: _Chain, inner: _Chain) -> bool:
    one, other = outer.top, inner.top
    if one.duration_ns < other.duration_ns or not _holds(one, other) or one.start_ns >= other.end_ns:
        return False
    if (one.duration_ns == other.duration_ns) and (one.start_ns, one.span_id) > (other.start_ns, other.span_id):
        return False  # of two that look the same, one is the outer
    if one.duration_ns - other.duration_ns > _longest_difference(other.duration_ns):
        return False
    if outer.tokens and inner.tokens and _pair(outer.tokens) != _pair(inner.tokens):
        return False
    known = one.args_text is not None and other.args_text is not None
    return not known or one.kind != "tool" or one.args_text == other.args_text


def _pair(tokens: Tokens) -> tuple[int | None, int | None]:
    return tokens.input, tokens.output


def _longest_difference(duration_ns: int) -> int:
    return max(_LONGER_NS, int(duration_ns * (1 / _SHARE - 1)))


def _difference(outer: SpanRecord, inner: SpanRecord) -> int:
    return abs(inner.start_ns - outer.start_ns) + abs(outer.end_ns - inner.end_ns)


def _holds(outer: SpanRecord, inner: SpanRecord) -> bool:
    return outer.start_ns - _HAIR_NS <= inner.start_ns and inner.end_ns <= outer.end_ns + _HAIR_NS
