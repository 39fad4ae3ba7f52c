"""Libraries work as ever where nobody set up OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys


def test_programs_run_without_a_provider() -> None:
    code = """
import asyncio, functools, warnings
warnings.simplefilter("error")
import otel_agentperf
otel_agentperf.instrument()
from langchain_core.tools import tool
from langchain_core.language_models.fake_chat_models import FakeListChatModel
import cachetools

@tool
def double(number: int) -> int:
    "Double."
    return 2 * number

@functools.lru_cache
def triple(number): return 3 * number

@cachetools.cached({})
def square(number): return number ** 2

assert double.invoke({"number": 2}) == 4
assert FakeListChatModel(responses=["a"]).invoke("x").content == "a"
assert [triple(1), triple(1), square(2), square(2)] == [3, 3, 4, 4]
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "fine\n")
    (line,) = done.stderr.splitlines()
    assert "nothing was recorded, because no tracer provider was set" in line
