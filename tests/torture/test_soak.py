"""Long runs: nothing that belongs to a run is left when it has ended."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from _recording import recording
from otel_agentperf import AgentPerfSpanProcessor, agent, llm, sanitize, tool


@tool
def search(query: str, session: Any) -> dict[str, Any]:
    return {"query": query, "items": [query] * 5}


@llm(model="m")
async def answer(prompt: str) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"usage": {"prompt_tokens": len(prompt), "completion_tokens": 5}}


@agent(name="soak")
async def work(number: int) -> None:
    session = type("Session", (), {})()
    for step in range(3):
        await answer(f"{number} {step}")
        search(f"{number} {step}", session)


def many(runs: int, first: int = 0) -> None:
    async def batch() -> None:
        await asyncio.gather(*(work(number) for number in range(first, first + runs)))

    asyncio.run(batch())


def test_memory_does_not_grow_with_the_number_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanitize, "_MOST_OBJECTS", 100)
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    with recording(AgentPerfSpanProcessor(meter_provider=meters)) as recorded:

        def round_of(first: int) -> int:
            for batch in range(5):
                many(50, first + batch * 50)
                recorded.kept.spans.clear()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        many(200)
        recorded.kept.spans.clear()
        tracemalloc.start()
        try:
            sizes = [round_of(number * 10_000) for number in range(4)]
        finally:
            tracemalloc.stop()
        # What is remembered across runs is bounded, and full after the first round. What grows, grows in each round;
        # a thread that another test has left behind may happen to allocate in one.
        assert min(sizes[2:]) - sizes[1] < 12_500, sizes


def test_threads_with_event_loops_of_their_own() -> None:
    processor = AgentPerfSpanProcessor()
    with recording(processor) as recorded:
        threads = [threading.Thread(target=many, args=(20, number * 100)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        roots = [span for span in recorded.spans if span.name == "invoke_agent soak"]
        assert len(roots) == 200
        assert {span.attributes["agentperf.tool.calls"] for span in roots} == {3}
        assert {span.attributes["agentperf.incomplete"] for span in roots} == {False}
        assert len(processor._buffer) == 0
