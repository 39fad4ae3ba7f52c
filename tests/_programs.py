"""Programs that run in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


class Ran:
    """A program that ran in a fresh interpreter."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.output, self.errors = done.returncode, done.stdout, done.stderr

    @property
    def spans(self) -> dict[str, dict[str, Any]]:
        """The spans of the console exporter, by name."""
        decoder, found, text = json.JSONDecoder(), {}, self.output
        while (at := text.find("{\n")) >= 0:
            span, end = decoder.raw_decode(text[at:])
            found[span["name"]] = span
            text = text[at + end :]
        return found


def run(tmp_path: Path, program: str, *command: str, **environ: str) -> Ran:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    kept |= {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", **environ}
    done = subprocess.run(
        [*(command or (sys.executable,)), str(path)],
        capture_output=True,
        text=True,
        env=kept,
        timeout=120,
        cwd=tmp_path,
    )
    return Ran(done)


def auto(tmp_path: Path, program: str, **environ: str) -> Ran:
    """Under `opentelemetry-instrument`, printing spans to standard output."""
    command = str(BIN / "opentelemetry-instrument")
    return run(tmp_path, program, command, sys.executable, **{"OTEL_TRACES_EXPORTER": "console", **environ})
