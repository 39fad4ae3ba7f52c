"""`agent`, `tool`, `llm`, `retrieval`, `cached` as decorators: what they record, and what they leave as it was."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from _recording import Recording, attributes
from otel_agentperf import agent, cached, llm, retrieval, tool
from otel_agentperf.capture.callables import TracedCallable


@tool
def at_module_level(city: str, days: int = 3) -> dict[str, Any]:
    """Doc."""
    return {"city": city, "days": days}


class Weather:
    name = "weather-bot"

    def __init__(self, place: str = "Oslo") -> None:
        self.place = place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weather) and other.place == self.place

    __hash__ = None  # type: ignore[assignment]

    @tool
    def method(self, days: int) -> str:
        return f"{self.place} {days}"

    @agent
    def run(self, task: str) -> str:
        return task

    @tool
    async def async_method(self, days: int) -> str:
        await asyncio.sleep(0)
        return f"{self.place} {days}"

    @classmethod
    @tool
    def inner_classmethod(cls, days: int) -> str:
        return f"{cls.__name__} {days}"

    @tool
    @classmethod
    def outer_classmethod(cls, days: int) -> str:
        return f"{cls.__name__} {days}"

    @staticmethod
    @tool
    def inner_staticmethod(days: int) -> int:
        return days

    @tool
    @staticmethod
    def outer_staticmethod(days: int) -> int:
        return days


class CallableObject:
    def __call__(self, days: int) -> int:
        return days


class AsyncCallableObject:
    async def __call__(self, days: int) -> int:
        return days


KINDS = [
    (agent, "invoke_agent", "gen_ai.agent.name", SpanKind.INTERNAL),
    (tool, "execute_tool", "gen_ai.tool.name", SpanKind.INTERNAL),
    (llm, "chat", "gen_ai.request.model", SpanKind.CLIENT),
    (retrieval, "retrieval", "gen_ai.data_source.id", SpanKind.CLIENT),
    (cached, "cache get", "agentperf.cache.name", SpanKind.CLIENT),
]


@pytest.mark.parametrize(("marker", "verb", "name_key", "kind"), KINDS)
def test_each_kind_follows_its_convention(
    recorded: Recording, marker: Any, verb: str, name_key: str, kind: SpanKind
) -> None:
    @marker
    def plan(x: int) -> int:
        return x + 1

    assert plan(1) == 2
    span = recorded.only()
    assert span.name == f"{verb} plan"
    assert span.kind is kind
    assert span.attributes[name_key] == "plan"
    assert span.status.status_code is StatusCode.UNSET
    if marker is not cached:
        assert span.attributes["gen_ai.operation.name"] == verb


@pytest.mark.parametrize(("marker", "verb", "name_key", "kind"), KINDS)
@pytest.mark.parametrize(
    "given",
    [lambda marker: marker(name="other"), lambda marker: marker("other")],
    ids=["keyword", "positional"],
)
def test_a_name_of_its_own(
    recorded: Recording, marker: Any, verb: str, name_key: str, kind: SpanKind, given: Any
) -> None:
    @given(marker)
    def plan() -> None: ...

    plan()
    assert recorded.only().name == f"{verb} other"


def test_empty_parentheses_are_the_same_as_none(recorded: Recording) -> None:
    tool()(lambda: None)()
    assert recorded.only().name == "execute_tool <lambda>"


def test_what_a_tool_call_carries(recorded: Recording) -> None:
    at_module_level("Oslo")
    found = attributes(recorded.only())
    assert len(found.pop("agentperf.args.hash")) == 16
    assert len(found.pop("agentperf.result.hash")) == 16
    assert found.pop("agentperf.cpu_time") >= 0
    assert found == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "at_module_level",
        "agentperf.args.size": len('{"city":"Oslo","days":3}'),
        "agentperf.result.size": len('{"city":"Oslo","days":3}'),
        "agentperf.result.type": "dict",
    }


def test_llm_tells_its_model_provider_and_tokens(recorded: Recording) -> None:
    @llm(model="gpt-5", provider="openai")
    def ask(prompt: str) -> dict[str, Any]:
        return {"usage": {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}}

    ask("hi")
    span = recorded.one("chat gpt-5")
    assert span.attributes["gen_ai.provider.name"] == "openai"
    assert span.attributes["gen_ai.usage.input_tokens"] == 10
    assert span.attributes["gen_ai.usage.output_tokens"] == 3
    assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 4


def test_cached_tells_hits_from_misses(recorded: Recording) -> None:
    store = {"a": 1}
    look_up = cached(name="mine", system="dict")(store.get)
    assert (look_up("a"), look_up("b")) == (1, None)
    assert [span.attributes["agentperf.cache.hit"] for span in recorded.spans] == [True, False]
    assert {span.attributes["agentperf.cache.system"] for span in recorded.spans} == {"dict"}
    assert all("agentperf.cache.key.hash" in span.attributes for span in recorded.spans)
    assert not any("agentperf.args.hash" in span.attributes for span in recorded.spans)


def test_cached_around_an_lru_cache_believes_its_statistics(recorded: Recording) -> None:
    @cached
    @functools.lru_cache
    def square(x: int) -> int | None:
        return None

    square(2)
    square(2)
    assert [span.attributes["agentperf.cache.hit"] for span in recorded.spans] == [False, True]
    assert square.cache_info().hits == 1


def test_a_hit_that_raises_is_not_the_callers_problem(recorded: Recording, swallow: None) -> None:
    look_up = cached(hit=lambda result: result.nonsense)(lambda key: 5)
    assert look_up(1) == 5
    assert "agentperf.cache.hit" not in recorded.only().attributes


# --- results, names and nesting ---------------------------------------------------------------------------


def test_the_result_is_the_very_same_object(recorded: Recording) -> None:
    for value in ({"a": 1}, [], object(), None, iter([1]), "text", 1.5, Weather()):
        assert tool(lambda value: value)(value) is value
        assert asyncio.run(_awaited(value)) is value


async def _awaited(value: Any) -> Any:
    @tool
    async def give() -> Any:
        return value

    return await give()


def test_calls_nest(recorded: Recording) -> None:
    inner = tool(name="inner")(lambda: None)
    middle = tool(name="middle")(lambda: inner())
    agent(name="outer")(lambda: (middle(), None))()
    assert recorded.parent_of("execute_tool inner") == "execute_tool middle"
    assert recorded.parent_of("execute_tool middle") == "invoke_agent outer"
    assert recorded.parent_of("invoke_agent outer") is None


@pytest.mark.parametrize(
    "call",
    [
        lambda weather: weather.method(2),
        lambda weather: weather.method(days=2),
        lambda weather: Weather.method(weather, 2),
        lambda weather: asyncio.run(weather.async_method(2)),
        lambda weather: asyncio.run(Weather.async_method(weather, 2)),
    ],
)
def test_methods(recorded: Recording, call: Callable[[Weather], str]) -> None:
    weather = Weather()
    assert call(weather) == "Oslo 2"
    call(weather)
    first, second = recorded.spans
    assert first.name in ("execute_tool method", "execute_tool async_method")
    assert first.attributes["agentperf.args.size"] == len('{"days":2}')
    assert first.attributes["agentperf.args.hash"] == second.attributes["agentperf.args.hash"]


@pytest.mark.parametrize("name", ["inner_classmethod", "outer_classmethod"])
@pytest.mark.parametrize("holder", [Weather, Weather()])
def test_classmethods(recorded: Recording, name: str, holder: Any) -> None:
    assert getattr(holder, name)(2) == "Weather 2"
    span = recorded.one(f"execute_tool {name}")
    assert span.attributes["agentperf.args.size"] == len('{"days":2}')


@pytest.mark.parametrize("name", ["inner_staticmethod", "outer_staticmethod"])
@pytest.mark.parametrize("holder", [Weather, Weather()])
def test_staticmethods(recorded: Recording, name: str, holder: Any) -> None:
    assert getattr(holder, name)(2) == 2
    assert recorded.only().attributes["agentperf.args.size"] == len('{"days":2}')


def test_a_method_whose_name_says_nothing_is_named_after_its_object(recorded: Recording) -> None:
    Weather().run("x")
    assert recorded.only().name == "invoke_agent weather-bot"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (CallableObject(), "CallableObject"),
        (functools.partial(lambda a, b: b, 1), "partial"),
        (lambda b: b, "<lambda>"),
        (abs, "abs"),
        (int, "int"),
    ],
)
def test_whatever_can_be_called_can_be_marked(recorded: Recording, function: Any, name: str) -> None:
    assert tool(function)(7) == 7
    assert recorded.only().name == f"execute_tool {name}"


@pytest.mark.parametrize(
    "function", [AsyncCallableObject(), functools.partial(AsyncCallableObject.__call__, AsyncCallableObject())]
)
def test_asynchronous_callable_objects_end_when_they_have_been_awaited(recorded: Recording, function: Any) -> None:
    async def main() -> int:
        waiting = tool(function)(7)
        assert not recorded.spans
        return await waiting

    assert asyncio.run(main()) == 7
    recorded.only()


def test_a_plain_function_that_returns_a_coroutine_ends_with_that(recorded: Recording) -> None:
    async def work() -> int:
        inner()
        return 7

    inner = tool(name="inner")(lambda: None)
    assert asyncio.run(agent(name="outer")(lambda: work())()) == 7
    assert recorded.parent_of("execute_tool inner") == "invoke_agent outer"


# --- nothing looks different ------------------------------------------------------------------------------


def plain(a: int, b: str = "x", *rest: int, key: float = 1.0, **more: Any) -> str:
    """What it does."""
    return b


async def coroutine(a: int) -> int:
    return a


def generator(a: int) -> Any:
    yield a


async def async_generator(a: int) -> Any:
    yield a


@pytest.mark.parametrize("function", [plain, coroutine, generator, async_generator])
def test_a_marked_function_looks_like_itself(function: Any) -> None:
    marked = tool(function)
    for look in (
        inspect.signature,
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        inspect.isfunction,
        inspect.getdoc,
        inspect.getsource,
        callable,
    ):
        assert look(marked) == look(function), look
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__defaults__", "__dict__"):
        assert getattr(marked, name) == getattr(function, name)
    assert isinstance(marked, type(function))
    assert marked == function
    assert hash(marked) == hash(function)


def test_methods_look_like_methods() -> None:
    assert inspect.ismethod(Weather().method)
    assert str(inspect.signature(Weather().method)) == "(days: 'int') -> 'str'"
    assert inspect.iscoroutinefunction(Weather().async_method)
    assert Weather().method.__self__ == Weather()


def test_attributes_set_on_a_marked_function_reach_the_function() -> None:
    marked = tool(lambda: None)
    marked.label = "x"
    assert marked.__wrapped__.label == "x"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_functions_are_pickled_by_name(protocol: int) -> None:
    assert pickle.loads(pickle.dumps(at_module_level, protocol)) is at_module_level


@pytest.mark.parametrize("name", ["method", "async_method", "run"])
def test_bound_methods_are_pickled_with_their_object(recorded: Recording, name: str) -> None:
    method = pickle.loads(pickle.dumps(getattr(Weather("Bergen"), name)))
    result = method("1")
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    assert result in ("Bergen 1", "1")
    assert len(recorded.spans) == 1


@pytest.mark.parametrize("name", ["inner_classmethod", "outer_classmethod", "inner_staticmethod", "outer_staticmethod"])
def test_class_and_static_methods_are_pickled(recorded: Recording, name: str) -> None:
    assert pickle.loads(pickle.dumps(getattr(Weather, name)))(1) in ("Weather 1", 1)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies(recorded: Recording, duplicate: Callable[[Any], Any]) -> None:
    assert duplicate(at_module_level) is at_module_level
    assert duplicate(Weather("Bergen").method)(1) == "Bergen 1"
    marked = tool(CallableObject())
    other = duplicate(marked)
    assert isinstance(other, TracedCallable)
    assert other.__wrapped__ is not marked.__wrapped__
    assert other(3) == 3
    assert len(recorded.spans) == 2


@pytest.mark.parametrize(
    ("function", "args"),
    [(plain, ()), *((one, args) for one in (coroutine, generator, async_generator) for args in ((), (1, 2, 3, 4)))],
)
def test_a_wrong_call_fails_at_once_and_with_the_same_words(recorded: Recording, function: Any, args: Any) -> None:
    with pytest.raises(TypeError) as without:
        function(*args)
    with pytest.raises(TypeError) as with_us:
        tool(function)(*args)
    assert str(with_us.value) == str(without.value)


def test_a_missing_method_is_missing_as_before() -> None:
    with pytest.raises(AttributeError, match="'function' object has no attribute 'nonsense'"):
        _ = at_module_level.nonsense


# --- failures ---------------------------------------------------------------------------------------------


class CustomError(Exception):
    pass


def failing(error: BaseException) -> Any:
    raise error


async def failing_async(error: BaseException) -> Any:
    raise error


def failing_generator(error: BaseException) -> Any:
    yield 1
    raise error


async def failing_async_generator(error: BaseException) -> Any:
    yield 1
    raise error


async def _read(stream: Any) -> list[Any]:
    return [item async for item in stream]


DRIVERS: list[tuple[Any, Callable[[Any], Any]]] = [
    (failing, lambda result: result),
    (failing_async, asyncio.run),
    (failing_generator, list),
    (failing_async_generator, lambda stream: asyncio.run(_read(stream))),
]


@pytest.mark.parametrize(("function", "drive"), DRIVERS)
def test_the_same_exception_with_few_frames_of_ours(recorded: Recording, function: Any, drive: Any) -> None:
    error = CustomError("the password is hunter2")
    with pytest.raises(CustomError) as caught:
        drive(tool(function)(error))
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "otel_agentperf" in frame.filename]
    assert len(ours) <= 2
    span = recorded.only()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert span.attributes["error.type"].endswith("test_decorators.CustomError")
    assert not span.events


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, asyncio.CancelledError])
def test_exceptions_that_are_no_errors_pass_too(recorded: Recording, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        tool(failing)(kind())
    assert recorded.only().attributes["error.type"] == kind.__name__


def test_builtin_errors_are_named_shortly(recorded: Recording) -> None:
    with pytest.raises(ZeroDivisionError):
        tool(lambda: 1 / 0)()
    assert recorded.only().attributes["error.type"] == "ZeroDivisionError"


def test_an_error_while_the_span_ends_is_not_the_callers(recorded: Recording, swallow: None) -> None:
    class Broken(Exception):
        __module__ = 7  # type: ignore[assignment]

    with pytest.raises(Broken):
        tool(failing)(Broken())
    recorded.only()


def test_recursion_to_the_limit_still_raises_what_it_raised(recorded: Recording, swallow: None) -> None:
    @tool
    def deeper(level: int) -> Any:
        return deeper(level + 1)

    with pytest.raises(RecursionError):
        deeper(0)
