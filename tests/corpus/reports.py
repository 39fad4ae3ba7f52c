"""The real way in: the traces as files, and `agentperf report --format json` on them in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .build import Case
from .otlp import Json

RunId = tuple[str, str]
_COMMAND = "import sys; from otel_agentperf.cli import main; sys.exit(main())"


class BrokenReportError(Exception):
    """The command failed, or said on standard error that something of its own did."""


def write_traces(cases: Iterable[Case], folder: Path) -> None:
    """JSON lines, as the Collector's file exporter writes them: one file a kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        write_documents(folder / f"{case.scenario.kind}.jsonl", case.documents)


def write_documents(path: Path, documents: Iterable[Json]) -> None:
    """Append OTLP JSON documents, one a line."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(document) + "\n" for document in documents)


def report(folder: Path, settings: Mapping[str, str]) -> dict[RunId, Mapping[str, Any]]:
    """The runs that the command reports for a folder, by trace id and root span id."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, "report", "--format", "json", str(folder)],
        capture_output=True, text=True, check=False, env={**environment, **settings}, cwd=folder,
    )  # fmt: skip
    if done.returncode or done.stderr.strip():
        raise BrokenReportError(f"exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    runs = json.loads(done.stdout)["runs"]
    return {(run["trace_id"], run["root_span_id"]): run for run in runs}
