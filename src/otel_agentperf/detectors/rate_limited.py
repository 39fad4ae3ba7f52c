"""Waiting out a limit: a service refused a call, and nothing was done until it was asked again."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from statistics import median
from typing import NamedTuple

from ..model import RUN_KINDS, AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import ids, named, seconds, severity
from ._idle import Idle, total_ns

TITLE = "waiting out a rate limit"
SAVES_TIME = True
THRESHOLDS = frozenset({"wait_s"})
Key = tuple[str, Kind, str]
"""span id of the agent, kind, operation"""
_SHORTEST_TURN_NS = 200_000_000


class _Wait(NamedTuple):
    failed: SpanRecord
    again: SpanRecord
    holders: Sequence[SpanRecord]
    """the spans around either call, up to and with the one around both: whose own time lies between the calls"""
    idle_ns: int
    """how much of the time between the calls the run waited for the holders themselves"""

    @property
    def between_ns(self) -> int:
        return self.again.start_ns - self.failed.end_ns


Chain = Sequence[_Wait]
"""the failed attempts of a call, each with the attempt after it"""


def detect(run: AgentRun) -> Iterable[Finding]:
    """A call refused with 429, 503, a throttling error or Retry-After, and the idle gap on the critical path until
    the same call is made again. Silent where nobody tried again or waited, where a model decided to try again, and
    where most of the time went to failures of another kind."""
    found: dict[tuple[str, Kind, str], list[_Wait]] = defaultdict(list)
    for waits in _limited(run):
        name = named(run, waits[0].failed)
        found[run.agent_of(name.span_id), name.kind, name.operation].extend(waits)
    for waits in found.values():
        least = run.threshold("rate_limited.wait_s", 0.1, waits[0].failed)
        if sum(wait.idle_ns for wait in waits) >= least * 1e9:
            yield _finding(run, waits, least)


def _limited(run: AgentRun) -> Iterator[Chain]:
    """Of each chain of attempts the waits after refusals, where these took most of the time lost."""
    idle = Idle(run)
    waited: set[str] = set()
    chains = [one for attempts in _attempts(run).values() for one in _chains(run, attempts, idle)]
    # An attempt inside an attempt (the request of a model call) is refused together with it.
    for links in sorted(chains, key=lambda links: links[0].failed.start_ns):
        if any(above.span_id in waited for above in run.ancestors(links[0].failed)):
            continue
        waits = [link for link in links if link.failed.refused and _is_idle(run, link)]
        lost = sum(wait.failed.duration_ns + wait.idle_ns for wait in waits)
        others = sum(link.failed.duration_ns + link.idle_ns for link in links if not link.failed.refused)
        if waits and lost >= others:
            waited.update(wait.failed.span_id for wait in waits)
            yield waits


def _attempts(run: AgentRun) -> Mapping[Key, list[SpanRecord]]:
    """The calls of which at least one was refused, by start."""
    keys = {_key(run, span) for span in run.spans if span.refused and span.kind != "other"}
    attempts: dict[Key, list[SpanRecord]] = defaultdict(list)
    for span in run.spans if keys else ():
        key = _key(run, span)
        if key in keys:
            attempts[key].append(span)
    return attempts


def _key(run: AgentRun, span: SpanRecord) -> Key:
    return run.agents.get(span.parent_id or "", ""), span.kind, span.operation


def _chains(run: AgentRun, attempts: Sequence[SpanRecord], idle: Idle) -> Iterable[Chain]:
    """Each failed attempt with the one after it; those that lead to one another."""
    following = _Following(attempts)
    going: dict[str, list[_Wait]] = {}
    usual: list[int] = []
    for span in attempts:
        again = following.after(span)
        if again is None:
            continue
        wait = _wait(run, span, again, idle)
        if span.error is None and not span.refused:
            usual.append(wait.idle_ns)
        else:
            going.setdefault(again.span_id, []).extend([*going.pop(span.span_id, ()), wait])
    # With hidden arguments these may be the items of a loop, which waits as long when nothing was refused.
    paced = 2 * median(usual) if usual else 0
    return [links for links in going.values() if all(map(_is_same, links)) or max(map(_idle_ns, links)) > paced]


class _Following:
    """Finds the next attempt: the first one made when an attempt had ended, and with its arguments; some clients
    show what they were given only where it worked."""

    def __init__(self, attempts: Sequence[SpanRecord]) -> None:
        self._attempts: dict[str | None, list[SpanRecord]] = defaultdict(list)
        for span in attempts:
            self._attempts[span.args].append(span)
        self._all = attempts

    def after(self, span: SpanRecord) -> SpanRecord | None:
        if span.args is None:
            return _first_after(self._all, span)
        found = (_first_after(self._attempts.get(args, ()), span) for args in (span.args, None))
        return min((again for again in found if again), key=attrgetter("start_ns"), default=None)


def _first_after(attempts: Sequence[SpanRecord], span: SpanRecord) -> SpanRecord | None:
    index = bisect_left(attempts, span.end_ns, key=attrgetter("start_ns"))
    # One without any length starts when it ends.
    return next((other for other in attempts[index : index + 2] if other is not span), None)


def _is_same(wait: _Wait) -> bool:
    """Are both attempts known to be the same call?"""
    return wait.failed.args is not None and wait.failed.args == wait.again.args


def _idle_ns(wait: _Wait) -> int:
    return wait.idle_ns


def _wait(run: AgentRun, failed: SpanRecord, again: SpanRecord, idle: Idle) -> _Wait:
    around = {span.span_id: span for span in run.ancestors(again)}
    holders = []
    for above in run.ancestors(failed):
        holders.append(above)
        if above.span_id in around:
            break
    common = holders[-1] if holders else run.root
    for above in run.ancestors(again):
        if above is common:
            break
        holders.append(above)
    idle_ns = sum(idle.between(holder, failed.end_ns, again.start_ns) for holder in holders)
    return _Wait(failed, again, holders, idle_ns)


def _is_idle(run: AgentRun, wait: _Wait) -> bool:
    """Was the time between the attempts spent waiting, and not on other calls or a model's turn (which the trace of
    an agent does not always show)?"""
    owner = run.by_id[run.agents.get(wait.failed.parent_id or "", run.root.span_id)]
    untraced = wait.again.asked and owner.kind in RUN_KINDS and owner.span_id not in run.thinking
    if untraced and wait.between_ns >= _SHORTEST_TURN_NS:
        return False
    return 2 * wait.idle_ns >= wait.between_ns


def _finding(run: AgentRun, waits: Sequence[_Wait], least: float) -> Finding:
    calls = {span.span_id: span for wait in waits for span in (wait.failed, wait.again)}
    # A model call or tool that tried again by itself was slow for no other reason.
    around = {holder.span_id: holder for wait in waits for holder in wait.holders if _is_call(holder)}
    name = named(run, waits[0].failed).operation
    refused = list(dict.fromkeys(wait.failed.error or "refused" for wait in waits))
    idle_s = total_ns((wait.failed.end_ns, wait.again.start_ns) for wait in waits) / 1e9
    wasted = total_ns((wait.failed.start_ns, wait.again.start_ns) for wait in waits) / 1e9
    asked = [wait.failed.retry_after_s for wait in waits if wait.failed.retry_after_s is not None]
    told = f" (the service asked for {seconds(sum(asked))})" if len(asked) == len(waits) else ""
    return Finding(
        kind="rate_limited",
        severity=severity(run, wasted),
        operation=name,
        calls=len(calls),
        wasted_s=wasted,
        evidence=ids([*calls.values(), *around.values()]),
        threshold=f"refused (429, 503, throttled, Retry-After), and ≥{seconds(least)} idle until the next attempt",
        recommend=lambda saving: (
            f"{name} was refused {_times(len(waits))} ({', '.join(refused[:3])}), and {seconds(idle_s)} went by until "
            f"it was tried again{told}: stay below the limit (fewer, larger or slower requests, a limiter of your "
            f"own) or have it raised; that saves {seconds(saving)}."
        ),
        change=Change(
            drop=frozenset(_dropped(run, wait).span_id for wait in waits),
            gaps=tuple(
                (holder.span_id, wait.failed.end_ns, wait.again.start_ns) for wait in waits for holder in wait.holders
            ),
        ),
    )


def _is_call(span: SpanRecord) -> bool:
    return span.kind not in RUN_KINDS and span.kind != "other"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _dropped(run: AgentRun, wait: _Wait) -> SpanRecord:
    """The failed attempt with the steps, and failed calls, around it alone."""
    kept = {span.span_id for span in chain([run.root], run.ancestors(wait.again))}
    top = wait.failed
    for above in run.ancestors(top):
        alone = len(run.children.get(above.span_id, ())) == 1 and (above.kind == "other" or above.error is not None)
        if above.span_id in kept or not alone:
            break
        top = above
    return top
