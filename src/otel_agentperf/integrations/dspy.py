"""DSPy: programs and ReAct as agents, tools, calls of language models, its cache, retrievers.

An agent is the module that the program calls, and every ReAct or RLM within it; a module of the user's own inside is a
step, and the predictors of DSPy are looked through: theirs is the model call below them. DSPy's callbacks are the
user's and are not touched.

A model call is one attempt, so that an answer out of DSPy's cache is none and an attempt that failed is one. Where
LiteLLM or a client makes the call, its own span counts instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.trace import get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description, call_inside
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches, when_imported
from ..capture.streams import drive_coroutine
from ..capture.tracing import SUPPRESSED, state
from ..capture.usage import get, usage
from . import cachetools_caches
from ._answer_caches import looking_up, lookup
from ._spans import own_attributes

MODULES = ("dspy",)
DISTRIBUTION = "dspy"
VERSIONS = ">=3.4,<3.5"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "retrieval", "caches")
PARTS = (
    "dspy.primitives.module", "dspy.adapters.types.tool", "dspy.clients.execution", "dspy.clients.cache",
    "dspy.retrievers.retrieve", "dspy.retrievers.embeddings", "dspy.dsp.colbertv2",
)  # fmt: skip
LIMITS = ("CodeAct runs its tools inside a sandbox, where they are not seen; RLM's are.",)

_AGENTS = frozenset({"ReAct", "ReActV2", "CodeAct", "RLM", "Avatar"})
"""modules of DSPy's own that call tools in a loop"""
_RETRIEVERS = (
    ("dspy.retrievers.retrieve", "Retrieve"),
    ("dspy.retrievers.embeddings", "Embeddings"),
    ("dspy.dsp.colbertv2", "ColBERTv2"),
)


def patch(patches: Patches) -> None:
    """Each part when it is imported."""
    for module, patch_part in (
        ("dspy.primitives.module", _patch_modules),
        ("dspy.adapters.types.tool", _patch_tools),
        ("dspy.clients.execution", _patch_models),
        ("dspy.clients.cache", _patch_cache),
    ):
        when_imported((module,), partial(patch_part, patches, module))
    for module, name in _RETRIEVERS:
        when_imported((module,), partial(patches.trace, module, f"{name}.__call__", _retriever))


def _patch_modules(patches: Patches, module: str) -> None:
    for path in ("Module.__call__", "Module.acall"):
        patches.trace(module, path, _module, begin=_begin)


def _patch_tools(patches: Patches, module: str) -> None:
    for path in ("Tool.__call__", "Tool.acall"):
        patches.trace(module, path, _tool)
    patches.wrap(module, "ToolCalls.ToolCall.execute", _executed)


def _patch_models(patches: Patches, module: str) -> None:
    patches.wrap(module, "_attempt", _attempt)
    patches.wrap(module, "_aattempt", _aattempt)


def _patch_cache(patches: Patches, module: str) -> None:
    look_up = looking_up(_look_up)

    def wrapper(wrapped: Callable[..., Any], cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        memory = getattr(cache, "memory_cache", None)
        return cachetools_caches.aside(memory, lambda: look_up(wrapped, cache, args, kwargs))

    patches.wrap(module, "Cache.get", wrapper)


def _module(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    kind = type(module)
    is_own = kind.__module__.partition(".")[0] == "dspy"
    is_inside = bool(sys.modules["dspy"].settings.get("caller_modules"))
    if not any(base.__name__ in _AGENTS and base.__module__.startswith("dspy.") for base in kind.__mro__):
        if is_own and (is_inside or own_attributes(get_current_span())):
            return None
        if is_inside:
            return "other", kind.__name__, None, None
    return "agent", kind.__name__, None, kwargs or args


def _begin(kind: Any, name: str, *rest: Any) -> Invocation | None:
    """As `start`; the step that a module inside another one is has no convention."""
    if kind != "other":
        return start(kind, name, *rest)
    if context_api.get_value(SUPPRESSED):
        return None
    return Invocation("other", state.tracer.start_span(sanitize.name(name)))


def _tool(tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """`finish` and `submit`, by which ReAct's models say that they are done, are functions of DSPy's."""
    if str(getattr(tool.func, "__module__", "")).startswith("dspy.predict."):
        return None
    return "tool", tool.name, None, kwargs


def _executed(wrapped: Callable[..., Any], call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A tool that the program itself calls as the model asked. Without `functions`, DSPy looks for it in the frame of
    its caller, which would be this one."""
    functions = kwargs.get("functions", args[0] if args else None)
    if functions is None:
        caller = sys._getframe(1)
        found = caller.f_locals.get(call.name) or caller.f_globals.get(call.name)
        functions = {} if found is None else {call.name: found}
    inner = partial(wrapped, functions=functions)
    tool = sys.modules["dspy"].Tool
    if isinstance(functions, dict) and isinstance(functions.get(call.name), tool):
        return inner()
    identity = {names.GEN_AI_TOOL_CALL_ID: sanitize.name(call.id)} if isinstance(get(call, "id"), str) else None
    return call_inside(_begin_call, ("tool", call.name, identity, call.args), inner, (), {}, None)


class _Call(Invocation):
    """A tool call whose error DSPy wraps into one of its own."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        super().fail(error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error)


def _begin_call(*description: Any) -> Invocation | None:
    invocation = start(*description)
    if invocation is not None:
        invocation.__class__ = _Call
    return invocation


def _attempt(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    description = _model_call(*args, **kwargs)
    if description is None:
        return wrapped(*args, **kwargs)
    return call_inside(start, description, wrapped, args, kwargs, partial(_answered, args[5]))


def _aattempt(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    description = _model_call(*args, **kwargs)
    if description is None:
        return wrapped(*args, **kwargs)
    return drive_coroutine(partial(start, *description), wrapped(*args, **kwargs), partial(_answered, args[5]))


@_guard.guarded("dspy.model", None)
def _model_call(lm: Any, call: Any, backend: Any, request: Any, provider: Any, state: Any, results: Any) -> Description:
    name, attributes = str(lm.model), None
    before, slash, rest = name.partition("/")
    if isinstance(provider, str) and slash and rest:
        name, attributes = rest, {names.GEN_AI_PROVIDER_NAME: sanitize.name(before)}
    return "llm", name, attributes, call.legacy.get("messages") or str(request)


def _answered(attempt: Any, invocation: Invocation, nothing: Any) -> Any:
    result = attempt.result
    told = get(result, "usage")
    if told:
        invocation.usage(*usage(told))
    model = get(result, "response_model")
    if isinstance(model, str):
        invocation.set(names.GEN_AI_RESPONSE_MODEL, model)
    invocation.stop(get(result, "outputs"))
    return nothing


def _look_up(cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    if not (cache.enable_memory_cache or cache.enable_disk_cache):
        return None
    request: dict[str, Any] = kwargs["request"] if "request" in kwargs else args[0]
    ignored = kwargs.get("ignored_args_for_cache_key", args[1] if len(args) > 1 else None) or ()
    return lookup("dspy", "dspy", {key: value for key, value in request.items() if key not in ignored})


def _retriever(retriever: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    return "retrieval", type(retriever).__name__, None, kwargs.get("query", args[0] if args else None)
