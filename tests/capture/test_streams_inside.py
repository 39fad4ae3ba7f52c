"""Async streams inside async streams: when the outer one is left early, the inner ones have not ended yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from _recording import Recording
from otel_agentperf import agent, llm
from otel_agentperf.capture import streams


@llm(name="m")
async def words() -> AsyncIterator[str]:
    for word in ("one", "two", "three"):
        await asyncio.sleep(0)
        yield word


@agent(name="writer")
async def write() -> AsyncIterator[str]:
    async for word in words():
        yield word


@agent(name="editor")
async def edit() -> AsyncIterator[str]:
    async for word in write():
        yield word


def expect_nested(recorded: Recording) -> None:
    inner, middle, outer = (recorded.one(name) for name in ("chat m", "invoke_agent writer", "invoke_agent editor"))
    assert inner.end_time <= middle.end_time <= outer.end_time  # type: ignore[operator]
    assert not any(span.attributes.get("error.type") for span in (inner, middle, outer))
    assert not streams._being_read


def test_what_is_inside_ends_before_the_stream_that_is_left(recorded: Recording) -> None:
    async def leave() -> None:
        outer = edit()
        async for _ in outer:
            break
        await outer.aclose()  # type: ignore[attr-defined]
        assert len(recorded.spans) == 3, "and not later"

    asyncio.run(leave())
    expect_nested(recorded)


def test_a_loop_that_ends_before_it_could_close_the_stream(recorded: Recording) -> None:
    async def leave() -> None:
        async for _ in edit():
            break

    asyncio.run(leave())
    expect_nested(recorded)


def test_streams_that_are_read_to_the_end(recorded: Recording) -> None:
    async def read() -> list[str]:
        return [word async for word in edit()]

    assert asyncio.run(read()) == ["one", "two", "three"]
    expect_nested(recorded)


def test_a_cancelled_reader_is_an_error(recorded: Recording) -> None:
    @llm(name="slow")
    async def slow() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(30)

    async def read() -> None:
        async for _ in slow():
            pass

    async def cancel() -> None:
        task = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert recorded.one("chat slow").attributes["error.type"] == "CancelledError"


def test_two_readers_of_one_agents_streams(recorded: Recording) -> None:
    """Leaving one agent's stream does not end another's."""

    async def both() -> None:
        left, right = edit(), write()
        await left.__anext__()
        await right.__anext__()
        await left.aclose()  # type: ignore[attr-defined]
        assert len(recorded.spans) == 3
        assert [word async for word in right] == ["two", "three"]

    asyncio.run(both())
    assert len(recorded.spans) == 5
    assert not streams._being_read


@pytest.mark.parametrize("steps", [0, 1])
def test_a_stream_that_fails(recorded: Recording, steps: int) -> None:
    @llm(name="broken")
    async def broken() -> AsyncIterator[str]:
        for _ in range(steps):
            yield "a"
        raise LookupError

    async def read() -> None:
        async for _ in broken():
            pass

    with pytest.raises(LookupError):
        asyncio.run(read())
    assert recorded.one("chat broken").attributes["error.type"] == "LookupError"
    assert not streams._being_read
