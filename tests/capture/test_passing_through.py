"""What passes through streams, blocks and decorators of ours on its way: it looks as if we were not there."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import pickle
import sys
import threading
import traceback
import types
import typing
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from opentelemetry import trace

from _recording import Recording
from otel_agentperf import _guard, agent, cached, llm, retrieval, tool

OURS = "otel_agentperf"


def frames_of_ours(error: BaseException) -> int:
    return sum(OURS in frame.filename for frame in traceback.extract_tb(error.__traceback__))


class Thing:
    pass


class LyingError(Exception):
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError


# --- streams ----------------------------------------------------------------------------------------------


@tool
def stream() -> Iterator[Any]:
    while True:
        yield Thing()


@tool
async def async_stream() -> AsyncIterator[Any]:
    while True:
        yield Thing()


def test_what_is_thrown_in_has_one_frame_of_ours_in_its_traceback(recorded: Recording) -> None:
    error, generator = KeyError("k"), stream()
    next(generator)
    with pytest.raises(KeyError) as raised:
        generator.throw(error)
    assert raised.value is error
    assert frames_of_ours(error) == 1

    async def run() -> None:
        generator = async_stream()
        await anext(generator)
        await generator.athrow(error)

    error = KeyError("k")
    with pytest.raises(KeyError) as raised:
        asyncio.run(run())
    assert raised.value is error
    assert frames_of_ours(error) == 1


def test_what_closing_raises_has_no_context_of_ours(recorded: Recording) -> None:
    @tool
    async def ignoring() -> AsyncIterator[int]:
        with suppress(GeneratorExit):
            yield 1
        yield 2

    async def run() -> None:
        generator = ignoring()
        await anext(generator)
        await generator.aclose()  # type: ignore[attr-defined]

    with pytest.raises(RuntimeError, match="ignored GeneratorExit") as raised:
        asyncio.run(run())
    assert raised.value.__context__ is None


def test_a_suspended_stream_holds_nothing_that_went_through(recorded: Recording) -> None:
    @tool
    def forgiving() -> Iterator[Any]:
        while True:
            with suppress(LookupError):
                yield Thing()

    class Failed(LookupError):
        pass

    gc.disable()
    try:
        generator = forgiving()
        given = weakref.ref(next(generator))
        sent, error = Thing(), Failed()
        seen = [given, weakref.ref(sent), weakref.ref(error)]
        generator.send(sent)
        generator.throw(error)
        del sent, error
        assert [ref() for ref in seen] == [None, None, None]
        closed = weakref.ref(generator)
        generator.close()
        del generator
        assert closed() is None
    finally:
        gc.enable()


def test_what_a_generator_returns_when_it_is_closed_is_given_to_the_one_who_closes(recorded: Recording) -> None:
    def counting() -> Iterator[int]:
        with suppress(GeneratorExit):
            yield 1
        return 5

    plain, ours = counting(), tool(counting)()
    assert next(plain) == next(ours)
    assert ours.close() == plain.close()  # type: ignore[attr-defined]
    ours = tool(counting)()
    next(ours)
    with pytest.raises(StopIteration) as end:
        ours.throw(GeneratorExit())  # type: ignore[attr-defined]
    assert end.value.value == 5
    assert all(span.status.is_unset for span in recorded.spans)


@pytest.mark.parametrize("mark", [lambda function: function, tool])
@pytest.mark.parametrize("returned", [False, True])
def test_a_generator_that_is_made_to_be_awaited(recorded: Recording, mark: Any, returned: bool) -> None:
    @types.coroutine
    def step() -> Iterator[None]:
        yield
        return 3

    marked = mark((lambda: step()) if returned else step)

    async def run() -> int:
        return await marked()

    assert asyncio.run(run()) == 3


def test_the_event_loop_closes_a_stream_that_was_left_once(
    recorded: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """It used to close ours and the one inside at the same time: "asynchronous generator is already running"."""
    ended, left = [], []

    @tool
    async def waits_when_closed() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def run() -> None:
        begun: list[Any] = []
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(lambda given: (begun.append(given), hooks.firstiter(given)))
        left.append(waits_when_closed())
        await anext(left[0])
        sys.set_asyncgen_hooks(*hooks)
        assert begun == left

    asyncio.run(run())
    assert ended == [True]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    recorded.one("execute_tool waits_when_closed")


# --- blocks -----------------------------------------------------------------------------------------------


def steps() -> Iterator[int]:
    with tool("step"):
        yield 1
        yield 2


def read(generator: Iterator[int]) -> None:
    assert list(generator) == [2]


def closed_by(run: Callable[[Callable[[], None]], None]) -> None:
    generator = steps()
    next(generator)
    run(generator.close)  # type: ignore[attr-defined]


def in_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_interleaved_generators_with_blocks_leave_nothing_current(recorded: Recording, order: tuple[int, int]) -> None:
    both = [steps(), steps()]
    for generator in both:
        next(generator)
    for index in order:
        read(both[index])
    assert not trace.get_current_span().get_span_context().is_valid
    assert len(recorded.spans) == 2


def test_a_block_left_in_another_thread_is_no_parent_of_later_ones(recorded: Recording) -> None:
    closed_by(in_thread)
    with agent("later"):
        pass
    assert recorded.one("invoke_agent later").parent is None
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_block_left_in_another_task_logs_nothing(recorded: Recording, caplog: pytest.LogCaptureFixture) -> None:
    async def stream() -> AsyncIterator[int]:
        async with tool("step"):
            yield 1

    async def run() -> None:
        generator = stream()
        await anext(generator)
        await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
        with agent("later"):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert recorded.one("invoke_agent later").parent is None
    assert not caplog.records


def test_an_exception_that_lies_about_its_class_passes_a_block(recorded: Recording, swallow: None) -> None:
    error = LyingError()
    caught = None
    try:
        with tool("block"):
            raise error
    except BaseException as raised:
        caught = raised
    assert caught is error
    recorded.one("execute_tool block")


# --- decorators -------------------------------------------------------------------------------------------


class Hostile:
    """Each way to look at it fails, but it can be called."""

    def __call__(self, value: int) -> int:
        return value

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError


class Misleading:
    def __call__(self, value: int) -> int:
        return value

    def __getattr__(self, name: str) -> Any:
        return lambda *args: ()


@pytest.mark.parametrize("mark", [agent, tool, llm, retrieval, cached])
@pytest.mark.parametrize("kind", [Hostile, Misleading])
def test_an_object_that_fails_when_it_is_looked_at_can_be_decorated(
    recorded: Recording, swallow: None, mark: Any, kind: Any
) -> None:
    assert mark(kind())(5) == 5
    assert mark(name="named")(kind())(5) == 5


def test_what_cannot_be_called_stays_as_it_is(swallow: None) -> None:
    class Place:
        @tool
        @property
        def name(self) -> str:
            return "Oslo"

        @tool
        @functools.cached_property
        def size(self) -> int:
            return 3

    assert (type(Place().name), type(Place().size)) == (str, int)


def test_what_a_decorator_swallows_is_counted(recorded: Recording, swallow: None) -> None:
    tool(Hostile())
    assert sum(count for (place, _), count in _guard.counts.items() if place == "decorate") == 1


def test_a_context_manager_around_a_block(recorded: Recording) -> None:
    @contextmanager
    def outer() -> Iterator[None]:
        with agent("outer"):
            yield

    with outer(), tool("inner"):
        pass
    assert recorded.parent_of("execute_tool inner") == "invoke_agent outer"
    assert not trace.get_current_span().get_span_context().is_valid


class Sized:
    @tool
    def method(self, a: int) -> int:
        return a


@tool
def annotated(a: int) -> int:
    return a


def test_annotations_are_those_of_what_is_wrapped_whoever_has_looked_at_the_wrappers_class() -> None:
    """Python itself leaves an empty dictionary in a class without annotations that somebody asks for them."""
    for function in (annotated, Sized().method):
        isinstance(function, typing.SupportsInt)  # which does, from Python 3.13 on
        getattr(type(function), "__annotations__")  # noqa: B009 - as others may
        assert typing.get_type_hints(function) == {"a": int, "return": int}


def test_an_object_that_is_called_like_a_coroutine_function_still_looks_like_one() -> None:
    class Agent:
        async def __call__(self, a: int) -> int:
            return a

    traced: Any = tool(Agent())
    assert inspect.iscoroutinefunction(traced.__call__)
    assert asyncio.run(traced(3)) == 3


def test_a_weak_reference_to_a_method() -> None:
    thing = Sized()
    found = weakref.WeakMethod(thing.method)
    assert found()(3) == 3  # type: ignore[misc]
    del thing
    gc.collect()
    assert found() is None


def test_the_repr_is_that_of_what_is_wrapped() -> None:
    def plain() -> None:
        pass

    assert repr(tool(plain)) == repr(plain)


def test_what_is_inside_a_function_can_be_pickled_by_value() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    offset = 2
    traced: Any = tool(lambda number: number + offset)
    assert pickle.loads(cloudpickle.dumps(traced))(3) == 5


def test_a_signature_that_cannot_be_told_does_not_keep_the_call_from_being_traced(recorded: Recording) -> None:
    class Odd:
        @property
        def __signature__(self) -> Any:
            raise OSError

        def __call__(self, number: int) -> int:
            return number

    traced: Any = tool(name="odd")(Odd())
    assert traced(3) == 3
    assert recorded.only().name == "execute_tool odd"


def test_a_clock_that_fails_is_no_matter_of_the_calls(
    recorded: Recording, swallow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> int:
        raise OSError

    monkeypatch.setattr("time.thread_time_ns", fails)
    assert tool(name="search")(lambda: 3)() == 3
    assert "agentperf.cpu_time" not in recorded.only().attributes
