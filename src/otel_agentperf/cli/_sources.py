"""What `report` and `diff` are given to read: the options for it, the reading, and the analysis, both with progress."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from .._config import warn_once
from .._discover import discover
from ..analysis.analyze import analyze
from ..analysis.known import unknown_names
from ..capture.tracing import state
from ..model import Report, SpanRecord
from ..prices import price_source
from ..readers import Query, ReadError, RecordedRun
from ._output import without_credentials
from ._traces import Traces, runs_by_start

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TOLD_EVERY = 1_000
"""spans"""


class _Lookback(click.ParamType):  # type: ignore[type-arg]
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is no duration such as 30m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


def source_options(function: F) -> F:
    """`--service`, `--lookback` and `--limit`, which say what to ask a Jaeger for."""
    services = click.option(
        "--service", "services", multiple=True, help="Jaeger: only this service (repeatable; default: all)."
    )
    lookback = click.option(
        "--lookback", type=_Lookback(), default="1h", show_default=True, help="Jaeger: how far back, e.g. 30m, 2h, 1d."
    )
    limit = click.option(
        "--limit", type=click.IntRange(1), default=100, show_default=True, help="Jaeger: traces a service at most."
    )
    return services(lookback(limit(function)))


def read(sources: Sequence[str], query: Query, traces: Traces, runs: list[RecordedRun]) -> list[str]:
    """Add the spans of all sources to `traces`, and the runs of reports to `runs`. Returns what was wrong, a line for
    each bad source.

    Raises `click.ClickException` where the disk has no room for what does not fit in memory.
    """
    problems: list[str] = []
    with _progress() as progress:
        for source in sources:
            task = progress.add_task(f"reading {one_line(source)}", total=None)
            try:
                for item in _items(source, query):
                    if isinstance(item, RecordedRun):
                        runs.append(item)
                        continue
                    _add(traces, item)
                    if not traces.spans % _TOLD_EVERY:
                        progress.update(task, description=f"reading {one_line(source)}: {traces.spans:,} spans")
            except ReadError as error:
                problems.append(f"{source}: {error}")
            except click.ClickException:
                raise
            except Exception as error:  # noqa: BLE001 - somebody else's reader; the other sources are still read
                problems.append(f"{source}: its reader failed ({type(error).__name__}: {error})")
            progress.remove_task(task)
    return problems


def _items(source: str, query: Query) -> Iterator[SpanRecord | RecordedRun]:
    reader = next((module for module in discover("readers").values() if module.accepts(source)), None)
    if reader is None:
        raise ReadError("no reader for this kind of source")
    yield from reader.read(source, query)


def _add(traces: Traces, span: SpanRecord) -> None:
    try:
        traces.add(span)
    except OSError as error:
        raise click.ClickException(
            f"no room for the spans that do not fit in memory ({error.strerror}); TMPDIR says where they go"
        ) from None


def analyzed(traces: Traces, watched: bool = True) -> Iterator[Report]:
    """The report of each run, by start, one at a time. `watched`: with a progress bar, which must not be where the
    reports are being written to."""
    config, prices = state.config, price_source()
    warn_once(unknown_names(config))
    with _progress(watched) as progress:
        task = progress.add_task("analysing traces", total=len(traces))
        for done, run in runs_by_start(traces, config.threshold_map()):
            progress.update(task, completed=done)
            if run is not None:
                yield analyze(run, config, prices)


def tell(problems: Sequence[str]) -> None:
    for problem in problems:
        shown = without_credentials(problem) if "://" in problem else problem
        click.secho(f"agentperf: {one_line(shown)}", fg="red", err=True)


def one_line(text: str) -> str:
    """Names of files and answers of servers may hold anything."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _progress(watched: bool = True) -> Progress:
    """On standard error, and only where somebody watches; it leaves nothing behind."""
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        disable=not (watched and console.is_terminal),
    )
