"""Makes the cases of some seeds, has them reported, and judges the reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .build import Case, cases
from .cases import SETTINGS
from .reports import report, write_traces
from .scoring import Outcome, Score, judge, scores


@dataclass(frozen=True)
class Measured:
    cases: list[Case]
    outcomes: list[Outcome]

    @property
    def scores(self) -> dict[str, Score]:
        return scores(self.cases, self.outcomes)


def measure(seeds: Iterable[int], only: str | None = None) -> Measured:
    """Cases and outcomes; `only` names the one kind whose programs are wanted."""
    made = [case for seed in seeds for case in cases(seed, only)]
    outcomes: list[Outcome] = []
    groups: dict[str, list[Case]] = {}
    for case in made:
        groups.setdefault(case.scenario.kind if case.scenario.kind in SETTINGS else "", []).append(case)
    with TemporaryDirectory() as folder:
        for kind, group in groups.items():
            place = Path(folder, kind or "defaults")
            write_traces(group, place)
            runs = report(place, SETTINGS.get(kind, {}))
            for case in group:
                outcomes.extend(judge(case, runs.get((case.trace_id, case.root_id))))
    return Measured(made, outcomes)
