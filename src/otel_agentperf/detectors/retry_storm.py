"""Time lost in failed attempts of the same call."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..model import AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import ids, is_turn, named, seconds, severity, total_s, unwrapped

TITLE = "time lost in retries"
SAVES_TIME = True
REPLACED_BY = frozenset({"rate_limited"})
THRESHOLDS = frozenset({"attempts", "share"})

Key = tuple[Kind, str, str | None]
"""kind, operation, arguments"""


class _Attempt(NamedTuple):
    call: SpanRecord
    step: SpanRecord
    """the parent's own child that the call is, or that is a framework's step around it"""
    turn: int
    """model turns before it"""


Chain = Sequence[_Attempt]
"""attempts in time order; all but the last failed"""


def detect(run: AgentRun) -> Iterable[Finding]:
    """A failed attempt followed by another of the same call: ≥3 attempts, or failed time ≥10 % of the run. One
    quick retry that helped is silent, and so are failures of different items of a loop."""
    chains: dict[tuple[str, str, str], list[Chain]] = defaultdict(list)
    if all(span.error is None for span in run.spans):
        return
    for parent, children in run.children.items():
        for chain in _chains(run, children):
            call = named(run, chain[0].call)
            chains[run.agents[parent], call.kind, call.operation].append(chain)
    for found in chains.values():
        finding = _finding(run, found)
        if finding:
            yield finding


def _chains(run: AgentRun, siblings: Sequence[SpanRecord]) -> list[Chain]:
    sequences = list(_sequences(run, siblings))
    hidden = Counter(_place(chain) for chain in sequences if chain[0].call.args is None)
    # With hidden arguments, one sequence is a call tried again; several are as likely the items of a loop.
    return [chain for chain in sequences if len(chain) > 1 and (hidden[_place(chain)] <= 1 or _is_model(chain))]


def _place(chain: Chain) -> tuple[str, int]:
    return chain[0].call.operation, chain[0].turn


def _is_model(chain: Chain) -> bool:
    return chain[0].call.kind == "llm"


def _sequences(run: AgentRun, siblings: Sequence[SpanRecord]) -> Iterator[Chain]:
    """The calls of each operation and argument, each sequence up to and with its first success."""
    going: dict[Key, list[_Attempt]] = {}
    turns = 0
    for step in siblings:
        call = _attempted(run, step)
        if is_turn(run, step):
            turns += 1
            # After a model turn only known arguments show that it is the same call again.
            for key in [key for key in going if key[2] is None and key[1] != call.operation]:
                yield going.pop(key)
        if call.kind == "other":
            continue
        key = _key(call, going)
        attempts = going.setdefault(key, [])
        if attempts and step.start_ns < attempts[-1].step.end_ns:
            continue  # at the same time is not again
        attempts.append(_Attempt(call, step, turns))
        if call.error is None:
            yield going.pop(key)
    yield from going.values()


def _attempted(run: AgentRun, step: SpanRecord) -> SpanRecord:
    """The call that a framework's step holds; a model's, too, where each attempt has a node of its own."""
    call = unwrapped(run, step)
    while call.kind == "other" and len(run.children.get(call.span_id, ())) == 1 and is_turn(run, call):
        (call,) = run.children[call.span_id]
    return call if call.kind != "other" else step


def _key(call: SpanRecord, going: Container[Key]) -> Key:
    """Some instrumentations show the arguments of a call only when it has succeeded: unknown is not different."""
    hidden = (call.kind, call.operation, None)
    told = (call.kind, call.operation, call.args)
    return hidden if hidden in going and told not in going else told


def _finding(run: AgentRun, chains: Sequence[Chain]) -> Finding | None:
    first = chains[0][0].call
    least = int(run.threshold("retry_storm.attempts", 3, first))
    share = run.threshold("retry_storm.share", 0.1, first)
    if total_s(attempt.call for chain in chains for attempt in chain[:-1]) < share * run.root.duration_s:
        chains = [chain for chain in chains if len(chain) >= least]
    if not chains:
        return None
    wasted = sum(chain[-1].step.start_ns - chain[0].step.start_ns for chain in chains) / 1e9
    calls = [attempt.call for chain in chains for attempt in chain]
    failed = [call for call in calls if call.error is not None]
    name, errors = named(run, calls[0]).operation, ", ".join(sorted({call.error or "error" for call in failed}))
    return Finding(
        kind="retry_storm",
        severity=severity(run, wasted, first),
        operation=name,
        calls=len(calls),
        wasted_s=wasted,
        evidence=ids(calls),
        threshold=f"≥{least} attempts, or failed attempts ≥{share:.0%} of the run",
        recommend=lambda saving: (
            f"{name} failed {len(failed)} times ({errors}) in {len(calls)} attempts: mend the cause, or fail "
            f"fast and fall back; the failed attempts and the waits between them cost {seconds(saving)}."
        ),
        change=_without_failures(chains),
    )


def _without_failures(chains: Sequence[Chain]) -> Change:
    return Change(
        drop=frozenset(attempt.step.span_id for chain in chains for attempt in chain[:-1]),
        # What happened to end in between was not waited for: the last attempt could have been the first. But a
        # model's turn in between was, since it decided to try again.
        parallel=tuple(
            (chain[0].step.span_id, chain[-1].step.span_id) for chain in chains if chain[0].turn == chain[-1].turn
        ),
        gaps=tuple(
            (later.step.parent_id or "", earlier.step.end_ns, later.step.start_ns)
            for chain in chains
            for earlier, later in pairwise(chain)
        ),
    )
