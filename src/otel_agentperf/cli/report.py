"""`agentperf report SOURCE…`: the same analysis for traces that were recorded elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Any

import click

from ..analysis.analyze import detectors
from ..model import Report
from ..readers import Query
from ._fail_on import FAILED, Gate, fail_on_option
from ._output import open_output, output_options, write
from ._sources import analyzed, one_line, read, source_options, tell
from ._traces import Traces


@click.command("report", short_help="Report the agent runs in recorded traces.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE…")
@source_options
@click.option("--top", type=click.IntRange(1), metavar="N", help="Only the N runs with most to save, worst first.")
@click.option("--only", metavar="KIND", help="Only runs with a finding of this kind, e.g. retry_storm.")
@fail_on_option
@output_options
def command(
    sources: Sequence[str],
    services: Sequence[str],
    lookback: float,
    limit: int,
    top: int | None,
    only: str | None,
    fail_on: Any,
    format_: str,
    output: Path | None,
) -> None:
    """Analyse recorded traces and print the report of each agent run in them.

    \b
    agentperf report traces.jsonl more-traces/
    agentperf report http://localhost:16686 --service planner --lookback 2h
    agentperf report http://localhost:16686/trace/4bf92f3577b34da6a3ce929d0e0e4736
    some-command | agentperf report --format json -
    agentperf report --fail-on critical,'score<0.8' traces.jsonl

    SOURCE is a file of OTLP as JSON, JSON lines or protobuf (as the Collector's file exporter writes them), or of
    Jaeger's JSON (as its UI downloads it), gzip included; a folder of such files; - for standard input; or the
    address of a Jaeger v2 or of a trace's page there. Any number of sources are taken together.

    Exit code 1 if a source could not be read whole; what was good is still reported. Otherwise 3 if a run meets a
    condition of --fail-on.
    """
    if only is not None and only not in detectors():
        raise click.BadParameter(f"{only!r} is none of: {', '.join(detectors())}", param_hint="--only")
    file = open_output(output)
    gate = Gate(fail_on)
    with Traces() as traces:
        problems = read(sources, Query(tuple(services), lookback, limit), traces, [])
        tell(problems)
        # JSON is written as it is made, and a bar would be in the midst of it.
        watched = output is not None or format_ == "terminal" or not (sys.stdout and sys.stdout.isatty())
        reports = gate.watch(analyzed(traces, watched))
        try:
            write(_selected(reports, only, top), format_, file)
        except OSError as error:
            raise click.ClickException(f"cannot write the report: {error.strerror}") from None
        if gate:
            deque(reports, maxlen=0)  # those that a reader which went away did not take
    for line in gate.told():
        click.echo(f"agentperf: {one_line(line)}", err=True)
    sys.exit(1 if problems else FAILED if gate.failed else 0)


def _selected(reports: Iterator[Report], only: str | None, top: int | None) -> Iterable[Report]:
    if only is not None:
        reports = (report for report in reports if any(finding.kind == only for finding in report.findings))
    return reports if top is None else nlargest(top, reports, key=lambda report: report.saving_s)
