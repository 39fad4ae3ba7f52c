"""The scores as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .build import Case
from .scoring import Outcome, Score

_HEAD = (
    "| kind | runs with it | healthy look-alikes | recall | precision | false alarms | saving error, median | 95 % |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|"
)


def by_kind(scores: Mapping[str, Score]) -> str:
    rows = [_row(f"`{kind}`", score) for kind, score in scores.items()]
    return "\n".join([_HEAD, *rows, _row("all", _total(scores.values()))])


def left_open(cases: Sequence[Case], outcomes: Iterable[Outcome]) -> str:
    """What the reports say about programs that the rules leave open: not counted above."""
    runs = Counter(case.scenario for case in cases if case.scenario.sort == "open")
    spoken = Counter(
        (outcome.case.scenario, outcome.kind, outcome.detail.split(" ")[0])
        for outcome in outcomes
        if outcome.verdict in ("false", "info")
    )
    rows = ["| kind | program | runs | reported as |", "|---|---|---:|---|"]
    for scenario, count in runs.items():
        said = [f"`{kind}` ({severity}) {times}×" for (of, kind, severity), times in spoken.items() if of == scenario]
        rows.append(f"| `{scenario.kind}` | {scenario.sentence} | {count} | {', '.join(said) or 'nothing'} |")
    return "\n".join(rows)


def _row(name: str, score: Score) -> str:
    numbers = (_share(score.recall), _share(score.precision), score.false, _percent(score, 0.5), _percent(score, 0.95))
    return f"| {name} | {score.positives} | {score.negatives} | " + " | ".join(map(str, numbers)) + " |"


def _total(scores: Iterable[Score]) -> Score:
    total = Score()
    for score in scores:
        total.positives += score.positives
        total.negatives += score.negatives
        total.found += score.found
        total.missed += score.missed
        total.false += score.false
        total.errors.extend(score.errors)
    return total


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(score: Score, share: float) -> str:
    error = score.saving_error(share)
    return "–" if error is None else f"{100 * error:.1f} %"
