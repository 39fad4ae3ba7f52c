"""Orchestrations of Semantic Kernel: started by a call that returns at once, and worked on inside a runtime that the
program started before. One is a workflow from the call until its result is there and nobody works on it any more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from opentelemetry import context as context_api
from opentelemetry.trace import INVALID_SPAN

from .. import _guard
from ..capture.callables import like
from ..capture.invocation import Invocation, attach, detach, start
from ..capture.patching import Patches
from ..capture.usage import get
from ._native_spans import goes_elsewhere
from ._subclasses import patch_all_below

_RUN = context_api.create_key("agentperf-semantic-kernel-orchestration")
"""context key: the run that is being started"""
_NUMBER = re.compile("(?:^|.*_)([0-9a-f]{32})")
"""how topics and types of actors of an orchestration end: with the number of its run"""


class _Run:
    """An orchestration at work."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.at_work = 0
        self.result: Any = None
        self._done = False

    def done(self, wake: Callable[[], None]) -> None:
        """Takes the place of `set` of the event that the result is there."""
        with _guard.guard("semantic_kernel.result"):
            self._done = True
            self.leave(0)
        wake()

    def leave(self, finished: int = 1) -> None:
        """Somebody has finished with a message."""
        self.at_work -= finished
        if not self._done or self.at_work > 0:
            return
        error = get(self.result, "exception")
        token = get(self.result, "cancellation_token")
        if isinstance(error, BaseException):
            self.invocation.fail(error)
        elif token is not None and token.is_cancelled():
            self.invocation.fail(asyncio.CancelledError())
        else:
            self.invocation.stop()


_running: WeakValueDictionary[str, _Run] = WeakValueDictionary()
"""by number; whoever waits for the result keeps it"""


def patch_orchestrations(patches: Patches, module: str) -> None:
    """Their start and their actors, each where it is defined."""
    if module.endswith("agent_actor_base"):
        patches.wrap(module, "ActorBase.on_message_impl", _message_handled)
        return
    from semantic_kernel.agents.orchestration.orchestration_base import OrchestrationBase

    patches.wrap(module, "OrchestrationBase.invoke", _invoked)
    patch_all_below(
        patches, OrchestrationBase, {"_start": lambda patches, cls, name: patches.wrap(cls, name, _started)}
    )


def patch_runtime(patches: Patches, module: str) -> None:
    """The spans of the messages, which are traces of their own wherever the program started the runtime."""
    patches.wrap(module, "TraceHelper.trace_block", _message_block)


def _message_block(wrapped: Callable[..., Any], helper: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("semantic_kernel.message"):
        destination = kwargs.get("destination", args[1] if len(args) > 1 else None)
        if not goes_elsewhere(helper.tracer) and (destination is None or _number(destination)):
            return nullcontext(INVALID_SPAN)
    return wrapped(*args, **kwargs)


def _number(address: Any) -> str:
    found = _NUMBER.fullmatch(str(get(address, "type") or ""))
    return found[1] if found else ""


def _invoked(wrapped: Callable[..., Any], orchestration: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = wrapped(*args, **kwargs)
    return like(made, _run(orchestration, made))


async def _run(orchestration: Any, work: Coroutine[Any, Any, Any]) -> Any:
    """Start the orchestration inside its span, and leave the span open."""
    invocation = _begin(orchestration)
    if invocation is None:
        return await work
    run = _Run(invocation)
    invocation.context = context_api.set_value(_RUN, run, invocation.context)
    token = attach(invocation)
    closing = False
    try:
        result = await work
    except BaseException as error:
        closing = isinstance(error, GeneratorExit)
        invocation.fail(error)
        raise
    finally:
        detach(invocation, token, closing)
    with _guard.guard("semantic_kernel.orchestration"):
        run.result = result
        result.event.set = partial(run.done, result.event.set)
    return result


@_guard.guarded("semantic_kernel.orchestration", None)
def _begin(orchestration: Any) -> Invocation | None:
    name = get(orchestration, "name")
    named = isinstance(name, str) and name and not _NUMBER.fullmatch(name)
    return start("workflow", name if named else type(orchestration).__name__)


def _started(wrapped: Callable[..., Any], orchestration: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("semantic_kernel.start"):
        number = kwargs.get("internal_topic_type", args[2] if len(args) > 2 else None)
        run = context_api.get_value(_RUN)
        if isinstance(run, _Run) and isinstance(number, str):
            _running[number] = run
    return wrapped(*args, **kwargs)


def _message_handled(wrapped: Callable[..., Any], actor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = wrapped(*args, **kwargs)
    run = None
    with _guard.guard("semantic_kernel.actor"):
        run = _running.get(_number(actor.id))
    return made if run is None else like(made, _inside(run, made))


async def _inside(run: _Run, work: Coroutine[Any, Any, Any]) -> Any:
    run.at_work += 1
    token = attach(run.invocation)
    closing = False
    try:
        return await work
    except GeneratorExit:
        closing = True
        raise
    finally:
        detach(run.invocation, token, closing)
        with _guard.guard("semantic_kernel.actor"):
            run.leave()
