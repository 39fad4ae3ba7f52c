"""CrewAI's models: providers' classes, LiteLLM's, and those that programs define, each attempt one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description, describing, traced
from ..capture.invocation import Invocation
from ..capture.patching import Patches
from ..capture.usage import Usage, get, tokens_of
from ._same_call import begin, is_under_way
from ._spans import own_attributes
from ._subclasses import PatchMethod, patch_all_below

_KEYS = (
    names.GEN_AI_USAGE_INPUT_TOKENS,
    names.GEN_AI_USAGE_OUTPUT_TOKENS,
    names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
    names.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
)
_RETRIED = "_crewai_rate_limit_wrapped"
"""CrewAI's mark on a method that it tries again when the provider refuses"""


def patch_models(patches: Patches) -> None:
    from crewai.llms.base_llm import BaseLLM

    methods: dict[str, PatchMethod] = {
        "call": _patch_call,
        "acall": _patch_call,
        "_track_token_usage_internal": _patch_wrapper(_tokens_told),
        "_emit_stream_chunk_event": _patch_wrapper(_chunk_told),
        "_handle_tool_execution": _patch_wrapper(_functions_given),
        "_handle_tool_call": _patch_wrapper(_functions_given),
    }
    patch_all_below(patches, BaseLLM, methods)


def _patch_wrapper(wrapper: Callable[..., Any]) -> PatchMethod:
    return lambda patches, model, method: patches.wrap(model, method, wrapper)


def _patch_call(patches: Patches, model: Any, method: str) -> None:
    """Below CrewAI's own retries, where it has put them: an attempt that the provider refused is a call, too."""
    outer = vars(model)[method]
    inner = getattr(outer, "__wrapped__", None) if getattr(outer, _RETRIED, False) else None
    retry: Any = getattr(model, "_wrap_call_method", None)
    if inner is None or retry is None:
        patches.trace(model, method, _model, _answered, begin)
        return
    # CrewAI puts its retries around what a class has, so they are put around ours on a class that is only for that.
    attempt = type("Attempt", (), {method: traced(inner, _while_active(patches), _answered, begin)})
    retry.__func__(attempt, method)
    patches.replace(model, method, vars(attempt)[method])


def _while_active(patches: Patches) -> Callable[..., Description | None]:
    """A plain function's call: the model is its first argument."""

    def describe(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
        if not patches.active or not (args or instance):
            return None
        return _model(args[0], args[1:], kwargs) if instance is None else _model(instance, args, kwargs)

    return describe


def _model(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    told = get(model, "model")
    name = told if isinstance(told, str) and told else type(model).__name__
    given = kwargs.get("messages", args[0] if args else None)
    return None if is_under_way(id(model)) else ("llm", name, _provider(model), (id(model), given))


def _provider(model: Any) -> dict[str, Any] | None:
    """A program's own class says openai unless it says otherwise, so it is not asked."""
    provider = get(model, "provider")
    is_crewais = type(model).__module__.startswith("crewai.")
    if not is_crewais or not isinstance(provider, str) or not provider:
        return None
    return {names.GEN_AI_PROVIDER_NAME: sanitize.name(provider)}


def _answered(invocation: Invocation, answer: Any) -> Any:
    told = tokens_of(answer) if not isinstance(answer, (str, list)) else Usage()
    if told.input_tokens is not None:
        invocation.usage(*told)
    if isinstance(answer, str):
        invocation.stop(answer)
    else:
        invocation.stop()  # what it asks for, with ids that are never the same twice
    return answer


def _tokens_told(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """CrewAI's accounting: once for each request to a provider; one call may be several."""
    with _guard.guard("crewai.tokens"):
        span: Any = get_current_span()
        attributes = own_attributes(span)
        if attributes.get(names.GEN_AI_OPERATION_NAME) == names.CHAT:
            told = _usage(next(iter((*args, *kwargs.values())), None))
            for key, value in zip(_KEYS, told, strict=True):
                before = attributes.get(key)
                if value is not None:
                    span.set_attribute(key, value + (before if isinstance(before, int) else 0))
    return wrapped(*args, **kwargs)


def _usage(told: Any) -> Usage:
    """In CrewAI's own terms, which every provider's are turned into; Bedrock's only by its own class."""
    from crewai.types.usage_metrics import UsageMetrics

    metrics = UsageMetrics.from_provider_dict(told)
    if metrics is not None and (metrics.prompt_tokens or metrics.completion_tokens):
        written = metrics.cache_creation_tokens
        return Usage(metrics.prompt_tokens, metrics.completion_tokens, metrics.cached_prompt_tokens, written or None)
    read = get(told, "cacheReadInputTokenCount") or get(told, "cacheReadInputTokens")
    return Usage(get(told, "inputTokens"), get(told, "outputTokens"), read)


def _chunk_told(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The first piece of a streamed answer."""
    with _guard.guard("crewai.chunk"):
        span: Any = get_current_span()
        attributes = own_attributes(span)
        key = names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK
        if attributes.get(names.GEN_AI_OPERATION_NAME) == names.CHAT and key not in attributes:
            span.set_attribute(key, max(0, time.time_ns() - span.start_time) / 1e9)
    return wrapped(*args, **kwargs)


def _functions_given(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`call(..., available_functions={...})`: the model's class itself calls the function that was asked for."""
    with _guard.guard("crewai.functions"):
        given = next((value for value in (kwargs.get("available_functions"), *args) if _are_functions(value)), None)
        if given is not None:
            known = {name: _function(name, function) for name, function in given.items()}
            args = tuple(known if value is given else value for value in args)
            kwargs = {key: known if value is given else value for key, value in kwargs.items()}
    return wrapped(*args, **kwargs)


def _are_functions(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(callable, value.values()))


def _function(name: str, function: Any) -> Any:
    """A CrewAI tool's `run` has its own span, and its planner's function is no tool of the program's."""
    is_tools = hasattr(get(function, "__self__"), "args_schema")
    is_crewais = str(get(function, "__module__")).startswith("crewai.")
    return function if is_tools or is_crewais else traced(function, describing("tool", function, name))
