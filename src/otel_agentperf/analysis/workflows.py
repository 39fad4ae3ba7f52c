"""Frameworks' chains: the outermost one around a model, a tool or an agent is a workflow, the others are steps.

OpenInference calls a crew, a graph, a node of the graph and a retrieval pipeline all `CHAIN`; only their place tells
them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..model import RUN_KINDS, Kind, SpanRecord

_CALLS: frozenset[Kind] = frozenset({"llm", "tool", "agent", "workflow"})


def with_workflows(
    local: Mapping[str, SpanRecord], children: Mapping[str, Sequence[SpanRecord]]
) -> Mapping[str, SpanRecord]:
    """The spans of one process by id, its outermost chains with kind `workflow`."""
    if not any(span.chain for span in local.values()):
        return local
    found = {span.span_id: replace(span, kind="workflow") for span in _outermost_chains(local, children)}
    return {**local, **found}


def _outermost_chains(
    local: Mapping[str, SpanRecord], children: Mapping[str, Sequence[SpanRecord]]
) -> Iterator[SpanRecord]:
    """Those with a call below and neither a chain nor an agent above."""
    stack = [span for span in local.values() if span.remote_parent or local.get(span.parent_id or "", span) is span]
    while stack:
        span = stack.pop()
        if span.kind in RUN_KINDS:
            continue
        if not span.chain:
            stack.extend(children.get(span.span_id, ()))
        elif _holds_call(span, children):
            yield span


def _holds_call(top: SpanRecord, children: Mapping[str, Sequence[SpanRecord]]) -> bool:
    stack = list(children.get(top.span_id, ()))
    while stack:
        span = stack.pop()
        if span.kind in _CALLS:
            return True
        stack.extend(children.get(span.span_id, ()))
    return False
