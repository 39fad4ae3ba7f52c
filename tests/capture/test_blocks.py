"""`with tool("search") as call:` and `async with`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.trace import StatusCode

from _recording import Recording, attributes
from otel_agentperf import agent, cached, llm, retrieval, tool


def test_a_block_is_a_span_and_says_what_it_did(recorded: Recording) -> None:
    with agent("planner"), tool("search") as call:
        call.arguments({"q": "tea"})
        call.set("shop.items", 3)
        call.set("shop.names", ["a", "b"])
        call.set("shop.nothing", None)
        call.result({"found": 2})
    span = recorded.one("execute_tool search")
    found = attributes(span)
    assert found["shop.items"] == 3
    assert found["shop.names"] == ("a", "b")
    assert "shop.nothing" not in found
    assert len(found["agentperf.args.hash"]) == len(found["agentperf.result.hash"]) == 16
    assert recorded.parent_of("execute_tool search") == "invoke_agent planner"


def test_a_block_hashes_like_a_call(recorded: Recording) -> None:
    @tool
    def search(q: str) -> dict[str, int]:
        return {"found": 2}

    search("tea")
    with tool("search") as call:
        call.arguments({"q": "tea"})
        call.result({"found": 2})
    first, second = recorded.spans
    for key in ("agentperf.args.hash", "agentperf.result.hash"):
        assert first.attributes[key] == second.attributes[key]


def test_fewer_than_no_tokens_is_not_told(recorded: Recording) -> None:
    with llm(model="m") as call:
        call.usage(-7, 5, cache_read_tokens=-1)
    told = attributes(recorded.one("chat m"))
    assert {key: value for key, value in told.items() if "usage" in key} == {"gen_ai.usage.output_tokens": 5}


def test_usage_hits_and_chunks(recorded: Recording) -> None:
    with llm(model="m", provider="p") as call:
        call.chunk()
        call.usage(100, 20, cache_read_tokens=50, cache_write_tokens=None)
    with cached("store") as look_up:
        look_up.hit(False)
    found = attributes(recorded.one("chat m"))
    assert found["gen_ai.usage.input_tokens"] == 100
    assert found["gen_ai.usage.cache_read.input_tokens"] == 50
    assert "gen_ai.usage.cache_creation.input_tokens" not in found
    assert found["gen_ai.response.time_to_first_chunk"] >= 0
    assert recorded.one("cache get store").attributes["agentperf.cache.hit"] is False


def test_without_a_name_a_block_is_named_after_its_kind(recorded: Recording) -> None:
    with tool():
        pass
    with retrieval():
        pass
    assert recorded.names == ["execute_tool tool", "retrieval retrieval"]


def test_an_async_block(recorded: Recording) -> None:
    async def main() -> None:
        async with agent("planner"), tool("search") as call:
            await asyncio.sleep(0)
            call.result(1)

    asyncio.run(main())
    assert recorded.parent_of("execute_tool search") == "invoke_agent planner"


@pytest.mark.parametrize("error", [ValueError("secret"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_a_block_that_raises_failed_and_raises_on(recorded: Recording, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, tool("search"):
        raise error
    assert caught.value is error
    span = recorded.only()
    assert span.attributes["error.type"] == type(error).__name__
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert not span.events


def test_one_marker_may_be_entered_again_inside_itself(recorded: Recording) -> None:
    marker = tool("search")
    with marker, marker:
        pass
    inner, outer = recorded.spans
    assert inner.parent.span_id == outer.context.span_id


def test_one_marker_shared_by_threads_and_tasks(recorded: Recording) -> None:
    marker = tool("search")
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        with agent(f"a{number}"):
            barrier.wait()
            with marker as call:
                call.set("number", number)
                barrier.wait()

    async def task(number: int) -> None:
        with agent(f"a{number}"):
            async with marker as call:
                call.set("number", number)
                await asyncio.sleep(0.001 * (number % 7))

    async def main() -> None:
        await asyncio.gather(*(task(number) for number in range(100, 200)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(main())
    agents = {span.context.span_id: span.name for span in recorded.spans if span.name.startswith("invoke_agent")}
    calls = [span for span in recorded.spans if span.name == "execute_tool search"]
    assert len(calls) == 108
    for call in calls:
        assert agents[call.parent.span_id] == f"invoke_agent a{call.attributes['number']}"


def test_a_block_around_a_yield_ends_when_the_generator_is_closed_elsewhere(recorded: Recording) -> None:
    def stream() -> Iterator[int]:
        with tool("inside"):
            yield 1

    reader = stream()
    context = context_api.get_current()
    next(reader)
    threading.Thread(target=reader.close).start()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(5)
    context_api.attach(context)  # the block is the user's own: its span stayed current here, as OpenTelemetry's would
    recorded.one("execute_tool inside")


def test_blocks_around_yields_of_traced_generators_all_end(recorded: Recording) -> None:
    @tool
    def stream(number: int) -> Iterator[int]:
        with tool(f"inside {number}"):
            yield 1
        with tool(f"after {number}"):
            yield 2

    for first, second in zip(stream(1), stream(2), strict=True):
        with agent("consumer"):
            assert first == second
    ended = sorted(name for name in recorded.names if name.startswith(("execute_tool inside", "execute_tool after")))
    assert ended == [f"execute_tool {where} {number}" for where in ("after", "inside") for number in (1, 2)]
    assert len({span.context.span_id for span in recorded.spans}) == len(recorded.spans) == 8


def test_a_block_that_is_not_traced_takes_everything(recorded: Recording) -> None:
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        with tool("search") as call:
            call.arguments({"q": 1})
            call.set("a", 1)
            call.usage(1, 2)
            call.result(3)
    finally:
        detach(token)
    assert not recorded.spans


def test_a_block_left_while_its_span_is_not_current_still_ends(recorded: Recording) -> None:
    with tool("search"):
        token = context_api.attach(context_api.Context())
    assert recorded.names == ["execute_tool search"]
    context_api.detach(token)
    context_api.attach(context_api.Context())


def test_hostile_values_given_to_a_block_reach_no_span(recorded: Recording, swallow: None) -> None:
    hostile: Any = object()
    with tool("search") as call:
        call.usage(hostile, 2**70)
        call.hit(hostile)
        call.set(hostile, hostile)
        call.set("\ud800", "\ud800")
        call.set("big", 2**70)
        call.set("nested", [[1], {"a": hostile}, 2**70, None])
        call.result(hostile)
    assert recorded.encoded()


def test_a_block_without_a_provider_does_nothing() -> None:
    from otel_agentperf.capture.tracing import state

    before = state.tracer
    state.tracer = trace.NoOpTracer()
    try:
        with agent("a"), tool("b") as call:
            call.arguments({"a": 1})
            call.result(1)
    finally:
        state.tracer = before
