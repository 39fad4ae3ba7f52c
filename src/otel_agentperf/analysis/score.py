"""The score of a run: success, speed and resource use, weighted; what was not measured does not count."""

from __future__ import annotations

from collections.abc import Sequence

from ..model import ResourceUsage, ScoreParts

DEFAULT_WEIGHTS = (0.4, 0.3, 0.3)
_GRADES = ((0.9, "A"), (0.8, "B"), (0.7, "C"), (0.6, "D"), (0.5, "E"))


def success_share(calls: int, errors: int, root_failed: bool) -> float:
    """The share of calls that did not fail; 0 when the root itself failed, 1 when nothing was called."""
    if root_failed:
        return 0.0
    return 1.0 if calls == 0 else 1.0 - errors / calls


def speed_share(duration_s: float, baseline_s: float) -> float:
    """1 at once, 0 at the baseline and beyond."""
    return max(0.0, 1.0 - duration_s / baseline_s)


def resource_share(usage: ResourceUsage | None) -> float | None:
    """The mean of what memory (of 1,000 MB) and CPU (of one core) left over; None when neither was measured."""
    if usage is None:
        return None
    measured = ((usage.memory_mb, 1000.0), (usage.cpu_percent, 100.0))
    shares = [min(1.0, max(0.0, 1.0 - value / full)) for value, full in measured if value is not None]
    return sum(shares) / len(shares) if shares else None


def weigh(parts: ScoreParts, weights: Sequence[float] = DEFAULT_WEIGHTS) -> float | None:
    """The weighted mean of the measured parts; None when none was."""
    pairs = zip((parts.success, parts.speed, parts.resource), weights, strict=True)
    measured = [(part, weight) for part, weight in pairs if part is not None]
    whole = sum(weight for _, weight in measured)
    return sum(part * weight for part, weight in measured) / whole if whole else None


def grade(score: float) -> str:
    """A from 0.9, B 0.8, C 0.7, D 0.6, E 0.5, F below."""
    return next((letter for floor, letter in _GRADES if score >= floor), "F")
