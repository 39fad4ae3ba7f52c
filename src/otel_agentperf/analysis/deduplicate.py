"""One call, one record: where two instrumentations describe the same call, the second becomes `other`.

An LLM span around LLM spans (a framework's around its client's) is not a call of its own: the innermost
counts, and so do its tokens. A tool, agent or workflow span inside one of the same name, made by another
instrumentation, is the same call seen twice: the outer one counts. But a tool span around several is what
tries again, and they are the calls. Same name and same instrumentation is recursion and stays, except for an agent that
does nothing but run an agent of its name: OpenLLMetry traces LangGraph's agents so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from ..model import RUN_KINDS, Kind, SpanRecord, Tokens
from .twins import nest_twins

_NAMED: frozenset[Kind] = frozenset({"tool", "agent", "workflow"})
_MODEL: frozenset[Kind] = frozenset({"llm", "embedding"})
_BARRIERS: frozenset[Kind] = _NAMED | _MODEL
_MCP_CALL = "tools/call "
"""what the conventions for MCP have the span of a tool call be named with, on either side"""

_RETELLERS = frozenset({"litellm"})
"""scopes whose span of a model call is made when the call is over, beside those that it had itself"""

Doubles = list[tuple[SpanRecord, list[SpanRecord]]]
"""(outer span, the spans directly inside it that describe the same call), inner ones before outer ones"""


def deduplicate(spans: Sequence[SpanRecord]) -> list[SpanRecord]:
    """The same spans in the same order, doubles with kind `other` and no tokens."""
    spans = nest_twins(_without_logs(spans))
    found = _doubles(spans)
    if not found:
        return list(spans)
    demoted = {span.span_id for outer, inner in found for span in inner if _is_retold(outer, span)}
    kept = [(outer, [span for span in inner if not _is_retold(outer, span)]) for outer, inner in found]
    doubles = [(outer, inner) for outer, inner in kept if inner]
    known: dict[str, SpanRecord] = {}
    for outer, inner in doubles:
        if outer.kind in _MODEL or (len(inner) > 1 and _tries_again(outer)):
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


def _without_logs(spans: Sequence[SpanRecord]) -> Sequence[SpanRecord]:
    """Logfire says in a message after a streamed answer what it cost: no call of its own, and its tokens are those of
    the call before."""
    logs = [span for span in spans if span.kind == "llm" and not span.duration_ns and span.scope.startswith("logfire.")]
    changed = {log.span_id: replace(log, kind="other", tokens=Tokens(), double=True) for log in logs}
    for log in logs:
        calls = [
            span
            for span in spans
            if (span.parent_id, span.scope, span.operation) == (log.parent_id, log.scope, log.operation)
            and span.span_id not in changed
            and not span.tokens
            and span.start_ns <= log.start_ns
        ]
        if calls:
            changed[calls[-1].span_id] = replace(calls[-1], tokens=log.tokens)
    return [changed.get(span.span_id, span) for span in spans] if changed else spans


def _is_retold(outer: SpanRecord, inner: SpanRecord) -> bool:
    return outer.kind in _MODEL and inner.scope in _RETELLERS and outer.scope not in _RETELLERS


def _doubles(spans: Sequence[SpanRecord]) -> Doubles:
    inside: dict[str, list[SpanRecord]] = {}
    outer_spans: list[SpanRecord] = []
    children = lru_cache(maxsize=1)(partial(_children, spans))
    for span, outer, served in _with_enclosing_call(spans):
        if outer is not None and (_same_call(outer, span, children) or _serves(span, outer, served)):
            if outer.span_id not in inside:
                outer_spans.append(outer)
            inside.setdefault(outer.span_id, []).append(span)
    return [(outer, inside[outer.span_id]) for outer in reversed(outer_spans)]


def _children(spans: Sequence[SpanRecord]) -> Counter[str | None]:
    """How many each span has, without those that are its own double by another instrumentation."""
    by_id = {span.span_id: span for span in spans}

    def counts(span: SpanRecord) -> bool:
        above = by_id.get(span.parent_id or "")
        same = above is not None and (above.kind, above.operation) == (span.kind, span.operation)
        return not (same and above is not None and above.scope != span.scope)

    return Counter(span.parent_id for span in spans if counts(span))


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
        below = children.get(span.span_id)
        if below:
            stack.extend([(child, nearest, served) for child in below])


def _same_call(outer: SpanRecord, inner: SpanRecord, children: Callable[[], Counter[str | None]]) -> bool:
    """`children`: how many each span has."""
    if outer.kind in _MODEL or outer.kind != inner.kind or outer.operation != inner.operation:
        return outer.kind == inner.kind and outer.kind in _MODEL
    is_only_step = outer.kind in RUN_KINDS and inner.parent_id == outer.span_id and children()[outer.span_id] == 1
    return outer.scope != inner.scope or is_only_step


def _serves(inner: SpanRecord, outer: SpanRecord, served: bool) -> bool:
    """A tool on an MCP server, told by the client or by a server in the same process."""
    if not (inner.kind == outer.kind == "tool") or not (served or inner.name.startswith(_MCP_CALL)):
        return False
    if inner.operation == outer.operation:
        return True
    # Frameworks put the server's name before the tool's, Claude Code as `mcp__server__tool`. A tool of the user's own
    # may ask another one, too, and be named after it; but seldom with the very same arguments.
    before = outer.operation.removesuffix(inner.operation)
    is_prefix = before != outer.operation and not before[-1:].isalnum()
    same_args = inner.args is not None and inner.args == outer.args
    return is_prefix and (same_args or before.startswith("mcp__"))


def _tries_again(outer: SpanRecord) -> bool:
    """Are several calls inside this one its attempts? A call over MCP asks again only to answer the server."""
    return outer.kind == "tool" and not outer.name.startswith(_MCP_CALL)


def _hand_down_tokens(doubles: Doubles, known: dict[str, SpanRecord]) -> None:
    """Tokens that only an outer model span tells go to the last call inside it, once."""
    for outer, inner in reversed(doubles):
        told = known.get(outer.span_id, outer).tokens
        if outer.kind in _MODEL and told and not any(span.tokens for span in inner):
            last = max(inner, key=lambda span: span.end_ns)
            known[last.span_id] = replace(last, tokens=told)


def _details_from(inner: SpanRecord, outer: SpanRecord) -> SpanRecord:
    """The outer call with the arguments, result and failure that only the inner span shows."""
    # A framework may have made the tool's error an answer for the model before its own span ended.
    if outer.error is None and outer.kind == "tool":
        outer = replace(outer, error=inner.error)
    # Not what it depends on: that was compared with the inner span's siblings.
    if outer.args is None:
        outer = replace(outer, args=inner.args, args_text=inner.args_text)
    if outer.result is None:
        outer = replace(outer, result=inner.result, result_text=inner.result_text, shown_size=inner.shown_size)
    if outer.result_size is None:
        outer = replace(outer, result_size=inner.result_size)
    return outer
