"""smolagents: agents (also managed ones), tools, and models of any class.

An agent that another manages is an agent below it, not a tool. `final_answer` is how an agent ends, not a tool
either, unless the program brings one of its own. Code agents run generated code on a thread of a pool: the context
goes there with everything else that is submitted to one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import _guard
from ..capture.callables import Description
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches
from ..capture.streams import drive_generator
from ..capture.usage import Usage, get, tokens_of, usage
from ._polymorphic import Watch, polymorphic
from ._spans import tapped
from ._subclasses import PatchMethod, is_outermost, patch_all_below, patch_inherited

MODULES = ("smolagents",)
DISTRIBUTION = "smolagents"
VERSIONS = ">=1.22,<2"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming")
LIMITS = ("Code that runs in a remote executor calls its tools there, unseen; executor_type='local' shows them.",)


def patch(patches: Patches) -> None:
    """Agents at their base; tools and models also wherever a class overrides what theirs declares."""
    from smolagents.agents import MultiStepAgent
    from smolagents.models import Model
    from smolagents.tools import BaseTool

    patches.wrap(MultiStepAgent, "run", polymorphic(partial(_agent, patches), _is_stream, _Run))
    patch_all_below(patches, BaseTool, {"__call__": _patch_tool})
    patch_all_below(patches, Model, _MODEL_METHODS)


def _patch_tool(patches: Patches, tool: type, method: str) -> None:
    patches.trace(tool, method, partial(_tool, tool))


def _patch_generate(patches: Patches, model: type, method: str) -> None:
    patches.trace(model, method, _model, _answered)


def _patch_generate_stream(patches: Patches, model: type, method: str) -> None:
    patches.wrap(model, method, _streamed)


_MODEL_METHODS: dict[str, PatchMethod] = {"generate": _patch_generate, "generate_stream": _patch_generate_stream}


def _agent(patches: Patches, agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    """A model need not be a `Model`: whatever can `generate` is one."""
    model = type(agent.model)
    if hasattr(model, "generate"):
        patch_inherited(patches, model, _MODEL_METHODS)
    name = getattr(agent, "name", None)
    return "agent", name or type(agent).__name__, None, kwargs.get("task", args[0] if args else None)


def _is_stream(agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return bool(kwargs.get("stream", args[1] if len(args) > 1 else False))


class _Run(Watch):
    def ended(self, invocation: Invocation, result: Any) -> Any:
        """Of a full result only the answer: the rest is never the same twice."""
        super().ended(invocation, result.output if type(result).__name__ == "RunResult" else result)
        return result


def _tool(owner: type, tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    if _is_final_answer(tool) or not is_outermost(owner, tool, "__call__"):
        return None
    return "tool", tool.name, None, _arguments(tool, args, kwargs)


def _is_final_answer(tool: Any) -> bool:
    kind = type(tool)
    return kind.__name__ == "FinalAnswerTool" and kind.__module__ == "smolagents.default_tools"


def _arguments(tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """By name, however they were passed: in place, by name, or as one dictionary."""
    declared = getattr(tool, "inputs", None) or {}
    given = {name: value for name, value in kwargs.items() if name != "sanitize_inputs_outputs"}
    if len(args) == 1 and not given and isinstance(args[0], dict) and all(name in declared for name in args[0]):
        return args[0]
    named = dict(zip(declared, args, strict=False))
    return {**named, **given, **({"*": args[len(declared) :]} if len(args) > len(declared) else {})}


def _model(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    name = getattr(model, "model_id", None)
    messages = kwargs.get("messages", args[0] if args else None)
    return "llm", name if isinstance(name, str) and name else type(model).__name__, None, messages


def _answered(invocation: Invocation, answer: Any) -> Any:
    _record(invocation, usage(get(answer, "token_usage")), tokens_of(get(answer, "raw")))
    asked = [(get(call, "name"), get(call, "arguments")) for call in map(_function, get(answer, "tool_calls") or ())]
    invocation.stop([get(answer, "content"), asked])
    return answer


def _function(call: Any) -> Any:
    return get(call, "function")


def _record(invocation: Invocation, told: Usage, raw: Usage) -> None:
    """smolagents tells input and output; what the provider answered also tells of its cache."""
    same = raw.input_tokens is not None and told.input_tokens in (None, raw.input_tokens)
    invocation.usage(*(raw if same else told))


def _streamed(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    total = _Total()
    begin = partial(_begin_stream, model, args, kwargs)
    return drive_generator(begin, tapped(wrapped(*args, **kwargs), total.add), total.ended)


@_guard.guarded("smolagents.stream", None)
def _begin_stream(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation | None:
    return start(*_model(model, args, kwargs))


class _Total:
    """The tokens of a stream's pieces, summed as smolagents itself does."""

    def __init__(self) -> None:
        self._told = Usage()

    def add(self, delta: Any) -> None:
        told = usage(get(delta, "token_usage"))
        if told.input_tokens is not None:
            before = self._told
            self._told = Usage(
                (before.input_tokens or 0) + told.input_tokens, (before.output_tokens or 0) + (told.output_tokens or 0)
            )

    def ended(self, invocation: Invocation, result: Any) -> Any:
        invocation.usage(*self._told)
        invocation.stop()
        return result
