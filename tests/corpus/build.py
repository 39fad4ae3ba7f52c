"""Makes the cases of a seed: programs run on the virtual clock, their traces, and the labels that hold for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from .cases import GUARD_S, GUARD_SHARE, MARGIN, SETTINGS, Label, Part, Scenario, scenarios
from .frame import run
from .otlp import Json, document, record, server_span
from .program import Program
from .world import NEEDS, World

_COMPANY = 0.3
"""share of the positive programs that get other problems into the same run"""


@dataclass(frozen=True)
class Expected:
    label: Label
    saving_s: float | None
    """by which the repaired version of the program is faster"""
    counted: bool
    """False: it may be reported, and need not be"""


@dataclass(frozen=True)
class Case:
    """One run and what its report must say."""

    name: str
    scenario: Scenario
    dialect: str
    trace_id: str
    root_id: str
    expected: tuple[Expected, ...]
    documents: tuple[Json, ...]
    duration_s: float


def cases(seed: int, only: str | None = None) -> Iterator[Case]:
    """The cases of a seed, one a scenario; some of them share a trace."""
    everything = scenarios()
    chosen = [scenario for scenario in everything if only in (None, scenario.kind)]
    company = [one for one in everything if one.sort == "positive" and one.kind not in SETTINGS]
    random = Random(f"traces {seed}")
    trace = _Trace(random)
    for scenario in chosen:
        if not trace.room:
            trace = _Trace(random)
        yield _case(scenario, seed, company, trace)


class _Trace:
    """A trace for one or several runs: alone, below a remote parent, or together below a server's span."""

    def __init__(self, random: Random) -> None:
        self.trace_id = f"{random.getrandbits(128) | 1:032x}"
        self.above = random.choice(("nothing", "nothing", "remote", "server"))
        self.room = random.choice((1, 2, 3)) if self.above == "server" else 1
        self.parent = None if self.above == "nothing" else f"{random.getrandbits(64) | 1:016x}"
        self.start_s = random.uniform(0, 1e5)

    def place(self, program: Program) -> tuple[float, list[Json]]:
        """Where the run starts, and the spans above it."""
        self.room -= 1
        start = self.start_s
        seconds = program.spans[0].end
        self.start_s += seconds + 0.05
        if self.above != "server" or self.parent is None:
            return start, []
        # One request a run: the runs of a trace are calls of one client that nobody traced.
        request = f"{int(self.parent, 16) ^ int(start * 1e6):016x}"
        span = server_span(self.trace_id, request, seconds + 0.01, start - 0.005)
        span["parentSpanId"] = self.parent
        span["flags"] = 0x300
        return start, [span]


def _case(scenario: Scenario, seed: int, company: Sequence[Scenario], trace: _Trace) -> Case:
    name = f"{scenario.kind}/{scenario.name}/{seed}"
    world = World(name, scenario.needs)
    parts = _parts(scenario, world, company)
    beside_s = 0.01 if world.chance(0.2) else 0.0
    labels = [label for part in parts for label in part.labels]
    program = _run(world, parts, frozenset(), beside_s)
    duration = program.spans[0].end
    judged = (_expected(label, duration, world, parts, beside_s) for label in labels)
    expected = tuple(label for label in judged if label is not None)
    start, above = trace.place(program)
    parent = above[0]["spanId"] if above else trace.parent
    recorded = record(name, world, program, trace.trace_id, parent, trace.above == "remote", start)
    documents = (document(world.service, [("server", above)]), recorded.document) if above else (recorded.document,)
    return Case(name, scenario, world.dialect, trace.trace_id, recorded.root_id, expected, documents, duration)


def _parts(scenario: Scenario, world: World, company: Sequence[Scenario]) -> list[Part]:
    """The scenario's own, and sometimes up to two others of other kinds beside it."""
    parts = [scenario.make(world)]
    if (
        scenario.sort != "positive"
        or scenario.kind in SETTINGS
        or parts[0].whole
        or parts[0].alone
        or not world.chance(_COMPANY)
    ):
        return parts
    kinds = {scenario.kind}
    for other in world.random.sample(company, len(company)):
        if len(parts) > world.count(1, 2):
            break
        if other.kind not in kinds and world.dialect in NEEDS[other.needs]:
            part = other.make(world)
            if not (part.whole or part.alone):
                parts.append(part)
                kinds.add(other.kind)
    return parts


def _run(world: World, parts: Sequence[Part], repaired: frozenset[str], beside_s: float) -> Program:
    program, drawn = Program(world, repaired), world.random.getstate()
    run(world, parts, program, beside_s)
    assert world.random.getstate() == drawn, "a program drew while it ran: its versions are not comparable"
    return program


def _expected(label: Label, duration: float, world: World, parts: Sequence[Part], beside_s: float) -> Expected | None:
    """The label with its true saving. None where the saving is clearly less than the rule asks for; not counted
    where it is close to that."""
    if label.repair is None:
        return Expected(label, None, not label.optional)
    repaired = _run(world, parts, frozenset({label.repair}), beside_s)
    saving = duration - repaired.spans[0].end
    ratio = saving / max(GUARD_S, GUARD_SHARE * duration, label.least_s)
    if label.share_s is not None:
        ratio = min(ratio, label.share_s / (0.1 * duration))
    if ratio <= 1 - MARGIN:
        return None
    return Expected(label, saving, ratio >= 1 + MARGIN and not label.optional)
