"""An agent program on a virtual clock: what it does becomes spans, and its duration is exact."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .world import World

Branch = Callable[[], object]


@dataclass(eq=False)
class Span:
    """What really happened in one call; a dialect decides how much of it is written. Times in seconds."""

    kind: str
    """agent, workflow, step, tool, llm, embedding, retrieval, db, http or cache"""
    name: str
    """bare; of a db or http call the template with `{}` for the values"""
    start: float
    parent: Span | None
    end: float = 0.0
    values: tuple[Any, ...] = ()
    """what the `{}` of a template stand for"""
    args: Any = None
    result: Any = None
    size: int | None = None
    """bytes of the result where it is too large to be in the corpus, or of an http response"""
    sent: int | None = None
    """bytes of an http request's body"""
    error: str | None = None
    """the exception's type"""
    status: int = 200
    """of an http call"""
    retry_after: int | None = None
    tokens: tuple[int | None, int | None, int | None] = (None, None, None)
    """input, output, and read from the provider's cache"""
    messages: tuple[tuple[str, str], ...] | None = None
    """(role, text) of a prompt; None: the program does not record it"""
    answer: str = ""
    asks: tuple[str, ...] = ()
    """names of the tools that a model's answer asks for"""
    asked: bool = False
    """of a tool call: a model asked for it"""
    uses: tuple[Span, ...] = ()
    """earlier siblings whose result is in this call's arguments"""
    cpu: float | None = None
    operation: str = "get"
    """of a cache span"""
    hit: bool | None = None
    hidden: bool = False
    """of a db call: its values are nowhere on the span"""

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def result_size(self) -> int:
        return self.size if self.size is not None else len(json.dumps(self.result))


class Program:
    """The clock and what was recorded. `repaired` names the problems that this version does not have."""

    def __init__(self, world: World, repaired: frozenset[str] = frozenset()) -> None:
        self.world = world
        self.now = 0.0
        self.spans: list[Span] = []
        self._repaired = repaired
        self._open: list[Span] = []
        self._turns = 0

    def repaired(self, key: str) -> bool:
        return key in self._repaired

    def wait(self, seconds: float) -> None:
        """Time in which nothing is recorded."""
        self.now += seconds

    def gather(self, *branches: Branch) -> None:
        """Run all at the same time, each started a hair after the one before, and wait for the last."""
        start, latest = self.now, self.now
        for place, branch in enumerate(branches):
            self.now = start + place * 20e-6
            branch()
            latest = max(latest, self.now)
        self.now = latest

    @contextmanager
    def inside(self, kind: str, name: str, **facts: Any) -> Iterator[Span]:
        """A span around what happens in the block."""
        if self._open:
            self.wait(self.world.overhead_s)
        span = Span(kind, name, self.now, self._open[-1] if self._open else None, **facts)
        self.spans.append(span)
        self._open.append(span)
        yield span
        self._open.pop()
        span.end = self.now

    def call(self, kind: str, name: str, seconds: float, **facts: Any) -> Span:
        with self.inside(kind, name, **facts) as span:
            self.wait(seconds)
        return span

    @contextmanager
    def delegate(self, agent: str, cpu: float | None = None, about: int = 0) -> Iterator[None]:
        """An agent of that name, asked by a tool; `about` tells one question from another."""
        facts: dict[str, Any] = {
            "args": {"q": f"{agent}, {about}?"},
            "result": {"text": f"{about * 7919}"},
            "asked": True,
        }
        with self.inside("tool", f"ask_{agent}", **facts), self.inside("agent", agent, cpu=cpu):
            yield

    def tool(self, name: str, seconds: float, args: Any = None, result: Any = None, **facts: Any) -> Span:
        told = {"found": name[::-1], "args": len(str(args))} if result is None else result
        return self.call("tool", name, seconds, args=args, result=told, **facts)

    def db(self, template: str, seconds: float, *values: Any, **facts: Any) -> Span:
        return self.call("db", template, seconds, values=values, **facts)

    def http(self, template: str, seconds: float, *values: Any, **facts: Any) -> Span:
        return self.call("http", template, seconds, values=values, **facts)

    def turn(self, seconds: float | None = None, **facts: Any) -> Span:
        """One model call, inside the framework's step where there is one. Without facts an ordinary one: its prompt
        is new, short and like those before, and its tokens explain its time."""
        self._turns += 1
        world = self.world
        took = world.turn_s * (0.85 + 0.1 * (self._turns % 4)) if seconds is None else seconds
        facts.setdefault("tokens", (600 + 37 * self._turns, max(8, round(60 * took)), None))
        facts.setdefault("messages", (("system", "You help."), ("user", f"Step {self._turns}: go on, please.")))
        facts.setdefault("answer", f"Done with step {self._turns}.")
        model = facts.pop("model", world.model)
        with self.steps("call_model"):
            return self.call("llm", model, took, **facts)

    @contextmanager
    def steps(self, name: str) -> Iterator[None]:
        """The framework's step of that name; some frameworks have another one inside it for a model's call."""
        if not self.world.depth:
            yield
        elif self.world.depth == 1 or name != "call_model":
            with self.inside("step", name):
                yield
        else:
            with self.inside("step", name), self.inside("step", f"{name}_sequence"):
                yield


def one_after_another(program: Program, calls: Sequence[Branch], parallel: bool) -> None:
    """The calls in a row, or (the repaired way) all at once."""
    if parallel:
        program.gather(*calls)
    else:
        for call in calls:
            call()
