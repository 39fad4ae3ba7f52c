"""What a kind of finding is called in plain words, and what its detector says about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from .._discover import discover
from ..model import Finding, Report


def title(kind: str) -> str:
    """The kind in plain words, to follow a name: `search: same call made again`."""
    return getattr(discover("detectors").get(kind), "TITLE", kind.replace("_", " "))


def help_text(kind: str) -> str:
    """One sentence: the head of the detector's docstring, or the title where there is none."""
    module = discover("detectors").get(kind)
    told = " ".join(((module and module.__doc__) or "").partition("\n\n")[0].split())
    return told or title(kind).capitalize() + "."


def kinds(reports: Iterable[Report]) -> list[str]:
    """All kinds that were looked for, and whatever else was found."""
    found = {finding.kind for report in reports for finding in all_findings(report)}
    return sorted(found.union(discover("detectors")))


def all_findings(report: Report) -> Iterator[Finding]:
    """Those, too, that the settings suppress."""
    return chain(report.findings, (one.finding for one in report.suppressed))


def biggest(findings: tuple[Finding, ...]) -> Finding | None:
    """The one that saves most; the worst where none claims time."""
    saving = max(findings, key=lambda finding: finding.saving_s, default=None)
    return saving if saving and saving.saving_s > 0 else next(iter(findings), None)
