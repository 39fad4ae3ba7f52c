"""`agentperf` as a user starts it: in a process of its own, in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

AGENTPERF = Path(sys.executable).with_name("agentperf")

PLANNER = """\
import time
from otel_agentperf import agent, tool

@tool
def search(query):
    time.sleep(0.002)
    return query

@agent
def planner():
    return [search(number) for number in range(3)]
"""
"""The head of a program with an agent that takes next to no time."""


def environment(**changes: str) -> dict[str, str]:
    """Ours, without what would make a difference."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTHON", "COLUMNS"))}
    return {**kept, **changes}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The report, which is the last line of standard output."""
        return dict(json.loads(self.out.splitlines()[-1]))

    @property
    def runs(self) -> list[str]:
        return [run["name"] for run in self.document["runs"]]


def _heed_interrupts() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and so would be all below it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Folder:
    """Where programs are written and run."""

    path: Path

    def write(self, code: str, name: str = "app.py") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(code))
        return path

    def start(self, *command: object, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(part) for part in command], cwd=self.path, env=environment(**(env or {})), text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE,
            preexec_fn=_heed_interrupts, **options,
        )  # fmt: skip

    def run(self, *command: object, stdin: str = "", env: Mapping[str, str] | None = None, **options: Any) -> Done:
        with self.start(*command, env=env, **options) as process:
            try:
                out, err = process.communicate(stdin, timeout=10)
            except BaseException:
                process.kill()
                raise
        return Done(process.returncode, out, err)

    def agentperf(self, *args: object, **options: Any) -> Done:
        return self.run(AGENTPERF, *args, **options)

    def report_of(self, code: str, *args: object, **options: Any) -> Done:
        """Run a program that begins with `PLANNER`, with the report as JSON."""
        self.write(PLANNER + dedent(code))
        return self.agentperf("run", "--format", "json", "app.py", *args, **options)
