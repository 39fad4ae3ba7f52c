"""An agent that goes round in a circle: its model asks for the same calls again, and they bring nothing new."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..model import AgentRun, Finding, SpanRecord
from ._calls import ids, seconds, severity, total_s
from ._cycles import Cycle, cycles
from ._polling import is_meant_to_repeat, says_ask_again
from ._rounds import without
from ._writes import words

TITLE = "agent going in circles"
SAVES_TIME = True
THRESHOLDS = frozenset({"repeats", "steps"})
_EMPTY = frozenset({"{}", "[]", '""'})
_ACKNOWLEDGED = frozenset("""ok okay done succes successful statu true result finished completed""".split())
"""words (without a final s) of a result that says only that something was done"""


class _Round(NamedTuple):
    """Model calls, and then the calls they led to."""

    turns: list[SpanRecord]
    steps: list[SpanRecord]


class _Loop(NamedTuple):
    rounds: Sequence[_Round]
    """from the first repetition's first to the last"""
    times: int
    length: int

    @property
    def steps(self) -> list[SpanRecord]:
        return [step for each in self.rounds for step in each.steps]

    @property
    def again(self) -> list[SpanRecord]:
        """What would not happen if the loop ended after its first repetition."""
        return [span for each in self.rounds[self.length :] for span in (*each.turns, *each.steps)]


def detect(run: AgentRun) -> Iterable[Finding]:
    """≤8 calls with their arguments and results ≥3 times in a row, a model call before each repetition. Silent where
    arguments are hidden, where a result differs, for polling, for calls that only acknowledge, for what a program
    rather than a model decides, and for model calls alone: the same prompt again is sampling as often as not. Where
    results are hidden it is no more than information; where all the calls failed it is a `retry_storm`."""
    found: dict[tuple[str, tuple[str, ...]], list[_Loop]] = defaultdict(list)
    for owner, members in run.members.items() if run.thinking else ():
        for loop in _loops(run, run.by_id[owner], _rounds(members)):
            found[run.agent_of(owner), tuple(_names(loop))].append(loop)
    for loops in found.values():
        yield _finding(run, loops)


def _rounds(members: Iterable[SpanRecord]) -> list[_Round]:
    """Model calls without a call between them are of one round; those after the last call are an answer, and of
    none."""
    rounds: list[_Round] = []
    turns: list[SpanRecord] = []
    for span in members:
        if span.kind == "llm":
            turns.append(span)
        elif turns or not rounds:
            rounds.append(_Round(turns, [span]))
            turns = []
        else:
            rounds[-1].steps.append(span)
    return rounds


def _loops(run: AgentRun, owner: SpanRecord, rounds: Sequence[_Round]) -> Iterator[_Loop]:
    if len(rounds) < 2:
        return
    signs = [_sign(each) for each in rounds]
    operation = rounds[0].steps[0]
    longest = int(run.threshold("agent_loop.steps", 8, operation))
    for cycle in cycles(signs, longest, int(run.threshold("agent_loop.repeats", 3, operation))):
        loop = _Loop(rounds[cycle.start : cycle.end], cycle.times, cycle.length)
        first = [step for each in loop.rounds[: loop.length] for step in each.steps]
        if (
            len(first) <= longest
            and any(map(_tells, first))
            and _is_decided(owner, loop)
            and not _ends_in_news(rounds, cycle)
        ):
            yield loop


def _sign(each: _Round) -> object | None:
    """Equal for rounds that call the same and get the same, in whatever order; None equals nothing."""
    if any(step.args is None or is_meant_to_repeat(step) or says_ask_again(step) for step in each.steps):
        return None
    return tuple(sorted(map(repr, map(_call_and_outcome, each.steps))))


def _call_and_outcome(step: SpanRecord) -> tuple[object, ...]:
    return _call(step), _outcome(step)


def _call(step: SpanRecord) -> tuple[object, ...]:
    return step.kind, step.operation, step.args


def _outcome(step: SpanRecord) -> object | None:
    """What tells whether the call brought something new; None: hidden."""
    return step.error or step.result or step.result_size


def _tells(step: SpanRecord) -> bool:
    """Did a model ask for it to learn something? `scroll` and `save` may well be meant to happen again, and `ok` is
    what they always answer; a retrieval before each turn is the program's; a failure is tried again."""
    if step.error is not None or (step.kind == "retrieval" and not step.asked):
        return False
    told = step.result_text is not None and not words(step.result_text) <= _ACKNOWLEDGED
    return told or (step.result_text is None and not step.mutating and step.args not in _EMPTY)


def _is_decided(owner: SpanRecord, loop: _Loop) -> bool:
    """Did a model ask for the calls? In a workflow the program does, unless the calls say otherwise."""
    if owner.kind == "agent" or owner.chain:
        return True
    asked = {name for each in loop.rounds for turn in each.turns for name in turn.asks or ()}
    return all(step.asked or step.operation in asked for step in loop.steps)


def _ends_in_news(rounds: Sequence[_Round], cycle: Cycle) -> bool:
    """Did the same call bring something else right before or after? Then it was waited for."""
    neighbours = ((cycle.start - 1, cycle.start - 1 + cycle.length), (cycle.end, cycle.end - cycle.length))
    for beside, inside in neighbours:
        if 0 <= beside < len(rounds):
            usual = {_call(step): _outcome(step) for step in rounds[inside].steps}
            if any(_call(step) in usual and _outcome(step) != usual[_call(step)] for step in rounds[beside].steps):
                return True
    return False


def _names(loop: _Loop) -> list[str]:
    return list(dict.fromkeys(step.operation for each in loop.rounds[: loop.length] for step in each.steps))


def _finding(run: AgentRun, loops: Sequence[_Loop]) -> Finding:
    steps = [step for loop in loops for step in loop.steps]
    again = [span for loop in loops for span in loop.again]
    known = all(_outcome(step) is not None for step in steps)
    wasted = total_s(again)
    names, times = _names(loops[0]), max(loop.times for loop in loops)
    listed = ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
    same = "arguments and results" if known else "arguments (the results are hidden)"
    return Finding(
        kind="agent_loop",
        severity=severity(run, wasted) if known else "info",
        operation=names[0],
        calls=len(steps),
        wasted_s=wasted,
        evidence=ids(span for loop in loops for each in loop.rounds for span in (*each.turns, *each.steps)),
        threshold=f"the same calls ≥{int(run.threshold('agent_loop.repeats', 3, steps[0]))} times in a row, "
        "a model turn before each",
        recommend=lambda saving: (
            f"the model asked for {listed} {times} times in a row with the same {same}: end the loop after the first "
            f"time (a limit of steps, or an answer that says what is missing); that saves {seconds(saving)}."
        ),
        change=without(run, [loop.again for loop in loops]),
    )
