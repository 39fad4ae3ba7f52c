"""Programs by the kind of finding they are about, and what a report must say about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from .program import Program
from .world import World

Sort = Literal["positive", "negative", "open"]
"""positive: it has the problem; negative: it comes close and is healthy; open: the rule leaves it to the reader, or a
number is close to a threshold. What is open is run and shown, and not counted."""

GUARD_S, GUARD_SHARE = 0.1, 0.05
"""a finding that claims time saves at least this much, and this share of the run"""
MARGIN = 0.2
"""what is closer than this to a threshold is not counted"""


@dataclass(frozen=True)
class Label:
    """One finding that the report of a run must hold."""

    kind: str
    operations: tuple[str, ...]
    """the name it may go by: one, or several where the rule does not say which; empty: any"""
    repair: str | None = None
    """names the repair whose effect is the true saving; None: the kind claims no time"""
    severity: str = "warning"
    """at least"""
    least_s: float = 0.0
    """seconds that the kind's own rule asks the saving to be, besides the global guard"""
    share_s: float | None = None
    """seconds that must be a tenth of the run for the rule to hold (failed attempts)"""
    optional: bool = False
    """may be reported as well, and need not be"""


@dataclass(frozen=True)
class Part:
    """A piece of an agent's work."""

    body: Callable[[Program], object]
    labels: tuple[Label, ...] = ()
    asks: tuple[str, ...] = ()
    """the tools that the model turn before it asked for"""
    whole: bool = False
    """it is a run of its own, agents included, and not a piece of one"""
    turns: bool = False
    """it has model turns of its own, so that no framework step is around all of it"""
    alone: bool = False
    """it does not go with other parts into one run"""


@dataclass(frozen=True)
class Scenario:
    kind: str
    sort: Sort
    needs: str
    make: Callable[[World], Part]

    @property
    def name(self) -> str:
        return self.make.__name__

    @property
    def sentence(self) -> str:
        return " ".join((self.make.__doc__ or self.name).split())


SETTINGS: Mapping[str, Mapping[str, str]] = {
    "budget_exceeded": {
        "OTEL_AGENTPERF_BUDGETS": "run.duration_s=60,run.tokens=50000,tool.quote.duration_s=2,agent.negotiator.calls=10"
    }
}
"""the environment of the kinds that need one; each such kind is reported by a process of its own"""

SCENARIOS: list[Scenario] = []

Make = Callable[[World], Part]


def positive(kind: str, needs: str = "") -> Callable[[Make], Make]:
    return _register(kind, "positive", needs)


def negative(kind: str, needs: str = "") -> Callable[[Make], Make]:
    return _register(kind, "negative", needs)


def unclear(kind: str, needs: str = "") -> Callable[[Make], Make]:
    return _register(kind, "open", needs)


def _register(kind: str, sort: Sort, needs: str) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        SCENARIOS.append(Scenario(kind, sort, needs, make))
        return make

    return register


def scenarios() -> list[Scenario]:
    """All of them, by kind and in the order of their files."""
    for module in _modules():
        import_module(f"{__package__}.scenarios.{module}")
    return sorted(SCENARIOS, key=lambda scenario: scenario.kind)


def _modules() -> Iterator[str]:
    folder = Path(__file__).parent / "scenarios"
    return (path.stem for path in sorted(folder.glob("[a-z]*.py")))
