"""No provider, a disabled SDK, unsampled and suppressed calls: everything works, nothing is traced."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased

from _recording import recording
from otel_agentperf import AgentPerfSpanProcessor, agent, cached, llm, tool


@tool
def plain(x: int) -> int:
    return x


@agent
async def coroutine(x: int) -> int:
    return x


@llm
def generator(x: int) -> Iterator[int]:
    yield x


@cached
async def async_generator(x: int) -> AsyncIterator[int]:
    yield x


def everything_works() -> None:
    async def read() -> list[int]:
        return [item async for item in async_generator(4)]

    with agent("a"):
        assert plain(1) == 1
        assert asyncio.run(coroutine(2)) == 2
        assert list(generator(3)) == [3]
        assert asyncio.run(read()) == [4]


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(TraceIdRatioBased(0.0))])
def test_unsampled(sampler: object) -> None:
    with recording(AgentPerfSpanProcessor(), sampler=sampler) as recorded:  # type: ignore[arg-type]
        everything_works()
        assert not recorded.spans


def test_suppressed() -> None:
    with recording(AgentPerfSpanProcessor()) as recorded:
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        everything_works()
        detach(token)
        assert not recorded.spans


def test_suppressed_by_the_instrumentations_own_means() -> None:
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with recording(AgentPerfSpanProcessor()) as recorded:
        with suppress_instrumentation():
            everything_works()
        assert not recorded.spans


def program(code: str, **environ: str) -> str:
    """Standard output of a fresh interpreter; it must exit well and say nothing on standard error."""
    import os

    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(__file__)), **environ},
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_no_provider_at_all() -> None:
    assert program("from capture import test_switched_off as t; t.everything_works(); print('ok')") == "ok\n"


def test_a_provider_that_comes_later_is_used() -> None:
    code = """
        from otel_agentperf import tool
        marked = tool(name="late")(lambda: None)
        marked()
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")))
        trace.set_tracer_provider(provider)
        marked()
    """
    assert program(code) == "execute_tool late\n"


def test_a_disabled_sdk() -> None:
    code = """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from otel_agentperf import AgentPerfSpanProcessor, instrument, on_report
        trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(AgentPerfSpanProcessor())
        instrument()
        on_report(print)
        from capture import test_switched_off as t
        t.everything_works()
        print("ok")
    """
    assert program(code, OTEL_SDK_DISABLED="true") == "ok\n"


def test_disabled_by_our_own_setting() -> None:
    code = """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from otel_agentperf import AgentPerfSpanProcessor, instrument, on_report
        from concurrent.futures import ThreadPoolExecutor
        submit = ThreadPoolExecutor.submit
        trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(AgentPerfSpanProcessor())
        instrument()
        on_report(print)
        from capture import test_switched_off as t
        t.everything_works()
        assert ThreadPoolExecutor.submit is submit
        print("ok")
    """
    assert program(code, OTEL_AGENTPERF_ENABLED="false") == "ok\n"
