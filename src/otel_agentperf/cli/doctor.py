"""`agentperf doctor`: what is installed, who instruments it, whether telemetry arrives, what traces cannot show."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TextIO

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..renderers.terminal import console_on
from ._checks import SOURCES, Diagnosis, Export, Library, diagnose
from ._output import write_with

_SCHEMA = "agentperf.doctor/v1"


@click.command("doctor", short_help="Check this environment: versions, instrumentations, exporters.")
@click.option("--no-connect", is_flag=True, help="Do not try the exporters' endpoints.")
@click.option(
    "--format", "format_", type=click.Choice(["terminal", "json"]), default="terminal", show_default=True,
    help=f"terminal: for people; json: one JSON document ({_SCHEMA}).",
)  # fmt: skip
def command(no_connect: bool, format_: str) -> None:
    """Check the environment that this command is installed in, with the settings it is started with.

    \b
    agentperf doctor
    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4317 agentperf doctor

    It names the libraries that are traced and by whom, those that are instrumented twice, versions outside of the
    tested range, whether the exporters' endpoints answer (an empty batch is sent), and what the traces will not
    show, with the setting that mends it.

    Exit code 0, or 1 where something keeps telemetry from being made or from arriving.
    """
    found = diagnose(connect=not no_connect)
    if format_ == "json":
        click.echo(json.dumps({"schema": _SCHEMA, **asdict(found)}, indent=2))
    else:
        write_with(partial(_print, found), None)
    sys.exit(1 if found.problems else 0)


def _print(found: Diagnosis, output: TextIO) -> None:
    with console_on(output) as console:
        _print_all(console, found)


def _print_all(console: Console, found: Diagnosis) -> None:
    console.print(Text(" · ".join(f"{name} {version}" for name, version in found.versions.items()), "dim"))
    _print_libraries(console, found)
    console.print(Text("\nExport", "bold"))
    for export in found.exports:
        console.print(Padding(_export_line(export), (0, 0, 0, 2)))
    _print_list(
        console, "What traces will not show", [limit for library in found.libraries for limit in library.limits]
    )
    _print_list(console, "Worth knowing", found.notes)
    _print_list(console, "Problems", found.problems, "bold red")
    if not found.problems:
        console.print(Text("\nNo problem was found.", "bold green"))


def _print_libraries(console: Console, found: Diagnosis) -> None:
    console.print(Text("\nLibraries", "bold"))
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 2))
    for library in found.libraries:
        table.add_row(library.distribution, library.version, "; ".join(_told(library)))
    console.print(table if found.libraries else Padding(Text("none that there is an integration for"), (0, 0, 0, 2)))


def _told(library: Library) -> Iterator[str]:
    yield "left out by the settings" if library.disabled else SOURCES[library.source]
    if library.others:
        yield "also " + ", ".join(library.others)
    if not library.in_range:
        yield f"not in the tested range {library.tested}"


def _export_line(export: Export) -> str:
    if export.endpoint is None:
        told = "no endpoint to try" if export.problem is None else export.problem
    elif export.problem is None:
        told = export.endpoint
    elif export.configured:
        told = f"{export.endpoint} does not answer"
    else:
        told = f"{export.endpoint} (the default) does not answer; agentperf run needs none"
    return f"{export.signal}: {export.exporter}, {told}"


def _print_list(console: Console, title: str, entries: Sequence[str], style: str = "bold") -> None:
    if entries:
        console.print(Text(f"\n{title}", style))
    for entry in entries:
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row("  -", Text(entry))
        console.print(line)
