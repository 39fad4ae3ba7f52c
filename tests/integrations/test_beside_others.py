"""Beside the instrumentations of others: each agent, tool call, model call and token counts once, whoever tells it,
in whatever order they were switched on; and with theirs alone, ours of the same libraries left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import _beside
from _model_server import INPUT, OUTPUT

ENVIRONMENTS = ("beside",)
REQUIRES = (
    "langchain>=1.4", "langchain-openai>=1.7", "openai>=3", "openai-agents>=0.24", "logfire>=5",
    "openinference-instrumentation-langchain>=0.1.80", "openinference-instrumentation-openai>=0.1.66",
    "openinference-instrumentation-openai-agents>=2.6", "opentelemetry-instrumentation-langchain>=0.62",
    "opentelemetry-instrumentation-openai>=0.62", "opentelemetry-instrumentation-openai-agents>=0.62",
    "opentelemetry-instrumentation-genai-langchain>=1.3b0", "opentelemetry-instrumentation-genai-openai>=1.3b0",
    "opentelemetry-instrumentation-genai-openai-agents>=1.3b0",
)  # fmt: skip
PROGRAM = Path(_beside.__file__)
TESTS = PROGRAM.parent
EXPECTED: dict[str, dict[str, Any]] = {
    "langgraph": {
        "agent": {"planner": 1, "expert": 1},
        "tool": {"get_weather": 1, "ask_expert": 1},
        "llm": {"stub": 3},
        "tokens": {"input": 3 * INPUT, "output": 3 * OUTPUT},
        "below": [["ask_expert", "planner"], ["expert", "ask_expert"], ["get_weather", "planner"], ["planner", ""]],
    },
    "openai_agents": {
        "agent": {"triage": 1, "expert": 1},
        "tool": {"get_weather": 1},
        "llm": {"stub": 3},
        "tokens": {"input": 3 * INPUT, "output": 3 * OUTPUT},
        "below": [["expert", ""], ["get_weather", "expert"], ["triage", ""]],
    },
    "openai_client": {
        "agent": {"caller": 1},
        "tool": {},
        "llm": {"stub": 4},
        "tokens": {"input": 3 * INPUT, "output": 3 * OUTPUT},
        "below": [["caller", ""]],
    },
}
RUNS = {"langgraph": ["planner"], "openai_agents": ["agent workflow"], "openai_client": ["caller"]}
NOT_TOLD = {
    ("openinference", "langgraph"): "its spans are never current: the client's calls are traces of their own",
    ("logfire", "langgraph"): "it has nothing for LangChain but what LangSmith sends",
    ("openai-v2", "langgraph"): "it has nothing for agents",
    ("openai-v2", "openai_agents"): "it has nothing for agents",
    ("openai-v2", "openai_client"): "it does not know the Responses API",
}


@cache
def told(vendor: str, order: str) -> dict[str, Any]:
    """Each vendor's in a process of its own: instrumentors cannot all be taken back."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTHON", "LOGFIRE"))}
    env = {**kept, "PYTHONPATH": str(TESTS), "OPENAI_API_KEY": "", "TRACELOOP_TELEMETRY": "false"}
    command = [sys.executable, str(PROGRAM), vendor, order]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for ours in ("otel_agentperf", "agentperf:", "Traceback", "Failed to detach"):
        assert ours not in done.stderr
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def _is_here(vendor: str) -> bool:
    if vendor == "logfire":
        return find_spec("logfire") is not None
    try:
        if vendor == "openai-v2" and find_spec("opentelemetry.util.genai.instruments") is None:
            return False  # its newest release needs an old one of its own helpers
        return all(find_spec(named.partition(":")[0]) for named in _beside.INSTRUMENTORS[vendor])
    except ModuleNotFoundError:
        return False


here = [vendor for vendor in _beside.VENDORS if _is_here(vendor)]
pytestmark = pytest.mark.skipif(not here, reason="nobody else's instrumentation is installed here")
each_vendor = pytest.mark.parametrize("vendor", here or ["none"])
each_program = pytest.mark.parametrize("program", EXPECTED)


@each_vendor
@each_program
@pytest.mark.parametrize("order", ["ours-first", "theirs-first"])
def test_together_each_call_counts_once(vendor: str, order: str, program: str) -> None:
    document = told(vendor, order)[program]
    assert {key: document[key] for key in EXPECTED[program]} == EXPECTED[program]
    assert [run.lower() for run in document["runs"] if not run.startswith("create_agent ")] == RUNS[program]


@each_vendor
@each_program
def test_theirs_alone_tell_the_same(vendor: str, program: str) -> None:
    if (vendor, program) in NOT_TOLD:
        pytest.skip(NOT_TOLD[vendor, program])
    document = told(vendor, "theirs-only")[program]
    assert {key: document[key] for key in EXPECTED[program]} == EXPECTED[program]
    assert [run.lower() for run in document["runs"] if not run.startswith("create_agent ")] == RUNS[program]
