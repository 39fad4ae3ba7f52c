"""The `agentperf` command; one subcommand a file, each a module with a click command named `command`."""

from __future__ import annotations

import click

from .diff import command as diff
from .doctor import command as doctor
from .report import command as report
from .run import command as run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="otel-agentperf", prog_name="agentperf")
def main() -> None:
    """Says why an AI agent run is slow, costly or failing, and what mending it saves.

    \b
    agentperf run app.py                      run a program, then see its report
    agentperf report traces.jsonl             the same for recorded traces
    agentperf report http://localhost:16686   the same for traces in Jaeger
    agentperf diff before.jsonl after.jsonl   what got slower, dearer or worse
    agentperf doctor                          what is traced here, and by whom

    A report shows where the time of each agent run went and its bottlenecks, worst first. For programs, add
    --format json.
    """


main.add_command(run)
main.add_command(report)
main.add_command(diff)
main.add_command(doctor)
