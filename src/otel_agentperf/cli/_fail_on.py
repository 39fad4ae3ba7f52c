"""`--fail-on`: which runs make the exit code 3, so that a pipeline stops at them."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from ..analysis.analyze import SEVERITIES, detectors
from ..model import Report

F = TypeVar("F", bound=Callable[..., Any])

FAILED = 3
"""the exit code; 1 is bad input and 2 a wrong option"""
_SEVERITIES = SEVERITIES[::-1]
_COMPARISON = re.compile(r"(\w+)\s*([<>])\s*(\d+(?:\.\d+)?)\s*(ms|s|m|)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
_COMPARED: dict[str, tuple[str, bool, Callable[[Report], float]]] = {
    "score": ("<", False, lambda report: report.score),
    "efficiency": ("<", False, lambda report: report.efficiency),
    "duration": (">", True, lambda report: report.root.duration_s),
    "saving": (">", True, lambda report: report.saving_s),
    "tokens": (">", False, lambda report: (report.tokens.input or 0) + (report.tokens.output or 0)),
}
"""by name: how it is compared, whether it is a time, and the value"""

Met = Callable[[Report], str | None]
"""what is wrong with a run, in words; None: nothing"""


@dataclass(frozen=True, slots=True)
class Condition:
    text: str
    met: Met


class Conditions(click.ParamType):  # type: ignore[type-arg]
    """Conditions, with commas in between."""

    name = "condition"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Condition, ...]:
        if isinstance(value, tuple):
            return value
        parts = (part.strip() for part in str(value).split(","))
        return tuple(self._condition(part, param, ctx) for part in parts)

    def _condition(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Condition:
        if text in _SEVERITIES:
            return Condition(text, _severity(text))
        if text in detectors():
            return Condition(text, _kind(text))
        match = _COMPARISON.fullmatch(text)
        sign, is_time, value = _COMPARED.get(match[1] if match else "", ("", False, lambda report: 0.0))
        if match is None or match[2] != sign or (match[4] and not is_time):
            self.fail(f"{text!r} is none of: {_told()}", param, ctx)
        return Condition(text, _comparison(match[1], value, sign, float(match[3]) * _UNITS[match[4]]))


def fail_on_option(function: F) -> F:
    """`--fail-on` for commands that report runs."""
    return click.option(
        "--fail-on",
        type=Conditions(),
        multiple=True,
        metavar="CONDITION[,…]",
        help=f"Exit code {FAILED} if a run has a finding of this severity (or worse) or of this kind, or a score or "
        "duration beyond a limit: warning, n_plus_one_calls, 'score<0.8', 'efficiency<0.7', 'duration>20s', "
        "'saving>1s', 'tokens>50000'. Repeatable.",
    )(function)


class Gate:
    """Counts the runs that meet a condition, and remembers the first of each."""

    def __init__(self, told: Iterable[Iterable[Condition]]) -> None:
        self._conditions = tuple(condition for conditions in told for condition in conditions)
        self._runs: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._conditions)

    @property
    def failed(self) -> bool:
        return bool(self._runs)

    def check(self, report: Report) -> None:
        for condition in self._conditions:
            reason = condition.met(report)
            if reason is not None:
                self._runs[condition.text] += 1
                self._first.setdefault(condition.text, f"{report.root.operation}: {reason}")

    def watch(self, reports: Iterable[Report]) -> Iterator[Report]:
        """The same reports, each checked on its way."""
        for report in reports:
            self.check(report)
            yield report

    def told(self) -> Iterator[str]:
        """A line for each condition that was met."""
        for text, runs in self._runs.items():
            yield f"failed on {text} in {runs:,} run{'s' * (runs > 1)} ({self._first[text]})"


def _severity(least: str) -> Met:
    serious = _SEVERITIES[_SEVERITIES.index(least) :]
    return lambda report: next(
        (
            f"{finding.operation} · {finding.kind} · {finding.severity}"
            for finding in report.findings
            if finding.severity in serious
        ),
        None,
    )


def _kind(kind: str) -> Met:
    return lambda report: next((finding.operation for finding in report.findings if finding.kind == kind), None)


def _comparison(name: str, value: Callable[[Report], float], sign: str, limit: float) -> Met:
    beyond = operator.lt if sign == "<" else operator.gt

    def met(report: Report) -> str | None:
        measured = value(report)
        return f"{name} {measured:.4g}" if beyond(measured, limit) else None

    return met


def _told() -> str:
    examples = (f"{name}{sign}N{'s' * is_time}" for name, (sign, is_time, _) in _COMPARED.items())
    return "; ".join((", ".join(_SEVERITIES), ", ".join(detectors()), ", ".join(examples)))
