"""Where the CPU time of a call went, on one line: `CPU 0.84 s: tokenize app.py:30 71%, …`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from ..model import Finding, HotFrame, Report, SpanProfile
from ._text import plain, seconds

_LONGEST_PLACE = 64
_SHOWN = 3


def profile_of(finding: Finding, report: Report) -> list[SpanProfile]:
    """The profiles of the calls that a finding is about."""
    return [profile for profile in report.root.profile if profile.span_id in finding.evidence]


def profile_line(profile: SpanProfile) -> str:
    """The hottest functions, and which of the program's own led to them, where that is another."""
    calls = f" in {profile.calls:,} calls" if profile.calls > 1 else ""
    by_caller = groupby(profile.frames[:_SHOWN], key=lambda frame: frame.caller)
    return f"CPU {seconds(profile.cpu_s)}{calls}: " + ", ".join(_frames(caller, frames) for caller, frames in by_caller)


def _frames(caller: str, frames: Iterable[HotFrame]) -> str:
    told = [
        f"{plain(f'{frame.function} {frame.file}:{frame.line}', _LONGEST_PLACE)} {frame.share:.0%}" for frame in frames
    ]
    return ", ".join(told) + (f" (from {plain(caller, _LONGEST_PLACE)})" if caller else "")
