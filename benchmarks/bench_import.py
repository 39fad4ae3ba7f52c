"""What importing the package, compiled as pip does, adds to the bare SDK: seconds and memory, each in fresh
interpreters, in turns.

python benchmarks/bench_import.py
"""

from __future__ import annotations

import compileall
import statistics
import subprocess
import sys
from pathlib import Path

import otel_agentperf

ROUNDS = 15
PROBE = """
import time
started = time.perf_counter()
{code}
seconds = time.perf_counter() - started
import psutil
print(seconds, psutil.Process().memory_info().rss / 1e6)
"""
SDK = "from opentelemetry import trace; from opentelemetry.sdk.trace import TracerProvider; TracerProvider()"
VARIANTS = {
    "the SDK alone": SDK,
    "+ import otel_agentperf": f"{SDK}; import otel_agentperf",
    "+ the decorators": f"{SDK}; from otel_agentperf import agent, tool",
    "+ the processor": f"{SDK}; from otel_agentperf import agent, tool, AgentPerfSpanProcessor",
    "+ instrument()": f"{SDK}; import otel_agentperf; otel_agentperf.instrument()",
}


def probe(code: str) -> tuple[float, float]:
    """Seconds and megabytes."""
    output = subprocess.run(
        [sys.executable, "-c", PROBE.format(code=code)], capture_output=True, text=True, check=True
    ).stdout
    seconds, megabytes = output.split()
    return float(seconds), float(megabytes)


def main() -> None:
    compileall.compile_dir(Path(otel_agentperf.__file__).parent, quiet=2)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for _ in range(ROUNDS):
        for name, code in VARIANTS.items():
            found[name].append(probe(code))
    base_s, base_mb = (statistics.median(column) for column in zip(*found["the SDK alone"], strict=True))
    print(f"{'':28}{'ms':>8}{'over SDK':>10}{'MB':>8}{'over SDK':>10}")
    for name, values in found.items():
        seconds, megabytes = (statistics.median(column) for column in zip(*values, strict=True))
        print(
            f"{name:28}{seconds * 1e3:8.0f}{(seconds - base_s) * 1e3:10.0f}{megabytes:8.1f}{megabytes - base_mb:10.1f}"
        )


if __name__ == "__main__":
    main()
