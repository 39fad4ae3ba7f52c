"""A user's program, run plain, under `agentperf run` and under `opentelemetry-instrument`: the same result each time.

    told = three_ways(PROGRAM, tmp_path)
    assert told.tools == {"get_weather": 2}

Raises unless the standard output and the exit code are the same, nothing of ours is on standard error, and both
reports count the same.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

from cli._receiver import receiving

_BIN = Path(sys.executable).parent
_OURS = re.compile(r"otel_agentperf|agentperf:|Traceback|Failed to detach|was never awaited|Overriding of current")
_LONGEST_S = 120


@dataclass(frozen=True)
class Told:
    """What a report counts in all runs of the program together."""

    document: dict[str, Any]
    err: str
    """the program's standard error under `agentperf run`"""

    @property
    def runs(self) -> list[str]:
        return [run["name"] for run in self.document["runs"]]

    @property
    def agents(self) -> dict[str, int]:
        return self.calls("agent")

    @property
    def tools(self) -> dict[str, int]:
        return self.calls("tool")

    @property
    def llm(self) -> dict[str, int]:
        return self.calls("llm")

    @property
    def tokens(self) -> dict[str, int]:
        """`input`, `output`, `cached_input` where there are any."""
        total: Counter[str] = Counter()
        for run in self.document["runs"]:
            total.update({name: value for name, value in (run["tokens"] or {}).items() if value})
        return dict(total)

    @property
    def caches(self) -> dict[str, tuple[int, int]]:
        """Hits and look-ups by cache."""
        hits: Counter[str] = Counter()
        lookups: Counter[str] = Counter()
        for run in self.document["runs"]:
            for cache in run["caches"]:
                hits[cache["name"]] += cache["hits"]
                lookups[cache["name"]] += cache["lookups"]
        return {name: (hits[name], lookups[name]) for name in lookups}

    @property
    def errors(self) -> dict[str, int]:
        """Failed calls by operation."""
        return self._sum("errors", None)

    def calls(self, kind: str) -> dict[str, int]:
        return self._sum("calls", kind)

    def _sum(self, number: str, kind: str | None) -> dict[str, int]:
        total: Counter[str] = Counter()
        for run in self.document["runs"]:
            for operation in run["operations"]:
                if kind in (None, operation["kind"]) and operation[number]:
                    total[operation["name"]] += operation[number]
        return dict(total)

    @property
    def counts(self) -> dict[str, Any]:
        kinds = {kind: self.calls(kind) for kind in ("agent", "tool", "llm", "retrieval")}
        return {**kinds, "tokens": self.tokens, "errors": self.errors, "runs": sorted(self.runs)}


def three_ways(
    program: str | Path, folder: Path, *, env: Mapping[str, str] | None = None, noise: str = r"(?!)", code: int = 0
) -> Told:
    """Run a program (its text, or a path) in each way.

    `env` is added to an environment without any OTEL_ variable; lines of standard output that match `noise` (times,
    ids) are left out of the comparison; `code` is the exit code it must have.
    """
    if isinstance(program, str):
        path = folder / "program.py"
        path.write_text(dedent(program))
    else:
        path = program
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTHON", "COLUMNS"))}
    env = {**kept, **(env or {})}
    plain = _run([sys.executable, path], folder, env)
    report = folder / "report.json"
    command = [_BIN / "agentperf", "run", "--format", "json", "--output", report, path]
    run = _run(command, folder, env)
    with receiving() as received:
        exporting = {
            "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
        }  # fmt: skip
        exported = _run([_BIN / "opentelemetry-instrument", sys.executable, path], folder, {**env, **exporting})
    traces = folder / "traces"
    traces.mkdir(exist_ok=True)
    for number, (where, body) in enumerate(received.requests):
        if where == "/v1/traces":
            (traces / f"{number}.pb").write_bytes(body)
    read = _run([_BIN / "agentperf", "report", "--format", "json", traces], folder, env)
    for done in (plain, run, exported):
        assert done.returncode == code, (done.args, done.stdout, done.stderr)
        assert _without(noise, done.stdout) == _without(noise, plain.stdout), done.args
    for done in (run, exported):
        ours = [
            line
            for line in map(_without_place, done.stderr.splitlines())
            if _OURS.search(line) and line not in plain.stderr
        ]
        assert not ours, done.stderr
    first, second = Told(json.loads(report.read_text()), run.stderr), Told(json.loads(read.stdout), exported.stderr)
    assert first.counts == second.counts
    return first


def _run(command: list[Any], folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env=env, text=True, capture_output=True, check=False,
        errors="replace", timeout=_LONGEST_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _without_place(line: str) -> str:
    """Without the place in the source that happened to be at work when a warning came."""
    return re.sub(r"^\S+:\d+: ", "", line)


def _without(noise: str, text: str) -> list[str]:
    return [line for line in text.splitlines() if not re.search(noise, line)]
