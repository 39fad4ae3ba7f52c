"""`agentperf diff BASE HEAD`: what got slower, dearer or worse between two sets of recorded runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ..analysis.compare import compare
from ..analysis.comparison import GroupComparison, Limits, RunFigures
from ..readers import Query, RecordedRun
from ..readers._reports import identity, run_figures
from ..renderers._text import count
from ..renderers.json import run_object
from ._diff_formats import FORMATS
from ._fail_on import FAILED
from ._output import open_output, write_with
from ._sources import analyzed, one_line, read, source_options, tell
from ._traces import Traces

_CONDITIONS = ("regression", "new-findings")


class _Conditions(click.ParamType):  # type: ignore[type-arg]
    name = "condition"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        parts = tuple(part.strip() for part in str(value).split(","))
        for part in parts:
            if part not in _CONDITIONS:
                self.fail(f"{part!r} is none of: {', '.join(_CONDITIONS)}", param, ctx)
        return parts


@click.command("diff", short_help="Compare two sets of recorded runs.")
@click.argument("base")
@click.argument("head")
@click.option(
    "--slower", type=click.FloatRange(0), default=10, show_default=True, metavar="PERCENT",
    help="Times that differ by less are the same.",
)  # fmt: skip
@click.option(
    "--slower-ms", type=click.FloatRange(0), default=50, show_default=True, metavar="MS",
    help="And so are those that differ by less than this.",
)  # fmt: skip
@click.option(
    "--more-tokens", type=click.FloatRange(0), default=10, show_default=True, metavar="PERCENT",
    help="The same for tokens and cost.",
)  # fmt: skip
@click.option(
    "--min-samples", type=click.IntRange(1), default=5, show_default=True, metavar="N",
    help="Runs of a name on each side that it takes for a verdict.",
)  # fmt: skip
@click.option(
    "--fail-on", type=_Conditions(), multiple=True, metavar="CONDITION[,…]",
    help=f"Exit code {FAILED} on a regression (a run's time, tokens, cost, score, errors or failures are worse), on "
    "new-findings, or on both. Repeatable.",
)  # fmt: skip
@source_options
@click.option(
    "--format", "format_", type=click.Choice(sorted(FORMATS)), default="terminal", show_default=True,
    help="terminal: for people; json: one JSON document (agentperf.diff/v1); markdown: for a pull request.",
)  # fmt: skip
@click.option(
    "--output", "-o", metavar="FILE", type=click.Path(path_type=Path),
    help="Write the comparison to this file, not to standard output.",
)  # fmt: skip
def command(
    base: str,
    head: str,
    slower: float,
    slower_ms: float,
    more_tokens: float,
    min_samples: int,
    fail_on: Sequence[Sequence[str]],
    services: Sequence[str],
    lookback: float,
    limit: int,
    format_: str,
    output: Path | None,
) -> None:
    """Compare the agent runs in HEAD with those in BASE.

    \b
    agentperf diff before.jsonl after.jsonl
    agentperf diff --fail-on regression,new-findings main.json traces/
    agentperf diff --format markdown -o diff.md before/ after/

    BASE and HEAD are each what agentperf report takes (a file, a folder, - for standard input, the address of a
    Jaeger) or a report that it made with --format json.

    Runs of the same name are compared by their medians. A difference counts when it is beyond the limits and larger
    than chance explains: a rank test (Mann-Whitney) over the single runs gives at most 1 %. With fewer than
    --min-samples runs on a side the figures are shown, but not judged.

    Exit code 0 whatever the outcome, unless --fail-on is met (3) or a source could not be read whole (1).
    """
    if base == head == "-":
        raise click.UsageError("BASE and HEAD cannot both be standard input")
    file = open_output(output)
    query = Query(tuple(services), lookback, limit, reports=True)
    problems: list[str] = []
    before, after = (_runs(source, query, problems) for source in (base, head))
    tell(problems)
    limits = Limits(slower / 100, slower_ms / 1_000, more_tokens / 100, min_samples=min_samples)
    groups = compare(before, after, limits)
    try:
        write_with(lambda stream: FORMATS[format_](groups, limits, stream), file)
    except OSError as error:
        raise click.ClickException(f"cannot write the comparison: {error.strerror}") from None
    failures = list(_failures(groups, {condition for told in fail_on for condition in told}))
    for line in failures:
        click.echo(f"agentperf: {one_line(line)}", err=True)
    sys.exit(1 if problems else FAILED if failures else 0)


def _runs(source: str, query: Query, problems: list[str]) -> list[RunFigures]:
    """The runs of one side, each once: a folder may hold traces and the report made of them."""
    found: dict[tuple[str, str], RunFigures] = {}
    recorded: list[RecordedRun] = []
    with Traces() as traces:
        problems.extend(read([source], query, traces, recorded))
        for report in analyzed(traces):
            run = run_object(report)
            found[identity(run)] = run_figures(run)
    for number, one in enumerate(recorded, 1):
        try:
            found.setdefault(identity(one.content), run_figures(one.content))
        except ValueError as error:
            problems.append(f"{source}: run {number} of the report is not as agentperf.report/v1 has it ({error})")
    if not found and not problems:
        problems.append(f"{source}: no agent runs in it")
    return list(found.values())


def _failures(groups: Sequence[GroupComparison], conditions: set[str]) -> Iterator[str]:
    for group in groups:
        if "regression" in conditions and group.regressed:
            worse = (change.figure for change in group.figures if change.verdict == "worse")
            yield f"failed on regression: {group.name} ({', '.join(worse)})"
        if "new-findings" in conditions and group.new_findings:
            new = (f"{change.finding.operation} · {change.finding.kind}" for change in group.new_findings)
            yield f"failed on {count(len(group.new_findings), 'new finding')}: {group.name} ({', '.join(new)})"
