"""Every integration test instruments with a provider of its own, and takes all of it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_agentperf
from _recorded import Recorded
from otel_agentperf._config import Config
from otel_agentperf.capture.tracing import state
from otel_agentperf.processor import off_report


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
