"""Coroutines, generators and async generators: driven to the end, left early, closed from elsewhere, never begun."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from _recording import Recording
from otel_agentperf import agent, llm, tool


def current() -> str | None:
    return getattr(trace.get_current_span(), "name", None)


@tool
def numbers(upto: int = 3) -> Iterator[int]:
    for number in range(upto):
        inner()
        yield number


@tool
async def async_numbers(upto: int = 3) -> AsyncIterator[int]:
    for number in range(upto):
        await asyncio.sleep(0)
        inner()
        yield number


inner = tool(name="inner")(lambda: None)


# --- generators -------------------------------------------------------------------------------------------


def test_a_generators_span_covers_all_its_steps(recorded: Recording) -> None:
    assert list(numbers()) == [0, 1, 2]
    span = recorded.one("execute_tool numbers")
    assert span.attributes["gen_ai.response.time_to_first_chunk"] >= 0
    assert "agentperf.result.hash" not in span.attributes
    assert [child.parent.span_id for child in recorded.spans if child is not span] == [span.context.span_id] * 3


def test_the_consumer_is_never_inside_the_generator(recorded: Recording) -> None:
    with agent("consumer"):
        for _ in numbers():
            assert current() == "invoke_agent consumer"
            tool(name="between")(lambda: None)()
    outside = [span for span in recorded.spans if span.name == "execute_tool between"]
    root = recorded.one("invoke_agent consumer")
    assert {span.parent.span_id for span in outside} == {root.context.span_id}


def test_a_generator_left_early_ended_well(recorded: Recording) -> None:
    for _ in numbers():
        break
    span = recorded.one("execute_tool numbers")
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in span.attributes


def test_a_generator_closed_by_hand_runs_its_cleanup_inside_its_span(recorded: Recording) -> None:
    seen = []

    @tool
    def stream() -> Iterator[int]:
        try:
            yield 1
        finally:
            seen.append(current())

    reader = stream()
    next(reader)
    reader.close()
    reader.close()
    assert seen == ["execute_tool stream"]
    recorded.only()


def test_values_sent_and_thrown_arrive_and_the_return_value_comes_back(recorded: Recording) -> None:
    @tool
    def echo() -> Any:
        received: list[Any] = []
        while len(received) < 3:
            try:
                received.append((yield len(received)))
            except KeyError as thrown:
                received.append(thrown is error)
        return received

    error = KeyError("x")

    def reading() -> Any:
        result = yield from echo()
        yield result

    reader = reading()
    assert next(reader) == 0
    assert reader.send("a") == 1
    assert reader.throw(error) == 2
    assert reader.send(None) == ["a", True, None]
    assert "agentperf.result.hash" in recorded.only().attributes


def test_what_is_thrown_and_not_caught_fails_the_call(recorded: Recording) -> None:
    reader = numbers()
    next(reader)
    error = ValueError()
    with pytest.raises(ValueError) as caught:
        reader.throw(error)
    assert caught.value is error
    assert recorded.one("execute_tool numbers").attributes["error.type"] == "ValueError"


def test_a_generator_that_refuses_to_close_says_so_as_before(recorded: Recording) -> None:
    @tool
    def stubborn() -> Iterator[int]:
        for _ in range(2):
            with contextlib.suppress(GeneratorExit):
                yield 1

    reader = stubborn()
    next(reader)
    with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
        reader.close()
    assert recorded.only().attributes["error.type"] == "RuntimeError"


def test_interleaved_generators_do_not_mix(recorded: Recording) -> None:
    readers = [tool(name=f"g{number}")(numbers.__wrapped__)(2) for number in range(5)]
    for step in range(3):
        for reader in readers:
            next(reader, None)
            assert current() is None, step
    spans = {span.name: span.context.span_id for span in recorded.spans if span.name != "execute_tool inner"}
    children = [span.parent.span_id for span in recorded.spans if span.name == "execute_tool inner"]
    assert sorted(children) == sorted([*spans.values()] * 2)


def test_a_generator_never_read_makes_no_span(recorded: Recording) -> None:
    numbers()
    gc.collect()
    assert not recorded.spans


def test_a_generator_dropped_half_way_ends_its_span(recorded: Recording) -> None:
    reader = numbers()
    next(reader)
    del reader
    gc.collect()
    recorded.one("execute_tool numbers")


def test_a_generator_in_a_reference_cycle_ends_its_span_when_collected(recorded: Recording) -> None:
    holder: dict[str, Any] = {}

    @tool
    def stream(holder: dict[str, Any]) -> Iterator[int]:
        yield 1
        yield len(holder)

    holder["reader"] = stream(holder)
    next(holder["reader"])
    del holder
    gc.collect()
    recorded.one("execute_tool stream")


def test_a_plain_function_that_returns_a_generator_ends_with_that(recorded: Recording) -> None:
    stream = tool(name="stream")(lambda: (inner() for _ in range(2)))()
    assert not recorded.spans
    list(stream)
    assert recorded.names == ["execute_tool inner"] * 2 + ["execute_tool stream"]


def test_a_generator_that_somebody_already_reads_is_handed_on_as_it_is(recorded: Recording) -> None:
    shared = (number for number in range(3))
    next(shared)
    get = tool(name="get")(lambda: shared)
    assert get() is shared
    assert (next(get()), next(get())) == (1, 2)


class Unhashable(type):
    def __hash__(cls) -> int:
        raise RuntimeError


def test_a_result_whose_class_cannot_be_hashed_is_handed_on_as_it_is(recorded: Recording) -> None:
    made = Unhashable("Made", (), {})()
    assert tool(name="make")(lambda: made)() is made
    assert recorded.names == ["execute_tool make"]


# --- coroutines -------------------------------------------------------------------------------------------


@agent
async def waits(seconds: float = 60.0) -> str:
    await asyncio.sleep(seconds)
    return "done"


def test_a_coroutine_has_the_name_of_its_function(recorded: Recording) -> None:
    waiting = waits(0)
    assert (waiting.__name__, waiting.__qualname__) == ("waits", "waits")  # type: ignore[attr-defined]
    assert asyncio.run(waiting) == "done"


def test_a_coroutine_never_awaited_is_warned_of_by_its_own_name(recorded: Recording) -> None:
    messages: set[str] = set()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *more: messages.add(str(message))  # type: ignore[assignment]
        warnings.simplefilter("always")
        waits()
        gc.collect()
    assert messages == {"coroutine 'waits' was never awaited"}
    assert not recorded.spans


def test_a_cancelled_task(recorded: Recording) -> None:
    async def main() -> None:
        task = asyncio.create_task(waits())
        await asyncio.sleep(0.01)
        task.cancel("the message is content")
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    span = recorded.only()
    assert span.attributes["error.type"] == "CancelledError"
    assert span.status.status_code is StatusCode.ERROR
    assert not span.events


def test_a_timeout_cancels_what_is_inside(recorded: Recording) -> None:
    @tool
    async def slow() -> None:
        await asyncio.sleep(60)

    @agent
    async def patient() -> str:
        try:
            await asyncio.wait_for(slow(), 0.01)
        except asyncio.TimeoutError:
            return "gave up"
        return "got it"

    assert asyncio.run(patient()) == "gave up"
    assert recorded.one("execute_tool slow").attributes["error.type"] == "CancelledError"
    assert "error.type" not in recorded.one("invoke_agent patient").attributes


def test_a_task_cancelled_before_it_began_makes_no_span(recorded: Recording) -> None:
    async def main() -> None:
        task = asyncio.create_task(waits())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()  # a warning of a coroutine that was never awaited would be an error
    assert not recorded.spans


def test_a_coroutine_that_is_no_tasks_closed_half_way(recorded: Recording) -> None:
    class Pause:
        def __await__(self) -> Iterator[None]:
            yield

    @tool
    async def work() -> None:
        await Pause()

    waiting = work()
    contextvars.Context().run(waiting.send, None)
    waiting.close()  # in another context than it began in
    waiting.close()
    assert recorded.only().attributes["error.type"] == "GeneratorExit"


def test_200_runs_at_once_do_not_mix(recorded: Recording) -> None:
    @tool
    async def step(run: int) -> int:
        await asyncio.sleep(0)
        assert current() == "execute_tool step"
        return run

    @agent
    async def run(number: int) -> list[int]:
        found = []
        for _ in range(3):
            found.append(await step(number))
            await asyncio.sleep(0)
            assert current() == "invoke_agent run"
        found.extend(await asyncio.gather(step(number), step(number)))
        return found

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(run(number) for number in range(200)))

    assert asyncio.run(main()) == [[number] * 5 for number in range(200)]
    runs = {span.context.span_id: span for span in recorded.spans if span.name == "invoke_agent run"}
    steps = [span for span in recorded.spans if span.name == "execute_tool step"]
    assert len(runs) == 200
    assert len({span.context.trace_id for span in runs.values()}) == 200
    assert all(span.parent is None for span in runs.values())
    for span_id, root in runs.items():
        own = [span for span in steps if span.parent.span_id == span_id]
        assert len(own) == 5
        assert {span.context.trace_id for span in own} == {root.context.trace_id}
        assert len({span.attributes["agentperf.args.hash"] for span in own}) == 1


# --- async generators -------------------------------------------------------------------------------------


def test_an_async_generators_span_covers_all_its_steps(recorded: Recording) -> None:
    async def main() -> list[int]:
        found = []
        async for number in async_numbers():
            assert current() is None
            found.append(number)
        return found

    assert asyncio.run(main()) == [0, 1, 2]
    span = recorded.one("execute_tool async_numbers")
    assert span.attributes["gen_ai.response.time_to_first_chunk"] >= 0
    assert all(other.parent.span_id == span.context.span_id for other in recorded.spans if other is not span)


@pytest.mark.parametrize("how", ["aclose", "another task", "dropped", "loop ends"])
def test_an_async_generator_left_early_ended_well(recorded: Recording, how: str) -> None:
    async def main() -> None:
        stream = async_numbers(5)
        async for _ in stream:
            break
        assert current() is None
        if how == "aclose":
            await stream.aclose()  # type: ignore[attr-defined]
        elif how == "another task":
            await asyncio.create_task(stream.aclose())  # type: ignore[attr-defined]
        elif how == "dropped":
            del stream
            gc.collect()
            await asyncio.sleep(0.01)
        if how == "loop ends":
            held.append(stream)
        assert current() is None

    held: list[Any] = []
    asyncio.run(main())
    gc.collect()
    span = recorded.one("execute_tool async_numbers")
    assert span.status.status_code is StatusCode.UNSET


def test_an_async_generator_cancelled_while_it_works(recorded: Recording) -> None:
    @tool
    async def stuck() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(60)

    async def main() -> None:
        async def read() -> None:
            async for _ in stuck():
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert recorded.only().attributes["error.type"] == "CancelledError"


def test_an_async_generator_takes_what_is_sent_and_thrown(recorded: Recording) -> None:
    @tool
    async def echo() -> Any:
        received: list[Any] = []
        while len(received) < 2:
            try:
                received.append((yield len(received)))
            except KeyError as error:
                received.append(error)
        yield received

    async def main() -> list[Any]:
        stream = echo()
        error = KeyError("x")
        assert await stream.asend(None) == 0
        assert await stream.asend("a") == 1
        assert await stream.athrow(error) == ["a", error]
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()
        return []

    asyncio.run(main())
    recorded.only()


def test_async_generators_read_in_turns_do_not_mix(recorded: Recording) -> None:
    async def main() -> None:
        streams = [tool(name=f"s{number}")(async_numbers.__wrapped__)(3) for number in range(20)]
        for _ in range(4):
            await asyncio.gather(*(anext(stream, None) for stream in streams))
            assert current() is None

    asyncio.run(main())
    streams = {span.context.span_id for span in recorded.spans if span.name != "execute_tool inner"}
    children = [span.parent.span_id for span in recorded.spans if span.name == "execute_tool inner"]
    assert len(streams) == 20
    assert sorted(children) == sorted([*streams] * 3)


def test_an_async_generator_never_read_makes_no_span(recorded: Recording) -> None:
    async def main() -> None:
        async_numbers()
        gc.collect()

    asyncio.run(main())
    assert not recorded.spans


def test_cleanup_of_an_async_generator_may_await(recorded: Recording) -> None:
    done = []

    @tool
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            done.append(current())

    async def main() -> None:
        async with contextlib.aclosing(stream()) as opened:
            async for _ in opened:
                break

    asyncio.run(main())
    assert done == ["execute_tool stream"]


def test_a_stream_of_a_model_tells_when_the_first_chunk_came(recorded: Recording) -> None:
    @llm(model="m")
    def answer() -> Iterator[str]:
        time.sleep(0.02)
        yield "a"
        time.sleep(0.05)
        yield "b"

    list(answer())
    span = recorded.only()
    assert 0.02 <= span.attributes["gen_ai.response.time_to_first_chunk"] < 0.05
    assert span.end_time - span.start_time >= 70_000_000


def test_a_coroutine_that_gives_an_async_generator_ends_with_that(recorded: Recording) -> None:
    @llm(model="m")
    async def answer() -> AsyncIterator[int]:
        return async_numbers.__wrapped__(2)

    async def main() -> None:
        stream = await answer()
        assert not recorded.spans
        assert [item async for item in stream] == [0, 1]

    asyncio.run(main())
    assert recorded.names[-1] == "chat m"
