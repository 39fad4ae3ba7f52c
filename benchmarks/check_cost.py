"""Does a traced call cost more than it did? Counted in instructions, so that a busy machine does not matter.

    apt-get install valgrind
    python benchmarks/check_cost.py             exit code 1 where a ratio is 10 % above benchmarks/expected_cost.json
    python benchmarks/check_cost.py --update    store what is measured now

Each program runs under `valgrind --tool=cachegrind` in a process of its own; what an empty one takes is subtracted. A
bare SDK span with eight attributes is the unit. Hash seed and span ids are fixed, and nothing is done by the clock, so
that two counts differ by less than 1 %. The ratios hold for one Python and one SDK: those of another are stored beside.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import opentelemetry.sdk.version
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import use_span

from otel_agentperf import AgentPerfSpanProcessor, agent, tool
from otel_agentperf._config import Config
from otel_agentperf.capture.tracing import state

CALLS, SHORT_RUN, WARM_UP = 1_000, 10, 20
TOLERANCE = 1.10
EXPECTED = Path(__file__).with_name("expected_cost.json")
RESULT = {"city": "Oslo", "celsius": 4}
_COUNTED = re.compile(r"I\s+refs:\s+([\d,]+)")


@tool
def weather(city: str, days: int) -> dict[str, Any]:
    return RESULT


@agent(name="planner")
def run(calls: int) -> None:
    for _ in range(calls):
        weather("Oslo", days=3)


def bare(calls: int) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("bare")
    told = {f"some.attribute.{number}": "0123456789abcdef" for number in range(8)}
    for _ in range(calls):
        with tracer.start_as_current_span("execute_tool weather") as span:
            for key, value in told.items():
                span.set_attribute(key, value)


def untouched(calls: int) -> None:
    """Without the processor."""
    state.use(TracerProvider(shutdown_on_exit=False))
    for _ in range(calls):
        weather("Oslo", days=3)


def collected(calls: int) -> None:
    """With the processor, in a run that does not end."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentPerfSpanProcessor(Config(resource_monitor=False), None, provider))
    state.use(provider)
    with use_span(provider.get_tracer("bare").start_span("invoke_agent planner")):
        for _ in range(calls):
            weather("Oslo", days=3)


def whole_runs(calls: int) -> None:
    """With the processor; the runs' ends, analysis and all, are counted with their calls."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentPerfSpanProcessor(Config(resource_monitor=False), None, provider))
    state.use(provider)
    for _ in range(calls // SHORT_RUN):
        run(SHORT_RUN)


def one_run(calls: int) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentPerfSpanProcessor(Config(resource_monitor=False), None, provider))
    state.use(provider)
    run(calls)


PROGRAMS: dict[str, Callable[[int], None]] = {
    "bare span": bare,
    "@tool, without the processor": untouched,
    "@tool, with the processor": collected,
    "@tool, in one long run": one_run,
    "@tool, in runs of ten calls": whole_runs,
}


def execute(name: str, calls: int) -> None:
    """In the counted process: everything once, so that all are equally warm, and then the program."""
    random.seed(0)
    for program in PROGRAMS.values():
        program(WARM_UP)
    gc.collect()
    gc.disable()
    PROGRAMS[name](calls)


def instructions(name: str, calls: int) -> int:
    """Raises `CalledProcessError` where valgrind fails, `FileNotFoundError` where there is none."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
               sys.executable, __file__, "--execute", name, str(calls)]  # fmt: skip
    env = {**os.environ, "PYTHONHASHSEED": "0", "OTEL_AGENTPERF_HASH_KEY": "key"}
    done = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, check=True, timeout=600)
    counted = _COUNTED.search(done.stderr)
    assert counted is not None, done.stderr
    return int(counted.group(1).replace(",", ""))


def measured() -> dict[str, float]:
    """A call's instructions, in bare spans."""
    empty = instructions("bare span", 0)
    costs = {name: (instructions(name, CALLS) - empty) / CALLS for name in PROGRAMS}
    unit = costs.pop("bare span")
    print(f"a bare span takes {unit:,.0f} instructions")
    return {name: round(cost / unit, 3) for name, cost in costs.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="store what is measured")
    parser.add_argument("--execute", nargs=2, metavar=("PROGRAM", "CALLS"), help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.execute:
        execute(told.execute[0], int(told.execute[1]))
        return 0
    versions = f"Python {sys.version_info[0]}.{sys.version_info[1]}, SDK {opentelemetry.sdk.version.__version__}"
    stored: dict[str, dict[str, float]] = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    if not told.update and versions not in stored:
        print(f"{EXPECTED.name} has nothing for {versions} (only for {'; '.join(stored)}): run with --update")
        return 1
    now = measured()
    if told.update:
        EXPECTED.write_text(json.dumps({**stored, versions: now}, indent=2, ensure_ascii=False) + "\n")
    return compare(now, now if told.update else stored[versions])


def compare(now: dict[str, float], expected: dict[str, float]) -> int:
    failed = 0
    print(f"{'× a bare span':32}{'expected':>9}{'now':>8}")
    for name, ratio in now.items():
        worse = ratio > TOLERANCE * expected[name]
        failed += worse
        print(f"{name:32}{expected[name]:9.2f}{ratio:8.2f}" + ("  FAILED: more than 10 % above" if worse else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
