"""Prompts that swell turn by turn: all that was said before is sent again with each call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..model import AgentRun, Finding, SpanRecord
from ._calls import ids
from ._prompts import Talk, is_conversation, talks
from ._rounds import JITTER_NS

TITLE = "prompts that keep growing"
THRESHOLDS = frozenset({"calls", "factor", "tokens"})
_CACHED = 2 / 3
"""share of the later prompts that the provider's cache made cheap"""


def detect(run: AgentRun) -> Iterable[Finding]:
    """≥3 calls of one model in one invocation of an agent whose input tokens rise, to ≥2 times the first and ≥4,000.
    Where they fall, the history was cut, and a new series begins. Silent for calls that do not go on from each other,
    and where the provider's cache held most of it. No time is claimed: what a longer prompt costs in time is small
    beside what the answer does, and a trace seldom shows it."""
    for (agent, model), invocations in talks(run).items():
        series = [calls for talk in invocations for calls in _growing(run, talk)]
        if series:
            yield _finding(run, agent, model, series)


def _growing(run: AgentRun, talk: Talk) -> Iterator[list[SpanRecord]]:
    for places in _rising(talk.calls):
        calls = [talk.calls[place] for place in places]
        if _swells(run, calls) and is_conversation(talk, places):
            yield calls


def _rising(calls: Sequence[SpanRecord]) -> Iterator[list[int]]:
    """The places of calls in sequence whose prompts do not get shorter. One far shorter than all of them, between
    two, is a question on the side (a title, a check)."""
    known = [place for place, call in enumerate(calls) if call.tokens.input is not None]
    current: list[int] = []
    for index, place in enumerate(known):
        after = calls[known[index + 1]] if index + 1 < len(known) else None
        if current and _is_aside(calls[current[0]], calls[current[-1]], calls[place], after):
            continue
        if current and not _follows(calls[current[-1]], calls[place]):
            yield current
            current = []
        current.append(place)
    yield current


def _is_aside(first: SpanRecord, before: SpanRecord, span: SpanRecord, after: SpanRecord | None) -> bool:
    return 2 * _input(span) < _input(first) and after is not None and _input(after) >= _input(before)


def _follows(earlier: SpanRecord, later: SpanRecord) -> bool:
    return _input(later) >= _input(earlier) and later.start_ns >= earlier.end_ns - JITTER_NS


def _swells(run: AgentRun, calls: Sequence[SpanRecord]) -> bool:
    if len(calls) < run.threshold("context_growth.calls", 3, calls[0] if calls else None):
        return False
    sizes = [_input(call) for call in calls]
    read = sum(call.tokens.cache_read or 0 for call in calls[1:])
    return (
        sizes[-1] >= run.threshold("context_growth.factor", 2, calls[0]) * sizes[0]
        and sizes[-1] >= run.threshold("context_growth.tokens", 4000, calls[0])
        and read < _CACHED * sum(sizes[1:])
    )


def _input(span: SpanRecord) -> int:
    return span.tokens.input or 0


def _finding(run: AgentRun, agent: str, model: str, series: Sequence[Sequence[SpanRecord]]) -> Finding:
    calls = [call for each in series for call in each]
    steepest = max(series, key=lambda each: _input(each[-1]) - _input(each[0]))
    first, last, count = _input(steepest[0]), _input(steepest[-1]), len(steepest)
    excess = sum(_input(call) - _input(each[0]) for each in series for call in each)
    factor = run.threshold("context_growth.factor", 2, calls[0])
    least = run.threshold("context_growth.tokens", 4000, calls[0])
    return Finding(
        kind="context_growth",
        severity="warning" if 2 * excess >= sum(map(_input, calls)) else "info",
        operation=model,
        calls=len(calls),
        wasted_s=0.0,
        evidence=ids(calls),
        threshold=f"input tokens rise to ≥{factor:g} times the first call's and ≥{least:,.0f}",
        recommend=lambda saving: (
            f"the prompts of {agent} to {model} grew from {first:,} to {last:,} tokens in {count} calls, {excess:,} "
            "tokens more than if none had been longer than the first: keep what is needed of earlier turns and results "
            "(a summary, a window, a reference), or put the unchanging part first and let the provider cache it."
        ),
    )
