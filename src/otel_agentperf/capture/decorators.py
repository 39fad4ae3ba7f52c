"""`agent`, `tool`, `llm`, `retrieval` and `cached`: decorators (bare or with arguments) and context managers.

@tool                       @tool(name="search")            with tool("search") as call:
def search(city): ...       async def find(city): ...           call.result(look_up(city))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from opentelemetry import context as context_api
from opentelemetry.context import Context, get_current

from .. import _guard, sanitize
from .. import _semconv as names
from ..model import Kind
from .callables import describing, traced
from .invocation import Invocation, start
from .tracing import state

F = TypeVar("F", bound=Callable[..., Any])


class _Inside(Context):
    """The context inside a `with` block. `before`: what was current outside, once the block was left from elsewhere,
    where it could not be undone: a generator that another thread or task closed, or that ends before an inner one."""

    before: Context | None = None


_Open = tuple[_Inside, Any, Invocation | None]
"""a `with` block: the context that is current inside, the token to leave it, and the call unless it is not traced"""


class Marker:
    """Marks a callable or a block as an agent, tool, model call, retrieval or cache look-up."""

    __slots__ = ("_attributes", "_hit", "_kind", "_name", "_open")

    def __init__(self, kind: Kind, name: str | None, attributes: Mapping[str, Any] | None = None,
                 hit: Callable[[Any], bool] | None = None) -> None:  # fmt: skip
        state.expect()
        self._kind = kind
        self._name = name
        self._attributes = {key: sanitize.attribute(value) for key, value in (attributes or {}).items()}
        self._hit = hit
        # By the context inside: one marker may be shared by tasks and threads.
        self._open: dict[int, _Open] = {}

    def __call__(self, function: F) -> F:
        """Wrap a function, method, classmethod, staticmethod, generator, coroutine function or callable object. What
        is none of these (a property, say) stays as it is."""
        try:
            if not callable(function) and not issubclass(type(function), classmethod):
                raise TypeError
            ended = self._lookup_ended(function) if self._kind == "cache" else None
            wrapped: F = traced(function, describing(self._kind, function, self._name, self._attributes), ended)
        except Exception as fault:  # noqa: BLE001 - an object may fail when it is looked at: it stays as it is
            _guard.swallowed("decorate", fault)
            return function
        return wrapped

    def __enter__(self) -> Invocation:
        _leave_what_is_over()
        invocation = start(self._kind, self._name or self._kind, self._attributes)
        context = _Inside(get_current() if invocation is None else invocation.context)
        self._open[id(context)] = (context, context_api.attach(context), invocation)
        return invocation if invocation is not None else _Nothing()  # type: ignore[return-value]

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        here = id(get_current())
        away = here not in self._open
        if away and not self._open:
            return
        # Left in another context than it was entered in (a generator closed from elsewhere): the last one, then.
        context, token, invocation = self._open.popitem()[1] if away else self._open.pop(here)
        if away or not _restored(token):
            before = getattr(token, "old_value", None)
            context.before = before if isinstance(before, Context) else Context()
        _leave_what_is_over()
        if invocation is None:
            return
        if error is None or issubclass(type(error), GeneratorExit):  # its `__class__` may lie, or fail
            invocation.stop()
        else:
            invocation.fail(error)

    async def __aenter__(self) -> Invocation:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)

    def _lookup_ended(self, function: Any) -> Callable[[Invocation, Any], Any]:
        hit = self._hit or _hit_by_statistics(function)

        def ended(invocation: Invocation, result: Any) -> Any:
            with _guard.guard("cached.hit"):
                invocation.hit(hit(result))
            invocation.stop(result)
            return result

        return ended


def _hit_by_statistics(function: Any) -> Callable[[Any], bool]:
    """A function that keeps statistics (functools.lru_cache) tells hits itself; otherwise None is a miss."""
    info = getattr(function, "cache_info", None)
    if info is None:
        return lambda result: result is not None
    seen = [info().misses]

    def hit(result: Any) -> bool:
        misses = info().misses
        missed = misses > seen[0]
        seen[0] = misses
        return not missed

    return hit


def _restored(token: Any) -> bool:
    """`detach`, which would log an error where the token is of another task or thread."""
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        return False
    return True


def _leave_what_is_over() -> None:
    current = get_current()
    before = current
    while isinstance(before, _Inside) and before.before is not None:
        before = before.before
    if before is not current:
        context_api.attach(before)


class _Nothing:
    """What a `with` block gets when it is not traced: takes everything, does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def _mark(target: Any, marker: Callable[[str | None], Marker], name: str | None) -> Any:
    if target is None or issubclass(type(target), str):
        return marker(name or target)
    return marker(name)(target)


@overload
def agent(target: F) -> F: ...
@overload
def agent(target: str | None = None, *, name: str | None = None, complexity: float | str | None = None) -> Marker: ...
def agent(target: Any = None, *, name: str | None = None, complexity: float | str | None = None) -> Any:
    """An agent: its outermost call is a run, with a report of its own. `complexity`: a number or word for how hard its
    task is, for the sampling rules."""
    attributes = None if complexity is None else {names.COMPLEXITY: complexity}
    return _mark(target, lambda name: Marker("agent", name, attributes), name)


@overload
def tool(target: F) -> F: ...
@overload
def tool(target: str | None = None, *, name: str | None = None) -> Marker: ...
def tool(target: Any = None, *, name: str | None = None) -> Any:
    """A tool that an agent calls."""
    return _mark(target, lambda name: Marker("tool", name), name)


@overload
def llm(target: F) -> F: ...
@overload
def llm(target: str | None = None, *, name: str | None = None, model: str | None = None,
        provider: str | None = None) -> Marker: ...  # fmt: skip
def llm(target: Any = None, *, name: str | None = None, model: str | None = None, provider: str | None = None) -> Any:
    """A model call, named by its model. Tokens are read from the result's `usage`, or given with `call.usage(…)`."""
    attributes = {names.GEN_AI_PROVIDER_NAME: provider} if provider else None
    return _mark(target, lambda name: Marker("llm", name, attributes), model or name)


@overload
def retrieval(target: F) -> F: ...
@overload
def retrieval(target: str | None = None, *, name: str | None = None) -> Marker: ...
def retrieval(target: Any = None, *, name: str | None = None) -> Any:
    """A search in documents or vectors."""
    return _mark(target, lambda name: Marker("retrieval", name), name)


@overload
def cached(target: F) -> F: ...
@overload
def cached(target: str | None = None, *, name: str | None = None, system: str = "custom",
           hit: Callable[[Any], bool] | None = None) -> Marker: ...  # fmt: skip
def cached(target: Any = None, *, name: str | None = None, system: str = "custom",
           hit: Callable[[Any], bool] | None = None) -> Any:  # fmt: skip
    """A look-up in a cache of your own. `hit(result)` says whether it found something (default: not None; for a
    function with `cache_info`, its statistics); in a `with` block say `call.hit(True)`."""
    attributes = {names.CACHE_OPERATION: "get", names.CACHE_SYSTEM: system}
    return _mark(target, lambda name: Marker("cache", name, attributes, hit), name)
