"""Too much data moved: a call that takes or gives very much, or a result that fills the next prompt."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from ..model import RUN_KINDS, AgentRun, Finding, Kind, SpanRecord
from ._calls import ids
from ._rounds import JITTER_NS

TITLE = "too much data moved"
THRESHOLDS = frozenset({"bytes", "share", "tokens"})
_MOVERS: frozenset[Kind] = frozenset({"tool", "http", "db", "mcp", "cache", "retrieval"})
_FED_BACK: frozenset[Kind] = frozenset({"tool", "mcp", "retrieval"})
_BYTES_A_TOKEN = 4
_GREW = 0.25
"""share of a result by which the prompt must at least have grown for the result to be in it"""


class _Payload(NamedTuple):
    span: SpanRecord
    size: int
    """bytes"""
    prompt: SpanRecord | None = None
    """the model call that the result fills; None: it is large by itself"""

    @property
    def share(self) -> float:
        """Of the prompt."""
        return self.size / _BYTES_A_TOKEN / (self.prompt.tokens.input or 1) if self.prompt else 0.0


def detect(run: AgentRun) -> Iterable[Finding]:
    """Calls that take or give >300 kB, and tool results of ≥2,000 tokens that make up ≥25 % of the agent's next
    prompt. What a call does inside (the tool's request) is part of it, and the request of a model call is its prompt.
    Silent for sizes that the trace does not tell, and for a result that never got into a prompt. Claims no time."""
    by_operation: dict[tuple[str, Kind, str], dict[str, _Payload]] = defaultdict(dict)
    for payload in (*_filling(run), *_large(run)):
        span = payload.span
        by_operation[run.agent_of(span.span_id), span.kind, span.operation].setdefault(span.span_id, payload)
    for payloads in by_operation.values():
        yield _finding(run, list(payloads.values()))


def _large(run: AgentRun) -> Iterator[_Payload]:
    inside: set[str] = set()
    for span in run.walk():
        moved = max(_given(span), _taken(span)) if span.kind in _MOVERS else 0
        is_large = moved > run.threshold("oversized_payload.bytes", 300_000, span)
        within = span.parent_id in inside and span.kind not in RUN_KINDS
        if within or span.kind in ("llm", "embedding") or is_large:
            inside.add(span.span_id)
        if is_large and not within:
            yield _Payload(span, moved)


def _given(span: SpanRecord) -> int:
    """Bytes of the result. To `HEAD` a server tells the size of what it does not send."""
    if span.kind == "http" and span.name.startswith("HEAD"):
        return 0
    told = span.shown_size if span.result_size is None else span.result_size
    return told or 0


def _taken(span: SpanRecord) -> int:
    return span.args_size or 0


def _filling(run: AgentRun) -> Iterator[_Payload]:
    for members in run.members.values() if run.thinking else ():
        turns = [span for span in members if span.kind == "llm" and span.error is None]
        for span in members:
            ended = max(span.start_ns, span.end_ns - JITTER_NS)
            after = bisect_left(turns, ended, key=attrgetter("start_ns"))
            if span.kind in _FED_BACK and after < len(turns):
                payload = _Payload(span, _given(span), turns[after])
                if _fills(run, payload, turns[after - 1] if after else None):
                    yield payload


def _fills(run: AgentRun, payload: _Payload, before: SpanRecord | None) -> bool:
    assert payload.prompt is not None
    tokens, prompt = payload.size / _BYTES_A_TOKEN, payload.prompt.tokens.input
    if not prompt or tokens < run.threshold("oversized_payload.tokens", 2000, payload.span):
        return False
    known = before.tokens.input if before else None
    grew = prompt - (known or 0)
    return payload.share >= run.threshold("oversized_payload.share", 0.25, payload.span) and grew >= _GREW * tokens


def _finding(run: AgentRun, payloads: Sequence[_Payload]) -> Finding:
    spans = [payload.span for payload in payloads]
    worst = max(payloads, key=attrgetter("size"))
    fullest = max(payloads, key=attrgetter("share"))
    name, total = worst.span.operation, sum(payload.size for payload in payloads)
    share = run.threshold("oversized_payload.share", 0.25, worst.span)
    size = run.threshold("oversized_payload.bytes", 300_000, worst.span)
    is_serious = worst.size > size or fullest.share >= 2 * share
    filled = f", {fullest.share:.0%} of the next prompt" if fullest.prompt else ""
    return Finding(
        kind="oversized_payload",
        severity="warning" if is_serious else "info",
        operation=name,
        calls=len(payloads),
        wasted_s=0.0,
        evidence=ids(spans),
        threshold=f">{_kilobytes(size)}, or a tool result of ≥{share:.0%} of the next prompt",
        recommend=lambda saving: (
            f"{name} moved up to {_kilobytes(worst.size)} in one call{filled}, {_kilobytes(total)} in {len(spans)} "
            "in all: ask for the fields and rows that are needed, page through the rest, or pass a reference."
        ),
    )


def _kilobytes(size: float) -> str:
    return f"{size / 1e3:,.0f} kB" if size >= 1e3 else f"{size:.0f} bytes"
