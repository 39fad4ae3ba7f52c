"""A wrapped callable is told from a plain one by nothing that a program may look at: the same module is made plain,
with each of the decorators, and wrapped from outside, and compared."""

from __future__ import annotations

import abc
import asyncio
import copy
import functools
import inspect
import pickle
import pydoc
import subprocess
import sys
import traceback
import typing
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any
from unittest import mock

import cloudpickle
import pytest

import otel_agentperf
from _recording import Recording, recording
from otel_agentperf._config import Config

SOURCE = '''
import abc, dataclasses, functools, typing
{mark}

@mark
def function(a: int, b: str = "x", *rest: int, key: float = 1.0, **more: typing.Any) -> list:
    """What it does."""
    return [a, b, rest, key, more]

@mark
async def coroutine(a: int) -> int:
    return a

@mark
def generator(a: int):
    yield a

@mark
async def async_generator(a: int):
    yield a

@mark
def failing(error):
    raise error

class Base:
    def method(self, a):
        return ["base", a]

    @classmethod
    def create(cls, a):
        return [cls.__name__, a]

class Child(Base):
    def __init__(self, place="Oslo"):
        self.place = place

    def __eq__(self, other):
        return vars(self) == vars(other)

    @mark
    def method(self, a: int):
        """Of the child."""
        return [self.place, *super().method(a)]

    @mark
    async def waits(self, a: int):
        return [self.place, *super().method(a)]

    @classmethod
    @mark
    def create(cls, a: int):
        return ["child", *super().create(a)]

    @staticmethod
    @mark
    def version(a: int):
        return a

class Slotted:
    __slots__ = ("place",)

    def __init__(self, place="Oslo"):
        self.place = place

    @mark
    def method(self, a: int):
        return [self.place, a]

@dataclasses.dataclass(frozen=True, order=True)
class Data:
    place: str = "Oslo"

    @mark
    def method(self, a: int):
        return [self.place, a]

@dataclasses.dataclass(slots=True)
class SlottedData:
    place: str = "Oslo"

    @mark
    def method(self, a: int):
        return [self.place, a]
'''
FUNCTIONS = ("function", "coroutine", "generator", "async_generator", "failing")
METHODS = ("Child.method", "Child.waits", "Child.create", "Child.version", "Slotted.method", "Data.method",
           "SlottedData.method")  # fmt: skip
DECORATORS = ("agent", "tool", "llm", "retrieval", "cached")
WAYS = (*DECORATORS, "wrap", "restored")
"""`wrap`: by OTEL_AGENTPERF_WRAP; `restored`: by that, and taken back"""
NAME = "users_shapes"


def made(mark: str) -> ModuleType:
    """The module, imported under its name, as pickle needs it."""
    module = ModuleType(NAME)
    sys.modules[NAME] = module
    exec(compile(SOURCE.format(mark=mark), NAME, "exec"), vars(module))
    return module


@pytest.fixture
def plain() -> Iterator[ModuleType]:
    yield made("mark = lambda function: function")
    sys.modules.pop(NAME, None)


@pytest.fixture(params=WAYS)
def wrapped(plain: ModuleType, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    with recording() as recorded:
        if request.param in DECORATORS:
            yield made(f"from otel_agentperf import {request.param} as mark")
            return
        module = made("mark = lambda function: function")
        entries = ",".join(f"{NAME}:{path}=tool" for path in (*FUNCTIONS, *METHODS))
        otel_agentperf.instrument(tracer_provider=recorded.provider, config=Config(wrap=entries))
        if request.param == "restored":
            otel_agentperf.uninstrument()
        yield module
        otel_agentperf.uninstrument()


def at(module: ModuleType, path: str, bound: bool = False) -> Any:
    """What the path names; `bound`: the method of an instance."""
    outer, _, name = path.rpartition(".")
    if not outer:
        return getattr(module, name)
    holder = getattr(module, outer)
    return getattr(holder() if bound else holder, name)


def outcome(call: Callable[[], Any]) -> Any:
    """The result, or the words of the error; what is waited for is waited for, and streams are read."""
    try:
        result = call()
        if inspect.iscoroutine(result):
            return asyncio.run(result)
        if inspect.isasyncgen(result):
            return asyncio.run(_read(result))
        return list(result) if inspect.isgenerator(result) else result
    except Exception as error:
        return type(error), str(error)


async def _read(stream: Any) -> list[Any]:
    return [item async for item in stream]


LOOKS: tuple[Callable[[Any], Any], ...] = (
    inspect.signature,
    inspect.getfullargspec,
    inspect.iscoroutinefunction,
    asyncio.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    inspect.isfunction,
    inspect.ismethod,
    inspect.isroutine,
    inspect.isclass,
    inspect.getdoc,
    inspect.getmodule,
    typing.get_type_hints,
    callable,
    lambda function: pydoc.render_doc(function, renderer=pydoc.plaintext).partition("\n")[2],
    lambda function: [
        getattr(function, name) for name in ("__name__", "__qualname__", "__module__", "__annotations__")
    ],
    lambda function: [getattr(function, name) for name in ("__defaults__", "__kwdefaults__", "__doc__", "__dict__")],
    lambda function: function.__code__.co_name,
    lambda function: hasattr(function, "__self__"),
    lambda function: isinstance(function, type(lambda: None)),
)


@pytest.mark.parametrize("path", [*FUNCTIONS, *METHODS])
@pytest.mark.parametrize("bound", [False, True], ids=["", "bound"])
def test_it_looks_the_same(plain: ModuleType, wrapped: ModuleType, path: str, bound: bool) -> None:
    one, other = at(plain, path, bound), at(wrapped, path, bound)
    for number, look in enumerate(LOOKS):
        if look is inspect.getmodule:
            assert look(other).__name__ == NAME
        else:
            assert look(other) == look(one), number
    assert weakref.ref(other)() is other


CALLS: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    ((), {}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3, 4), {}),
    ((), {"a": 1}),
    ((1,), {"a": 1}),
    ((1,), {"nonsense": 1}),
    ((1,), {"self": 1}),
    ((1,), {"instance": 1, "wrapped": 2, "function": 3}),
)


@pytest.mark.parametrize("path", [*FUNCTIONS[:4], *METHODS])
@pytest.mark.parametrize("bound", [False, True], ids=["", "bound"])
def test_it_does_the_same_and_fails_with_the_same_words(
    plain: ModuleType, wrapped: ModuleType, path: str, bound: bool
) -> None:
    one, other = at(plain, path, bound), at(wrapped, path, bound)
    for args, kwargs in CALLS:
        expected = outcome(functools.partial(one, *args, **kwargs))
        assert outcome(functools.partial(other, *args, **kwargs)) == expected, (args, kwargs)


@pytest.mark.parametrize("path", [*FUNCTIONS[:4], *METHODS])
def test_autospec(plain: ModuleType, wrapped: ModuleType, path: str) -> None:
    outer = path.rpartition(".")[0]
    for instance in (False, True) if outer else (False,):
        specs = []
        for module in (plain, wrapped):
            spec = mock.create_autospec(getattr(module, outer or path), **({"instance": instance} if outer else {}))
            specs.append(getattr(spec, path.rpartition(".")[2]) if outer else spec)
        one, other = specs
        assert isinstance(other, mock.AsyncMock) == isinstance(one, mock.AsyncMock)
        for args in ((), (1,), (1, 2), (1, 2, 3, 4)):
            told = [outcome(functools.partial(spec, *args)) for spec in specs]
            assert [found if type(found) is tuple else "fine" for found in told[:1]] == [
                found if type(found) is tuple else "fine" for found in told[1:]
            ]


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize("path", [*FUNCTIONS[:4], *METHODS])
@pytest.mark.parametrize("bound", [False, True], ids=["", "bound"])
def test_pickles(wrapped: ModuleType, dumps: Callable[[Any], bytes], path: str, bound: bool) -> None:
    one = at(wrapped, path, bound)
    args = (
        (1,)
        if bound or "." not in path or path in ("Child.create", "Child.version")
        else (at(wrapped, path.partition(".")[0])(), 1)
    )
    expected = outcome(functools.partial(one, *args))
    again = pickle.loads(dumps(one))
    assert outcome(functools.partial(again, *args)) == expected
    if "." not in path:
        assert again is one


CLOUD = """
import sys
import cloudpickle
from otel_agentperf import agent, tool

def outer():
    factor = 3

    @tool
    def times(number):
        return number * factor

    class Local:
        @agent
        def run(self, number):
            return times(number)

    return times, Local().run, tool(lambda number: number + factor)

sys.stdout.buffer.write(cloudpickle.dumps(outer()))
"""


def test_cloudpickle_by_value_into_another_process() -> None:
    """What is defined in a function or a script is found by no name."""
    data = subprocess.run([sys.executable, "-c", CLOUD], capture_output=True, check=True).stdout
    code = "import sys, pickle; print([f(5) for f in pickle.load(sys.stdin.buffer)])"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (b"[15, 15, 8]", b"")


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies(wrapped: ModuleType, duplicate: Callable[[Any], Any]) -> None:
    for path in FUNCTIONS:
        assert duplicate(at(wrapped, path)) is at(wrapped, path)
    for kind in (wrapped.Child, wrapped.Slotted, wrapped.Data, wrapped.SlottedData):
        one = kind("Bergen")
        other = duplicate(one)
        assert other is not one
        assert other.method(1)[0] == "Bergen"
        assert duplicate({"bound": one.method})["bound"](1)[0] == "Bergen"


def test_partials_and_other_descriptors(wrapped: ModuleType) -> None:
    class Holder:
        half = functools.partialmethod(wrapped.Child.method, 5)
        asked = property(vars(wrapped.Child)["method"].__get__(wrapped.Child("Bergen")))
        place = "Holder"

        @functools.cached_property
        def kept(self) -> Any:
            return wrapped.function(self.place)

    assert functools.partial(wrapped.function, 1, key=2)() == [1, "x", (), 2, {}]
    assert inspect.signature(functools.partial(wrapped.function, 1)).parameters.keys() == {"b", "rest", "key", "more"}
    child = type("Grandchild", (wrapped.Child,), {"half": functools.partialmethod(wrapped.Child.method, 5)})()
    assert child.half() == ["Oslo", "base", 5]
    assert functools.singledispatch(wrapped.function)(1) == [1, "x", (), 1.0, {}]
    assert functools.reduce(wrapped.function, [1, 2]) == [1, 2, (), 1.0, {}]
    assert Holder().kept[0] == "Holder"
    assert Holder().kept is not Holder().kept
    assert functools.wraps(wrapped.function)(lambda: 1).__name__ == "function"
    assert inspect.unwrap(wrapped.function).__code__.co_name == "function"


def test_abstract_methods_stay_abstract() -> None:
    class Abstract(abc.ABC):
        @otel_agentperf.tool
        @abc.abstractmethod
        def inner(self) -> None: ...

        @abc.abstractmethod
        @otel_agentperf.tool
        def outer(self) -> None: ...

    assert Abstract.__abstractmethods__ == {"inner", "outer"}
    with pytest.raises(TypeError, match="abstract"):
        Abstract()  # type: ignore[abstract]


def test_the_same_exception_with_its_context(plain: ModuleType, wrapped: ModuleType) -> None:
    def caught(module: ModuleType, error: BaseException) -> BaseException:
        try:
            try:
                raise LookupError("before")
            except LookupError:
                module.failing(error)
        except BaseException as raised:
            return raised
        raise AssertionError

    for make in (ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, StopIteration):
        cause = OSError()
        errors = [make("x"), make("x")]
        for error in errors:
            error.__cause__ = cause
        one, other = caught(plain, errors[0]), caught(wrapped, errors[1])
        assert other is errors[1]
        assert other.__cause__ is cause
        assert type(other.__context__) is type(one.__context__) is LookupError
        assert other.args == ("x",)
        extra = len(traceback.extract_tb(other.__traceback__)) - len(traceback.extract_tb(one.__traceback__))
        assert 0 <= extra <= 2
        assert not getattr(other, "__notes__", None)


def test_instrumented_and_taken_back_over_and_over(plain: ModuleType) -> None:
    before = {path: vars(plain.Child)[path] for path in ("method", "waits", "create", "version")}
    function, lru_cache, submit = plain.function, functools.lru_cache, ThreadPoolExecutor.submit
    entries = ",".join(f"{NAME}:{path}=tool" for path in (*FUNCTIONS, *METHODS))
    with recording() as recorded:
        for number in range(20):
            for _ in range(1 + number % 3):
                otel_agentperf.instrument(tracer_provider=recorded.provider, config=Config(wrap=entries))
            assert plain.function(1)[0] == 1
            assert plain.Child().method(1) == ["Oslo", "base", 1]
            assert len(recorded.spans) == 2, number
            assert inspect.unwrap(plain.function) is function
            recorded.kept.spans.clear()
            for _ in range(1 + number % 2):
                otel_agentperf.uninstrument()
            assert plain.function is function
            assert {path: vars(plain.Child)[path] for path in before} == before
            assert (functools.lru_cache, ThreadPoolExecutor.submit) == (lru_cache, submit)
            plain.function(1)
            assert not recorded.spans


def test_somebody_elses_patch_between_ours(plain: ModuleType) -> None:
    """Theirs above ours, ours taken back, theirs taken back: in any order nothing of anybody's is lost."""
    seen = []

    def theirs(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(args)
            return original(*args, **kwargs)

        return call

    with recording() as recorded:
        for module, name in ((plain, "function"), (functools, "lru_cache"), (ThreadPoolExecutor, "submit")):
            original = getattr(module, name)
            otel_agentperf.instrument(tracer_provider=recorded.provider, config=Config(wrap=f"{NAME}:function=tool"))
            ours = getattr(module, name)
            setattr(module, name, theirs(ours))
            otel_agentperf.uninstrument()
            assert getattr(module, name).__wrapped__ is ours, "theirs stays"
            plain.function(1)
            assert not recorded.spans
            otel_agentperf.instrument(tracer_provider=recorded.provider, config=Config(wrap=f"{NAME}:function=tool"))
            plain.function(1)
            assert len(recorded.spans) == 1
            recorded.kept.spans.clear()
            otel_agentperf.uninstrument()
            setattr(module, name, original)
    assert seen


# --- what is patched in the standard library --------------------------------------------------------------


@pytest.fixture
def instrumented() -> Iterator[Recording]:
    with recording() as recorded:
        otel_agentperf.instrument(tracer_provider=recorded.provider, config=Config())
        yield recorded
        otel_agentperf.uninstrument()


PLAIN = (functools.lru_cache, functools.cache, ThreadPoolExecutor.submit)
"""in a tuple, where the integration does not put its own in their place"""


def test_the_patched_functions_look_the_same(instrumented: Recording) -> None:
    assert functools.lru_cache is not PLAIN[0]
    assert ThreadPoolExecutor.submit is not PLAIN[2]
    for ours, original in zip((functools.lru_cache, functools.cache, ThreadPoolExecutor.submit), PLAIN, strict=True):
        for look in LOOKS[:-4]:
            if look is not inspect.getfullargspec:  # which looks past no `functools.wraps`
                assert look(ours) == look(original)
        assert pickle.loads(pickle.dumps(ours)) is ours


WRONG: tuple[Callable[[Any], Any], ...] = (
    lambda lru_cache: lru_cache(1, 2, 3),
    lambda lru_cache: lru_cache(nonsense=1),
    lambda lru_cache: lru_cache("x"),
    lambda lru_cache: lru_cache(maxsize="x"),
    lambda lru_cache: lru_cache(len, 1, 2, 3),
    lambda lru_cache: lru_cache(None)(5),
    lambda lru_cache: lru_cache()(),
    lambda lru_cache: lru_cache()(len, len),
    lambda lru_cache: lru_cache(lambda: 1)(2),
    lambda lru_cache: lru_cache(lambda a: 1)([]),
    lambda lru_cache: lru_cache(lambda a: a["x"])(()),
)


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_calls_of_lru_cache_fail_with_the_same_words(instrumented: Recording, wrong: Any) -> None:
    assert outcome(lambda: wrong(functools.lru_cache)) == outcome(lambda: wrong(PLAIN[0]))
    assert type(outcome(lambda: wrong(PLAIN[0]))) is tuple


class Rates:
    """Module level, so that what is cached can be pickled by its name."""

    def of(self, source: str, *, at: int = 0) -> list[Any]:
        """A rate."""
        return [source, at]


def by_name(source: str) -> list[str]:
    return [source]


@pytest.mark.parametrize("decorate", ["lru_cache", "lru_cache()", "lru_cache(maxsize=2, typed=True)", "cache"])
def test_what_is_cached_looks_and_does_the_same(
    instrumented: Recording, decorate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "test_invisible_here", module)

    def members(lru_cache: Any, cache: Any) -> dict[str, Any]:
        mark = eval(decorate, {"lru_cache": lru_cache, "cache": cache})

        class Holder:
            of = mark(Rates.of)
            static = staticmethod(mark(Rates.of))
            whole = classmethod(mark(Rates.of))

        return {"function": mark(by_name), "Holder": Holder}

    one, other = members(PLAIN[0], lambda function: PLAIN[0](None)(function)), members(
        functools.lru_cache, functools.cache
    )  # fmt: skip
    assert type(one["function"]) is type(other["function"])
    for look in (inspect.signature, inspect.getdoc, inspect.iscoroutinefunction, inspect.isroutine, inspect.isfunction):
        assert look(one["function"]) == look(other["function"])
        assert look(one["Holder"].of) == look(other["Holder"].of)
    assert (
        vars(one["function"]).keys() <= vars(other["function"]).keys() <= vars(one["function"]).keys() | {"cache_clear"}
    )
    for both in (one, other):
        function, holder = both["function"], both["Holder"]()
        first = function("USD")
        assert function("USD") is first, "the very same object"
        assert holder.of("USD", at=1) is holder.of("USD", at=1)
        assert function.__wrapped__ is by_name
        assert (function.cache_info().hits, function.cache_info().misses) == (1, 1)
        assert copy.copy(function) is copy.deepcopy(function) is function
        assert weakref.ref(function)() is function
        function.cache_clear()
        assert function.cache_info().currsize == 0
        assert function("USD") is not first
    assert one["function"].cache_parameters() == other["function"].cache_parameters()
    assert outcome(lambda: one["function"](1, 2)) == outcome(lambda: other["function"](1, 2))


def test_an_exception_of_a_cached_function_is_the_same_object(instrumented: Recording) -> None:
    error = ValueError("x")

    @functools.lru_cache
    def failing(source: str) -> None:
        raise error

    with otel_agentperf.agent("a"), pytest.raises(ValueError) as caught:
        failing("USD")
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "otel_agentperf" in frame.filename]
    assert len(ours) <= 2


def test_submitted_work_is_the_users(instrumented: Recording) -> None:
    """Results and errors are the same objects, and a subclass of the executor sees what was submitted."""
    seen: list[Any] = []

    class Executor(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            seen.append((fn, args, kwargs))
            return super().submit(fn, *args, **kwargs)

    error, result = ValueError("x"), object()

    def work(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise error
        return result, args

    with otel_agentperf.agent("a"), Executor(1) as pool:
        assert pool.submit(work, 1).result()[0] is result
        failed = pool.submit(work, function=1, context=2, self=3).exception()
    assert failed is error
    assert (error.__cause__, error.__context__) == (None, None)
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "otel_agentperf" in frame.filename]
    assert len(ours) <= 2
    assert seen == [(work, (1,), {}), (work, (), {"function": 1, "context": 2, "self": 3})]
    for wrong in (lambda submit: submit(), lambda submit: submit(pool), lambda submit: submit(pool, fn=len)):
        assert outcome(lambda wrong=wrong: wrong(ThreadPoolExecutor.submit)) == outcome(
            lambda wrong=wrong: wrong(PLAIN[2])
        )
