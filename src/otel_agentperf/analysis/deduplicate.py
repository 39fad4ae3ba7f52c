"""One call, one record: where two instrumentations describe the same call, the second becomes `other`.

An LLM span around LLM spans (a framework's around its client's) is not a call of its own: the innermost
counts, and so do its tokens. A tool, agent or workflow span inside one of the same name, made by another
instrumentation, is the same call seen twice: the outer one counts. Same name and same instrumentation is
recursion and stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..model import Kind, SpanRecord, Tokens

_NAMED: frozenset[Kind] = frozenset({"tool", "agent", "workflow"})
_BARRIERS: frozenset[Kind] = frozenset({"tool", "agent", "workflow", "llm", "embedding"})


def deduplicate(spans: Sequence[SpanRecord]) -> list[SpanRecord]:
    """The same spans in the same order, doubles with kind `other` and no tokens."""
    by_id = {span.span_id: span for span in spans}
    demoted: set[str] = set()
    gained: dict[str, SpanRecord] = {}
    for span in spans:
        outer = _nearest(span, by_id)
        if outer is None or outer.kind != span.kind:
            continue
        if span.kind in ("llm", "embedding"):
            demoted.add(outer.span_id)
            gained[span.span_id] = _tokens_from(outer, gained.get(span.span_id, span))
        elif span.kind in _NAMED and span.operation == outer.operation and span.scope != outer.scope:
            demoted.add(span.span_id)
            gained[outer.span_id] = _details_from(span, gained.get(outer.span_id, outer))
    return [
        replace(span, kind="other", tokens=Tokens()) if span.span_id in demoted else gained.get(span.span_id, span)
        for span in spans
    ]


def _nearest(span: SpanRecord, by_id: Mapping[str, SpanRecord]) -> SpanRecord | None:
    """The nearest ancestor that is a call; spans without a kind of their own are looked through."""
    seen = {span.span_id}
    above = by_id.get(span.parent_id or "")
    while above is not None and above.kind not in _BARRIERS and above.span_id not in seen:
        seen.add(above.span_id)
        above = by_id.get(above.parent_id or "")
    return above


def _tokens_from(outer: SpanRecord, inner: SpanRecord) -> SpanRecord:
    return inner if inner.tokens or not outer.tokens else replace(inner, tokens=outer.tokens)


def _details_from(inner: SpanRecord, outer: SpanRecord) -> SpanRecord:
    """The outer call with the arguments and result that only the inner span shows."""
    if outer.args is None:
        outer = replace(outer, args=inner.args, args_text=inner.args_text)
    if outer.result is None:
        outer = replace(outer, result=inner.result, result_text=inner.result_text)
    return outer
