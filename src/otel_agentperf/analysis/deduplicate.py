"""One call, one record: where two instrumentations describe the same call, the second becomes `other`.

An LLM span around LLM spans (a framework's around its client's) is not a call of its own: the innermost
counts, and so do its tokens. A tool, agent or workflow span inside one of the same name, made by another
instrumentation, is the same call seen twice: the outer one counts. But a tool span around several is what
tries again, and they are the calls. Same name and same instrumentation is recursion and stays, except for an agent that
does nothing but run an agent of its name: OpenLLMetry traces LangGraph's agents so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..model import RUN_KINDS, Kind, SpanRecord, Tokens

_NAMED: frozenset[Kind] = frozenset({"tool", "agent", "workflow"})
_MODEL: frozenset[Kind] = frozenset({"llm", "embedding"})
_BARRIERS: frozenset[Kind] = _NAMED | _MODEL

Doubles = list[tuple[SpanRecord, list[SpanRecord]]]
"""(outer span, the spans directly inside it that describe the same call), inner ones before outer ones"""


def deduplicate(spans: Sequence[SpanRecord]) -> list[SpanRecord]:
    """The same spans in the same order, doubles with kind `other` and no tokens."""
    doubles = _doubles(spans)
    if not doubles:
        return list(spans)
    demoted: set[str] = set()
    known: dict[str, SpanRecord] = {}
    for outer, inner in doubles:
        if outer.kind in _MODEL or (outer.kind == "tool" and len(inner) > 1):
            demoted.add(outer.span_id)
        else:
            demoted.update(span.span_id for span in inner)
            for span in inner:
                known[outer.span_id] = _details_from(known.get(span.span_id, span), known.get(outer.span_id, outer))
    _hand_down_tokens(doubles, known)
    return [
        replace(span, kind="other", tokens=Tokens(), double=span.kind not in RUN_KINDS)
        if span.span_id in demoted
        else known.get(span.span_id, span)
        for span in spans
    ]


def _doubles(spans: Sequence[SpanRecord]) -> Doubles:
    inside: dict[str, list[SpanRecord]] = {}
    outer_spans: list[SpanRecord] = []
    siblings = Counter(span.parent_id for span in spans)
    for span, outer, served in _with_enclosing_call(spans):
        if outer is not None and (_same_call(outer, span, siblings[outer.span_id]) or _serves(span, outer, served)):
            if outer.span_id not in inside:
                outer_spans.append(outer)
            inside.setdefault(outer.span_id, []).append(span)
    return [(outer, inside[outer.span_id]) for outer in reversed(outer_spans)]


def _with_enclosing_call(spans: Sequence[SpanRecord]) -> Iterator[tuple[SpanRecord, SpanRecord | None, bool]]:
    """Each span with the nearest call above it, and whether a request to an MCP server lies between; outer spans
    first. Spans without a kind of their own are looked through."""
    by_id = {span.span_id: span for span in spans}
    children: dict[str, list[SpanRecord]] = defaultdict(list)
    for span in spans:
        children[span.parent_id or ""].append(span)
    tops = (span for span in spans if span.parent_id not in by_id)
    stack: list[tuple[SpanRecord, SpanRecord | None, bool]] = [(span, None, False) for span in tops]
    while stack:
        span, outer, served = stack.pop()
        yield span, outer, served
        nearest, served = (span, False) if span.kind in _BARRIERS else (outer, served or span.kind == "mcp")
        stack.extend((child, nearest, served) for child in children.get(span.span_id, ()))


def _same_call(outer: SpanRecord, inner: SpanRecord, children: int) -> bool:
    """`children`: how many the outer span has."""
    if outer.kind in _MODEL or outer.kind != inner.kind or outer.operation != inner.operation:
        return outer.kind == inner.kind and outer.kind in _MODEL
    is_only_step = outer.kind in RUN_KINDS and children == 1 and inner.parent_id == outer.span_id
    return outer.scope != inner.scope or is_only_step


def _serves(inner: SpanRecord, outer: SpanRecord, served: bool) -> bool:
    """A tool on an MCP server in the same process, seen from the server's side."""
    return served and inner.kind == outer.kind == "tool" and inner.operation == outer.operation


def _hand_down_tokens(doubles: Doubles, known: dict[str, SpanRecord]) -> None:
    """Tokens that only an outer model span tells go to the last call inside it, once."""
    for outer, inner in reversed(doubles):
        told = known.get(outer.span_id, outer).tokens
        if outer.kind in _MODEL and told and not any(span.tokens for span in inner):
            last = max(inner, key=lambda span: span.end_ns)
            known[last.span_id] = replace(last, tokens=told)


def _details_from(inner: SpanRecord, outer: SpanRecord) -> SpanRecord:
    """The outer call with the arguments and result that only the inner span shows."""
    # Not what it depends on: that was compared with the inner span's siblings.
    if outer.args is None:
        outer = replace(outer, args=inner.args, args_text=inner.args_text)
    if outer.result is None:
        outer = replace(outer, result=inner.result, result_text=inner.result_text, shown_size=inner.shown_size)
    if outer.result_size is None:
        outer = replace(outer, result_size=inner.result_size)
    return outer
