"""Time lost in failed attempts of the same call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from ..model import AgentRun, Change, Finding, SpanRecord
from ._calls import ids, is_turn, seconds, severity, total_s

Chain = Sequence[SpanRecord]
"""attempts in time order; all but the last failed"""


def detect(run: AgentRun) -> Iterable[Finding]:
    """A failed attempt followed by another of the same call: ≥3 attempts, or failed time ≥10 % of the run. One
    quick retry that helped is silent, and so are failures of different items of a loop."""
    chains: dict[tuple[str, str, str], list[Chain]] = defaultdict(list)
    for parent in run.spans:
        for chain in _chains(run, run.children.get(parent.span_id, ())):
            chains[run.agents[parent.span_id], chain[0].kind, chain[0].operation].append(chain)
    for found in chains.values():
        finding = _finding(run, found)
        if finding:
            yield finding


def _chains(run: AgentRun, siblings: Sequence[SpanRecord]) -> Iterator[Chain]:
    open_chains: dict[tuple[str, str, str | None], list[SpanRecord]] = {}
    for span in siblings:
        if is_turn(run, span):
            # After a model turn only known arguments show that it is the same call again.
            unknown = [key for key in open_chains if key[2] is None and key[1] != span.operation]
            for key in unknown:
                yield from _closed(open_chains.pop(key))
        if span.kind == "other":
            continue
        key = (span.kind, span.operation, span.args)
        chain = open_chains.setdefault(key, [])
        if chain and span.start_ns < chain[-1].end_ns:
            continue  # at the same time is not again
        chain.append(span)
        if span.error is None:
            yield from _closed(open_chains.pop(key))
    for chain in open_chains.values():
        yield from _closed(chain)


def _closed(chain: Chain) -> Iterator[Chain]:
    if len(chain) > 1:
        yield chain


def _finding(run: AgentRun, chains: Sequence[Chain]) -> Finding | None:
    least = int(run.threshold("retry_storm.attempts", 3))
    share = run.threshold("retry_storm.share", 0.1)
    failed = [span for chain in chains for span in chain[:-1]]
    if total_s(failed) < share * run.root.duration_s:
        chains = [chain for chain in chains if len(chain) >= least]
        failed = [span for chain in chains for span in chain[:-1]]
    if not chains:
        return None
    wasted = sum(chain[-1].start_ns - chain[0].start_ns for chain in chains) / 1e9
    attempts = [span for chain in chains for span in chain]
    name, errors = attempts[0].operation, ", ".join(sorted({span.error or "error" for span in failed}))
    return Finding(
        kind="retry_storm",
        severity=severity(run, wasted),
        operation=name,
        calls=len(attempts),
        wasted_s=wasted,
        evidence=ids(attempts),
        threshold=f"≥{least} attempts, or failed attempts ≥{share:.0%} of the run",
        recommend=lambda saving: (
            f"{name} failed {len(failed)} times ({errors}) in {len(attempts)} attempts: mend the cause, or fail "
            f"fast and fall back; the failed attempts and the waits between them cost {seconds(saving)}."
        ),
        change=Change(
            drop=frozenset(span.span_id for span in failed),
            gaps=tuple(
                (later.parent_id or "", earlier.end_ns, later.start_ns)
                for chain in chains
                for earlier, later in pairwise(chain)
            ),
        ),
    )
