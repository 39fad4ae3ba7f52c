"""`agentperf report SOURCE…`: the same analysis for traces that were recorded elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from .._discover import discover
from ..analysis.analyze import analyze
from ..analysis.runs import find_runs
from ..capture.tracing import state
from ..model import Report, SpanRecord
from ..readers import Query, ReadError
from ._output import open_output, output_options, write

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _Lookback(click.ParamType):  # type: ignore[type-arg]
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is no duration such as 30m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


@click.command("report", short_help="Report the agent runs in recorded traces.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE…")
@click.option("--service", "services", multiple=True, help="Jaeger: only this service (repeatable; default: all).")
@click.option(
    "--lookback", type=_Lookback(), default="1h", show_default=True, help="Jaeger: how far back, e.g. 30m, 2h, 1d."
)
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="Jaeger: traces a service at most."
)
@output_options
def command(
    sources: Sequence[str], services: Sequence[str], lookback: float, limit: int, format_: str, output: Path | None
) -> None:
    """Analyse recorded traces and print the report of each agent run in them.

    \b
    agentperf report traces.jsonl more-traces/
    agentperf report http://localhost:16686 --service planner --lookback 2h
    agentperf report http://localhost:16686/trace/4bf92f3577b34da6a3ce929d0e0e4736
    some-command | agentperf report --format json -

    SOURCE is a file of OTLP JSON or JSON lines (as the Collector's file exporter writes them, gzip included), a
    folder of such files, - for standard input, or the address of a Jaeger v2 or of a trace's page there. Any number
    of sources are taken together.

    Exit code 1 if a source could not be read whole; what was good is still reported.
    """
    file = open_output(output)
    query = Query(tuple(services), lookback, limit)
    spans: list[SpanRecord] = []
    with _progress() as progress:
        problems = [f"{source}: {problem}" for source in sources for problem in _read(source, query, spans, progress)]
        reports = list(_analyze(spans, progress))
    for problem in problems:
        click.secho(f"agentperf: {_one_line(problem)}", fg="red", err=True)
    try:
        write(reports, format_, file)
    except OSError as error:
        raise click.ClickException(f"cannot write the report: {error.strerror}") from None
    sys.exit(1 if problems else 0)


def _read(source: str, query: Query, spans: list[SpanRecord], progress: Progress) -> Iterator[str]:
    """Add the spans of a source to `spans`; what is wrong with it, if anything."""
    task = progress.add_task(f"reading {_one_line(source)}")
    reader = next((module for module in discover("readers").values() if module.accepts(source)), None)
    try:
        if reader is None:
            raise ReadError("no reader for this kind of source")
        for record in reader.read(source, query):
            spans.append(record)
    except ReadError as error:
        yield str(error)
    except Exception as error:  # noqa: BLE001 - somebody else's reader; the other sources are still read
        yield f"its reader failed ({type(error).__name__}: {error})"
    progress.remove_task(task)


def _analyze(spans: Sequence[SpanRecord], progress: Progress) -> Iterator[Report]:
    config = state.config
    task = progress.add_task(f"finding runs in {len(spans):,} spans")
    runs = find_runs(spans, config.threshold_map())
    for number, run in enumerate(runs, 1):
        progress.update(task, description=f"analysing run {number:,} of {len(runs):,}")
        yield analyze(run, config)


def _progress() -> Progress:
    """On standard error, and only where somebody watches; it leaves nothing behind."""
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip


def _one_line(text: str) -> str:
    """Names of files and answers of servers may hold anything."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
