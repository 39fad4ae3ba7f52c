"""Random programs of nested calls of every flavour, failing and left early at random: traced, they do what they did
untraced, and their spans form the same tree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _recording import recording
from otel_agentperf import AgentPerfSpanProcessor, agent, llm, tool

FLAVOURS = ("function", "coroutine", "generator", "async generator", "block")


@dataclass(frozen=True)
class Call:
    """A call to be: its flavour, what it calls, and how it goes."""

    flavour: str
    inside: tuple[Call, ...]
    fails: bool
    read: int
    """of a stream: how many chunks its reader takes"""
    together: bool
    """asynchronous ones inside run at the same time"""


def calls(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        Call,
        st.sampled_from(FLAVOURS),
        st.lists(inside, max_size=4).map(tuple),
        st.booleans(),
        st.integers(0, 4),
        st.booleans(),
    )


PROGRAMS = st.recursive(
    st.builds(Call, st.sampled_from(FLAVOURS), st.just(()), st.booleans(), st.integers(0, 4), st.booleans()),
    calls,
    max_leaves=25,
)


class ExpectedError(Exception):
    pass


class Program:
    """Runs a tree of calls, with `mark` around each, and logs what it sees."""

    def __init__(self, traced: bool) -> None:
        self.traced = traced
        self.log: list[Any] = []
        self.begun = 0

    def mark(self, number: int, function: Any) -> Any:
        if not self.traced:
            return function
        return (tool, agent, llm)[number % 3](name=str(number))(function)

    async def run(self, call: Call) -> Any:
        """Calls it, reads its stream as far as it is to be read, and turns its failure into a result."""
        number, self.begun = self.begun, self.begun + 1
        try:
            result = await getattr(self, "_" + call.flavour.replace(" ", "_"))(number, call)
        except ExpectedError as error:
            result = f"failed {error}"
        self.log.append((number, result))
        return result

    async def _inside(self, call: Call) -> list[Any]:
        if call.together:
            return list(await asyncio.gather(*(self.run(one) for one in call.inside)))
        return [await self.run(one) for one in call.inside]

    async def _function(self, number: int, call: Call) -> Any:
        def work(x: int) -> int:
            if call.fails:
                raise ExpectedError(number)
            return x

        await self._inside(call)
        return self.mark(number, work)(number)

    async def _coroutine(self, number: int, call: Call) -> Any:
        async def work(x: int) -> Any:
            await asyncio.sleep(0)
            found = await self._inside(call)
            if call.fails:
                raise ExpectedError(number)
            return x, found

        return await self.mark(number, work)(number)

    async def _block(self, number: int, call: Call) -> Any:
        if not self.traced:
            found = await self._inside(call)
        else:
            async with tool(str(number)):
                found = await self._inside(call)
        if call.fails:
            raise ExpectedError(number)
        return found

    async def _generator(self, number: int, call: Call) -> Any:
        def work(x: int) -> Iterator[int]:
            for chunk in range(3):
                yield chunk + x
            if call.fails:
                raise ExpectedError(number)

        found = []
        stream = self.mark(number, work)(number)
        for _ in range(call.read):
            try:
                found.append(next(stream))
            except StopIteration:
                break
            await self._inside(call)  # the reader works between the chunks
        return found

    async def _async_generator(self, number: int, call: Call) -> Any:
        async def work(x: int) -> AsyncIterator[Any]:
            for chunk in range(3):
                await asyncio.sleep(0)
                yield chunk + x
            if call.fails:
                raise ExpectedError(number)

        found = []
        stream = self.mark(number, work)(number)
        for _ in range(call.read):
            try:
                found.append(await anext(stream))
            except StopAsyncIteration:
                break
            await asyncio.sleep(0)
        await stream.aclose()
        return found


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PROGRAMS)
def test_random_programs(program: Call) -> None:
    plain, traced = Program(traced=False), Program(traced=True)
    without = asyncio.run(plain.run(program))
    processor = AgentPerfSpanProcessor()
    with recording(processor) as recorded:
        assert asyncio.run(traced.run(program)) == without
        assert traced.log == plain.log
        ids = [span.context.span_id for span in recorded.spans]
        assert len(ids) == len(set(ids)), "a span was exported twice"
        assert len(ids) <= traced.begun, "one span a call at most: streams never read have none"
        started = [span for span in recorded.spans if span.parent is not None]
        assert {span.parent.span_id for span in started} <= set(ids), "a parent was never exported"
        for span in recorded.spans:
            assert span.end_time >= span.start_time
        assert len(processor._buffer) == 0
        assert recorded.encoded() or not ids
