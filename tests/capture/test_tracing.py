"""Attributes are set after the start only where nobody would have seen them at the start."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)

from _recording import Recording, attributes, recording
from otel_agentperf import AgentPerfSpanProcessor, tool
from otel_agentperf.capture.tracing import state

TOLD = {"gen_ai.tool.name": "search", "gen_ai.operation.name": "execute_tool"}


@tool
def search(city: str) -> int:
    return 4


class Looking(Sampler):
    """Decides by attributes, as a user's may."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def should_sample(self, parent_context: Any, trace_id: int, name: str, kind: Any = None, attributes: Any = None,
                      links: Any = None, trace_state: Any = None) -> SamplingResult:  # fmt: skip
        self.seen.append(dict(attributes or {}))
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "looking"


class Watching(SpanProcessor):
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.seen.append(dict(span.attributes))


@pytest.mark.parametrize(
    "wrap", [lambda sampler: sampler, ParentBased, lambda sampler: ParentBased(ALWAYS_ON, sampler)]
)
def test_a_sampler_of_the_users_sees_the_attributes(wrap):
    looking = Looking()
    with recording(sampler=wrap(looking)) as recorded:
        search("Oslo")
        assert not state.may_wait()
        assert TOLD.items() <= attributes(recorded.only()).items()
    assert looking.seen in ([TOLD], [])


def test_a_processor_of_the_users_sees_the_attributes():
    watching = Watching()
    with recording(watching):
        search("Oslo")
    assert watching.seen == [TOLD]


def test_a_processor_that_is_added_later_sees_them_from_then_on(recorded: Recording):
    search("Oslo")
    watching = Watching()
    recorded.provider.add_span_processor(watching)
    search("Bergen")
    assert watching.seen == [TOLD]


@pytest.mark.parametrize("sampler", [None, ALWAYS_ON, ParentBased(TraceIdRatioBased(1.0))])
def test_with_the_sdks_own_nobody_looks_and_all_are_exported(sampler):
    with recording(AgentPerfSpanProcessor(), sampler=sampler) as recorded:
        search("Oslo")
        assert state.may_wait()
        assert TOLD.items() <= attributes(recorded.only()).items()


def test_a_tracer_that_looks_different_is_told_at_once(recorded: Recording):
    given: list[dict[str, Any]] = []
    inner = state.tracer

    class Wrapped:
        def start_span(self, name: str, context: Any, kind: Any, attributes: Any, start_time: Any) -> Any:
            given.append(attributes)
            return inner.start_span(name, context, kind, attributes, start_time=start_time)

    state.tracer = Wrapped()
    search("Oslo")
    assert given == [TOLD]
    assert TOLD.items() <= attributes(recorded.only()).items()
