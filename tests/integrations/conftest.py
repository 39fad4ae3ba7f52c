"""Every integration test instruments with a provider of its own, and takes all of it back.

The tests of an integration whose library is not installed here are left out and named: `nox` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_agentperf
from _recorded import Recorded
from otel_agentperf._config import Config
from otel_agentperf._discover import discover
from otel_agentperf._versions import installed
from otel_agentperf.capture.tracing import state
from otel_agentperf.processor import off_report

_HERE = Path(__file__).parent


def _absent(path: Path) -> str | None:
    """The integration that a file tests, where its library is not here: `test_mcp_frameworks.py` is of `mcp`.

    By its distribution: a namespace package such as `google` may be here without it.
    """
    subject = path.stem.removeprefix("test_")
    names = [name for name in discover("integrations") if subject == name or subject.startswith(f"{name}_")]
    if not names:
        return None
    name = max(names, key=len)
    distribution = discover("integrations")[name].DISTRIBUTION
    return name if distribution and installed(distribution) is None else None


_left_out = {path.name: name for path in _HERE.glob("test_*.py") if (name := _absent(path))}
collect_ignore = list(_left_out)


def pytest_report_header() -> str | None:
    absent = ", ".join(sorted(set(_left_out.values())))
    return f"not installed here, see noxfile.py: {absent}" if absent else None


@pytest.fixture
def instrumented() -> Iterator[Callable[..., Recorded]]:
    """Instrument with the settings given."""
    done: list[Recorded] = []
    before = state.tracer

    def instrument(**settings: object) -> Recorded:
        recorded = Recorded(TracerProvider(), InMemorySpanExporter(), [])
        recorded.provider.add_span_processor(SimpleSpanProcessor(recorded.exporter))
        otel_agentperf.on_report(recorded.reports.append)
        done.append(recorded)
        config = Config(**settings)  # type: ignore[arg-type]
        otel_agentperf.instrument(tracer_provider=recorded.provider, config=config)
        return recorded

    yield instrument
    otel_agentperf.uninstrument()
    for recorded in done:
        off_report(recorded.reports.append)
        recorded.provider.shutdown()
    state.configure(Config())
    state.tracer = before


@pytest.fixture
def recorded(instrumented: Callable[..., Recorded]) -> Recorded:
    """Instrumented with the defaults."""
    return instrumented()
