"""The report for people: the run in numbers, its waterfall with the critical path, then what to mend, worst first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from ..model import Finding, Kind, Report
from ._outside import NO_AGENT
from ._overview import GRADE_STYLES, Digest, digest_of, overview
from ._profile import profile_line, profile_of
from ._text import count, encodable, plain, rounded_down, seconds
from ._verdict import subject
from ._waterfall import LEGEND, waterfall

SUMMARY = "for people: numbers, waterfall with the critical path, bottlenecks"

_MOST_DETAILED = 5
_MOST_SUPPRESSED = 5
_NARROWEST, _WIDEST, _IN_A_PIPE = 40, 110, 80
_LONGEST_ADVICE = 600
_LONGEST_SUBJECT = 100
_SEVERITY_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_COUNTED: tuple[tuple[Kind, str], ...] = (("agent", "agent call"), ("llm", "model call"), ("tool", "tool call"))


def render(reports: Iterable[Report], output: TextIO) -> None:
    """Write the reports; colours and width as the stream, NO_COLOR, FORCE_COLOR and COLUMNS say."""
    with console_on(output) as console:
        _print(console, reports)


def _print(console: Console, every: Iterable[Report]) -> None:
    digest = digest_of(every, _MOST_DETAILED)
    if not digest.runs:
        console.print("No agent runs.")
    reports: Sequence[Report] = digest.first
    if digest.runs > _MOST_DETAILED:
        console.print(overview(digest, console.width))
        heading, reports = _detailed(digest)
        console.print(Text(f"\n{heading}:\n", "bold") if heading else "")
    _print_reports(console, reports)
    for note in _notes(digest):
        console.print(Text("\n" + note, "dim"))


def _detailed(digest: Digest) -> tuple[str, Sequence[Report]]:
    """Which of many runs are told whole."""
    ranked = digest.most_to_save
    saving = [report for report in ranked if report.saving_s > 0]
    if saving:
        return ("The one with most to save" if len(saving) == 1 else f"The {len(saving)} with most to save"), saving
    told = [report for report in ranked if report.findings]
    if told:
        return ("The one with findings" if len(told) == 1 else f"The {len(told)} longest with findings"), told
    return ("The longest", ranked[:1]) if digest.agents else ("", ())


def _notes(digest: Digest) -> Iterator[str]:
    if digest.outside.names and digest.runs <= _MOST_DETAILED:  # else the overview says it
        yield digest.outside.line() + "."
    if digest.runs and not digest.agents:
        yield NO_AGENT


def _print_reports(console: Console, reports: Iterable[Report]) -> None:
    for number, report in enumerate(reports):
        if number:
            console.print(Text("\n" + "─" * console.width + "\n", "dim"))
        _print_report(console, report)


@contextmanager
def console_on(output: TextIO) -> Iterator[Console]:
    """A console as wide and colourful as the stream and the environment want it; all is written at the end."""
    console = _console_for(output)
    with console.capture() as captured:
        yield console
    text = encodable(captured.get(), console.encoding)
    # rich fills lines up with spaces, which are in the way in a file.
    output.write("".join(line.rstrip() + "\n" for line in text.splitlines()))


def _console_for(output: TextIO) -> Console:
    console = Console(file=output, highlight=False, soft_wrap=False, emoji=False, markup=False)
    told = os.environ.get("COLUMNS", "")
    width = console.width if console.is_terminal or (told.isdigit() and int(told)) else _IN_A_PIPE
    console.width = max(_NARROWEST, min(width, _WIDEST))
    return console


def _print_report(console: Console, report: Report) -> None:
    console.print(_headline(report))
    for line in filter(None, _numbers(report)):
        console.print(Text(line, "dim"))
    console.print()
    console.print(waterfall(report.run, console.width))
    console.print(Text(LEGEND, "dim"))
    console.print()
    if report.findings:
        _print_findings(console, report)
    elif report.root.error is not None:
        console.print(f"No bottlenecks found; the run failed: {plain(report.root.error)}.")
    else:
        console.print(Text("✓ No bottlenecks found.", "green"))
    for line in _left_out(report):
        console.print(Text(line, "dim"))
    _print_profile(console, report)


def _left_out(report: Report) -> Iterator[str]:
    """What the user's settings keep out of the findings, what could not be held against them, and what is too much."""
    if report.findings_left_out:
        yield f"{count(report.findings_left_out, 'more finding')} of the same kinds left out: the worst are told"
    if report.suppressed:
        told = (
            f"{one.finding.kind} of {plain(one.finding.operation)} ({plain(one.reason) or 'no reason given'})"
            for one in report.suppressed[:_MOST_SUPPRESSED]
        )
        more = " …" if len(report.suppressed) > _MOST_SUPPRESSED else ""
        yield f"{count(len(report.suppressed), 'finding')} suppressed: {', '.join(told)}{more}"
    if report.unchecked_budgets:
        told = (plain(budget, _LONGEST_ADVICE) for budget in report.unchecked_budgets[:_MOST_SUPPRESSED])
        yield f"not checked: {'; '.join(told)}"


def _headline(report: Report) -> Text:
    root = report.root
    text = Text.assemble((plain(root.operation), "bold"), f" took {seconds(root.duration_s)}")
    if report.saving_s > 0:
        text.append(f", {seconds(report.saving_s)} of it avoidable", "bold")
    text.append(" · grade ")
    text.append(f"{report.grade} ({rounded_down(report.score):.2f})", GRADE_STYLES[report.grade])
    if root.error is not None:
        text.append(f" · failed: {plain(root.error)}", "bold red")
    if report.run.incomplete:
        text.append(" · incomplete: some spans are missing", "yellow")
    return text


def _numbers(report: Report) -> Iterator[str]:
    parts = report.score_parts
    shares = (("success", parts.success), ("speed", parts.speed), ("resource", parts.resource))
    told = [f"{name} {'not measured' if share is None else f'{rounded_down(share):.2f}'}" for name, share in shares]
    yield f"score: {', '.join(told)} · efficiency {report.efficiency:.0%}"
    yield " · ".join(_counts(report))
    service = report.root.service
    named = service and not service.startswith("unknown_service")  # what the SDK says when nobody named it
    yield f"trace {report.root.trace_id}" + (f" of {plain(service)}" if named else "")


def _counts(report: Report) -> Iterator[str]:
    for kind, what in _COUNTED:
        calls, errors = report.calls(kind), report.errors(kind)
        if calls:
            yield count(calls, what) + (f" ({errors:,} failed)" if errors else "")
    if report.tokens:
        yield f"{report.tokens.input or 0:,} tokens in, {report.tokens.output or 0:,} out"
    if report.cost.usd is not None:
        known = "" if report.cost.complete else "at least "
        yield f"{known}${report.cost.usd:.4g} ({plain(report.cost.basis, _LONGEST_ADVICE)})"
    for cache in report.caches[:3]:
        yield f"cache {plain(cache.name)} {cache.hits:,} of {count(cache.lookups, 'look-up')} hit"


def _print_findings(console: Console, report: Report) -> None:
    for number, finding in enumerate(report.findings, 1):
        line = Table.grid(Column(no_wrap=True), Column(overflow="fold"))  # what does not fit goes on below itself
        line.add_row(Text(f"{number}. ", "bold"), _finding_line(subject(finding, report.run), finding))
        console.print(line)
        console.print(Padding(Text(plain(finding.recommendation, _LONGEST_ADVICE)), (0, 0, 0, 3)))
        for profile in profile_of(finding, report):
            console.print(Padding(Text(profile_line(profile), "dim"), (0, 0, 0, 3)))
    if report.saving_s > 0:
        before, after = report.root.duration_s, report.root.duration_s - report.saving_s
        what = "With this mended" if len(report.findings) == 1 else "With all of it mended"
        console.print()
        console.print(
            Text(f"{what}: {seconds(before)} → {seconds(after)}, {report.saving_s / before:.0%} less.", "bold")
        )


def _print_profile(console: Console, report: Report) -> None:
    """Where the CPU went in calls that no finding is about, and why there is no more of it."""
    told = {profile.span_id for finding in report.findings for profile in profile_of(finding, report)}
    rest = [profile for profile in report.root.profile if profile.span_id not in told]
    if rest or report.root.profile_note:
        console.print(Text("\nWhere the CPU went", "bold"))
    for profile in rest:
        console.print(Padding(Text(f"{plain(profile.name)} · {profile_line(profile)}"), (0, 0, 0, 3)))
    if report.root.profile_note:
        console.print(Padding(Text(plain(report.root.profile_note, _LONGEST_ADVICE), "dim"), (0, 0, 0, 3)))


def _finding_line(about: str, finding: Finding) -> Text:
    text = Text(plain(about, _LONGEST_SUBJECT), "bold")
    text.append(f" · {finding.kind}")
    if finding.change is not None:
        text.append(f" · saves {seconds(finding.saving_s)} ({finding.saving_pct:.0f}%)", "bold")
    text.append(f" · {finding.severity}", _SEVERITY_STYLES[finding.severity])
    return text
