"""Two agents that hand the same task back and forth, while nobody works on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from ..model import RUN_KINDS, AgentRun, Change, Finding, Kind, Severity, SpanRecord
from ._calls import ids, seconds, severity, total_s
from ._rounds import JITTER_NS, is_handoff, without

TITLE = "agents handing back and forth"
SAVES_TIME = True
THRESHOLDS = frozenset({"alternations"})
_TOOLS: frozenset[Kind] = frozenset({"tool", "mcp", "retrieval"})
_WORK: frozenset[Kind] = _TOOLS | {"http", "db"}


class _Visit(NamedTuple):
    """What one agent does until another has the task."""

    agent: str
    spans: list[SpanRecord]
    works: bool
    """a tool, other than one that hands over, succeeded"""
    hands_over: bool
    """the trace shows that it handed over"""

    @property
    def end_ns(self) -> int:
        return max(span.end_ns for span in self.spans)


class _Rally(NamedTuple):
    """Visits of two agents in turn."""

    visits: Sequence[_Visit]
    nested: bool
    """each calls the next one; otherwise they follow each other"""

    @property
    def alternations(self) -> int:
        return (len(self.visits) - 1) // 2

    @property
    def spans(self) -> list[SpanRecord]:
        return [span for visit in self.visits for span in visit.spans]


def detect(run: AgentRun) -> Iterable[Finding]:
    """A→B→A ≥3 times on end with no successful tool in between: agents that follow each other or call each other, or
    model calls of one agent's span that name other agents. Tools that hand over are no work. Where nothing shows a
    hand-over and no tool failed (a writer and its reviewer) it is no more than information."""
    found: dict[tuple[str, ...], list[_Rally]] = defaultdict(list)
    if not _several_speak(run):
        return
    signs = _Signs(run)
    for visits, nested in chain(_following(run, signs), _nested(run, signs)):
        for rally in _rallies(visits, nested):
            names = [visit.agent for visit in rally.visits[:2]]
            least = int(run.threshold("handoff_ping_pong.alternations", 3, rally.visits[0].spans[0]))
            if rally.alternations >= least:
                found[tuple(sorted(names))].append(rally)
    for rallies in found.values():
        yield _finding(run, rallies)


def _several_speak(run: AgentRun) -> bool:
    """From one to another and back takes three calls of agents or models."""
    return sum(span.kind in RUN_KINDS or span.kind == "llm" for span in run.spans) >= 3


class _Signs:
    """The ids of the spans in which somebody works or hands over, and of all spans above those."""

    def __init__(self, run: AgentRun) -> None:
        self._run = run
        self.work: set[str] = set()
        self.handoffs: set[str] = set()
        self.working_agents: set[str] = set()
        for span in run.outside_calls:
            if is_handoff(span.operation) or any(map(is_handoff, span.asks or ())):
                self._mark(span, self.handoffs)
            elif span.kind in _WORK and span.error is None:
                self._mark(span, self.work)
                self.working_agents.add(run.agents[span.span_id])

    def _mark(self, span: SpanRecord, marked: set[str]) -> None:
        for above in chain([span], self._run.ancestors(span)):
            if above.span_id in marked:
                return
            marked.add(above.span_id)


def _following(run: AgentRun, signs: _Signs) -> Iterator[tuple[list[_Visit], bool]]:
    """The visits below each agent, or the run's root, one after another; a new list where they overlap."""
    below: dict[str, list[SpanRecord]] = defaultdict(list)
    steps = _step_names(run)
    for span in run.outside_calls:
        if span is not run.root:
            below[_called_by(run, span)].append(span)
    for spans in below.values():
        spans.sort(key=lambda span: (span.start_ns, span.end_ns))
        if any(_is_agent(run, span) for span in spans):
            yield from ((visits, False) for visits in _in_sequence(_agents_visits(run, spans, signs)))
        else:
            yield _turns_visits(run, spans, signs, steps), False


def _called_by(run: AgentRun, span: SpanRecord) -> str:
    """The span id of the agent that it is a part of, or that called it where it is one itself."""
    return run.agents.get((span.parent_id or "") if _is_agent(run, span) else span.span_id, run.root.span_id)


def _is_agent(run: AgentRun, span: SpanRecord) -> bool:
    return run.agents[span.span_id] == span.span_id and span is not run.root


def _agents_visits(run: AgentRun, spans: Iterable[SpanRecord], signs: _Signs) -> Iterator[_Visit]:
    """One for each agent; what was done beside them is work that belongs to the agent before."""
    visit: _Visit | None = None
    for span in spans:
        if _is_agent(run, span):
            if visit:
                yield visit
            visit = _Visit(span.operation, [span], span.span_id in signs.work, span.span_id in signs.handoffs)
        elif visit and span.kind in _TOOLS:  # a query beside the agents is the framework's, which keeps its state
            works = visit.works or span.span_id in signs.work
            visit = visit._replace(works=works, hands_over=visit.hands_over or span.span_id in signs.handoffs)
        elif visit and span.span_id in signs.handoffs and span.kind == "other":
            visit = visit._replace(hands_over=True)
    if visit:
        yield visit


def _in_sequence(visits: Iterable[_Visit]) -> Iterator[list[_Visit]]:
    """Cut where an agent starts before the last one has ended; one that goes on by itself is the same visit."""
    current: list[_Visit] = []
    for visit in visits:
        if current and visit.spans[0].start_ns < current[-1].end_ns - JITTER_NS:
            yield current
            current = []
        if current and current[-1].agent == visit.agent:
            current[-1] = _joined(current[-1], visit)
        else:
            current.append(visit)
    yield current


def _joined(one: _Visit, other: _Visit) -> _Visit:
    """`one` with what `other` adds; its spans grow in place, so that a long visit costs no copies."""
    one.spans.extend(other.spans)
    return one._replace(works=one.works or other.works, hands_over=one.hands_over or other.hands_over)


def _turns_visits(run: AgentRun, spans: Iterable[SpanRecord], signs: _Signs, steps: Mapping[str, str]) -> list[_Visit]:
    """The model calls of one agent's span by the agent that each names, or, where all hand over, by the framework's
    step (the node of a graph) it is in."""
    named: list[_Visit] = []
    for span in spans:
        if span.kind == "llm":
            name = span.agent or steps[span.span_id]
            told = span.span_id in signs.handoffs
            visit = _Visit(name, [span], works=False, hands_over=told)
            if named and named[-1].agent == name:
                named[-1] = _joined(named[-1], visit)
            else:
                named.append(visit)
        elif named and (span.kind in _WORK or (span.span_id in signs.handoffs and not run.children.get(span.span_id))):
            more = _Visit("", [span], span.span_id in signs.work, span.span_id in signs.handoffs)
            named[-1] = _joined(named[-1], more)
    by_agent = all(span.agent for visit in named for span in visit.spans if span.kind == "llm")
    return named if by_agent or all(visit.hands_over for visit in named[:-1]) else []


def _step_names(run: AgentRun) -> Mapping[str, str]:
    """By span id: the outermost framework's step that a span is in, below its agent."""
    names: dict[str, str] = {}
    for span in run.walk():
        above = span.parent_id or ""
        names[span.span_id] = names.get(above) or (span.operation if span.kind == "other" else "")
        if run.agents[span.span_id] == span.span_id:
            names[span.span_id] = ""
    return names


def _nested(run: AgentRun, signs: _Signs) -> Iterator[tuple[list[_Visit], bool]]:
    """The visits down each line of agents that call exactly one other."""
    called: dict[str, list[SpanRecord]] = defaultdict(list)
    for span in run.spans:
        if span.kind in RUN_KINDS and span is not run.root:
            called[run.agents.get(span.parent_id or "", run.root.span_id)].append(span)
    callers = {span.span_id: caller for caller, spans in called.items() for span in spans if len(spans) == 1}
    for top in (span for span in run.spans if span.span_id in called and span.span_id not in callers):
        line = [top]
        while len(called.get(line[-1].span_id, ())) == 1:
            line.extend(called[line[-1].span_id])
        yield [_nested_visit(span, signs) for span in line], True


def _nested_visit(span: SpanRecord, signs: _Signs) -> _Visit:
    return _Visit(span.operation, [span], span.span_id in signs.working_agents, span.span_id in signs.handoffs)


def _rallies(visits: Iterable[_Visit], nested: bool) -> Iterator[_Rally]:
    """The stretches in which two agents alternate and nobody works but the first, before it hands over, and the last,
    who has the task in the end."""
    current: list[_Visit] = []
    for visit in visits:
        if len(current) > 1 and (visit.agent != current[-2].agent or current[-1].works):
            yield _Rally(current, nested)
            current = current[-1:]
        if current and current[-1].agent == visit.agent:
            current = []
        current.append(visit)
    if current:
        yield _Rally(current, nested)


def _finding(run: AgentRun, rallies: Sequence[_Rally]) -> Finding:
    visits = [visit for rally in rallies for visit in rally.visits]
    first, second = visits[0].agent, visits[1].agent
    times = max(rally.alternations for rally in rallies)
    change = _after_first_round_trip(run, rallies)
    wasted = total_s(run.by_id[span_id] for span_id in change.drop if run.by_id[span_id].parent_id not in change.drop)
    least = int(run.threshold("handoff_ping_pong.alternations", 3, visits[0].spans[0]))
    return Finding(
        kind="handoff_ping_pong",
        severity=_severity(run, visits, wasted),
        operation=first,
        calls=len(visits),
        wasted_s=wasted,
        evidence=ids(span for visit in visits for span in visit.spans),
        threshold=f"≥{least} times from one agent to another and back, no successful tool in between",
        recommend=lambda saving: (
            f"{first} and {second} handed the task back and forth {times} times and no tool got anything done: say "
            f"which of them is in charge of what, or limit the hand-overs; after the first round trip that saves "
            f"{seconds(saving)}."
        ),
        change=change,
    )


def _severity(run: AgentRun, visits: Sequence[_Visit], wasted: float) -> Severity:
    """Agents that alternate and show neither a hand-over nor a tool that failed may be meant to: a writer and its
    reviewer look just so."""
    theirs = {span.span_id for visit in visits for span in visit.spans}
    failed = any(
        span.error is not None and span.kind in _TOOLS and run.agents[span.span_id] in theirs for span in run.spans
    )
    return severity(run, wasted) if failed or any(visit.hands_over for visit in visits) else "info"


def _after_first_round_trip(run: AgentRun, rallies: Iterable[_Rally]) -> Change:
    """Without the visits between the first round trip and the end: whoever has the task last finishes it. Where
    agents call each other, the one who has it back does not call again."""
    rounds = []
    for rally in rallies:
        last = len(rally.visits) - 1 - (len(rally.visits) - 1) % 2
        visits = rally.visits[3:4] if rally.nested else rally.visits[2:last]
        rounds.append([span for visit in visits for span in visit.spans])
    return without(run, rounds)
