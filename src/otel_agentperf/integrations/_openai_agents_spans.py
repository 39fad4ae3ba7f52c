"""The spans of the OpenAI Agents SDK, each with one of ours that is current while its work runs."""

from __future__ import annotations

import json
import sys
from asyncio import CancelledError
from contextvars import ContextVar, Token
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import context as context_api
from opentelemetry.trace import get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.invocation import Invocation, attach, start
from ..capture.tracing import SUPPRESSED, state
from ..capture.usage import Usage, get, usage
from ..model import Kind
from ._spans import named_error, own_attributes

_KINDS: dict[str, Kind] = {
    "task": "workflow",
    "agent": "agent",
    "function": "tool",
    "generation": "llm",
    "response": "llm",
}


class OpenSpan:
    """A span of the SDK's that has started, with ours."""

    __slots__ = ("_above", "_below", "context_token", "described", "error", "handled", "invocation", "token")

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.described = False
        self.error: BaseException | None = None
        # An error the whole run is an answer to is not this span's.
        self.handled = sys.exc_info()[1]
        self.context_token: Any = attach(invocation)
        self._below: set[OpenSpan] = set()
        self._above = innermost.get()
        if self._above is not None:
            self._above._below.add(self)
        self.token: Token[OpenSpan | None] = innermost.set(self)

    def leave(self) -> None:
        """No longer current; where it was entered in another context, there is nothing to undo."""
        try:
            innermost.reset(self.token)
        except ValueError:
            return
        # Logfire ends its span before ours that is inside: what it has restored must stay.
        if self._is_current():
            context_api.detach(self.context_token)

    def _is_current(self) -> bool:
        """Is ours the current span, or one just below it that somebody left behind?"""
        if context_api.get_current() is self.invocation.context:
            return True
        parent = getattr(get_current_span(), "parent", None)
        return parent is not None and parent.span_id == self.invocation.span.get_span_context().span_id

    def end(self, failed: bool) -> None:
        raised = sys.exc_info()[1]
        error = raised if raised is not self.handled else None
        error = error or self.error or (named_error(f"{self.invocation.kind}_error") if failed else None)
        if self._above is not None:
            self._above._below.discard(self)
        if error is None or isinstance(error, GeneratorExit):
            self.invocation.stop()
            return
        if self.invocation.kind == "agent":
            self._abandon_below()
        self.invocation.fail(error)

    def _abandon_below(self) -> None:
        """A tool runs in a task of its own, which learns of its agent's end only later."""
        for inner in tuple(self._below):
            inner._abandon_below()
            inner.invocation.fail(CancelledError())
        self._below.clear()


innermost: ContextVar[OpenSpan | None] = ContextVar("otel_agentperf_openai_agents", default=None)


class Processor:
    """The SDK calls these for each trace and span, in the context of the work they stand for."""

    def __init__(self) -> None:
        self.active = False
        self._open: WeakKeyDictionary[Any, OpenSpan] = WeakKeyDictionary()

    @property
    def is_busy(self) -> bool:
        """Is anything open?"""
        return bool(self._open)

    def on_trace_start(self, trace: Any) -> None:
        with _guard.guard("openai_agents.trace_start"):
            if self.active:
                self._started(trace, start("workflow", getattr(trace, "workflow", None) or trace.name))

    def on_trace_end(self, trace: Any) -> None:
        with _guard.guard("openai_agents.trace_end"):
            opened = self._open.pop(trace, None)
            if opened is not None:
                opened.leave()
                opened.end(failed=False)

    def on_span_start(self, span: Any) -> None:
        with _guard.guard("openai_agents.span_start"):
            data = span.span_data
            kind = _KINDS.get(data.type)
            if not self.active or _is_left_out(data.type) or (kind == "llm" and _inside_model_call()):
                return
            name = get(data, "model" if kind == "llm" else "name") or "unknown"
            self._started(span, start(kind, name) if kind else _step(data))

    def on_span_end(self, span: Any) -> None:
        with _guard.guard("openai_agents.span_end"):
            opened = self._open.pop(span, None)
            if opened is not None:
                opened.leave()
                _describe(opened, span.span_data)
                opened.end(failed=span.error is not None)

    def shutdown(self, timeout: float | None = None) -> None:
        """Nothing waits here."""

    def force_flush(self) -> None:
        """Nothing waits here."""

    def _started(self, span: Any, invocation: Invocation | None) -> None:
        if invocation is not None:
            self._open[span] = OpenSpan(invocation)


class First:
    """The half of a processor that is told of beginnings."""

    def __init__(self, processor: Processor) -> None:
        self.on_trace_start = processor.on_trace_start
        self.on_span_start = processor.on_span_start

    def on_trace_end(self, trace: Any) -> None:
        """The other half's."""

    def on_span_end(self, span: Any) -> None:
        """The other half's."""

    def shutdown(self, timeout: float | None = None) -> None:
        """Nothing waits here."""

    def force_flush(self) -> None:
        """Nothing waits here."""


class Last:
    """The half that is told of endings."""

    def __init__(self, processor: Processor) -> None:
        self.on_trace_end = processor.on_trace_end
        self.on_span_end = processor.on_span_end

    def on_trace_start(self, trace: Any) -> None:
        """The other half's."""

    def on_span_start(self, span: Any) -> None:
        """The other half's."""

    def shutdown(self, timeout: float | None = None) -> None:
        """Nothing waits here."""

    def force_flush(self) -> None:
        """Nothing waits here."""


def _is_left_out(kind: str) -> bool:
    """Turns, and the tasks of a trace that is a workflow already; a run with tracing off has only its task."""
    return kind == "turn" or (kind == "task" and innermost.get() is not None)


def _inside_model_call() -> bool:
    return own_attributes(get_current_span()).get(names.GEN_AI_OPERATION_NAME) == names.CHAT


def _step(data: Any) -> Invocation | None:
    """A guardrail, a handoff, a custom span: neither a call of a model nor of a tool."""
    if context_api.get_value(SUPPRESSED):
        return None
    name = get(data, "name") or get(data, "server") or ""
    return Invocation("other", state.tracer.start_span(sanitize.name(f"{data.type} {name}".strip())))


def _describe(opened: OpenSpan, data: Any) -> None:
    invocation = opened.invocation
    if data.type == "handoff":
        if not invocation.span.is_recording():
            return
        name = f"handoff {get(data, 'from_agent')} to {get(data, 'to_agent')}"
        invocation.span.update_name(sanitize.name(name))
    elif invocation.kind == "tool" and not opened.described:
        describe_tool(opened, get(data, "input"), None, get(data, "output"))
    elif invocation.kind == "llm":
        record_usage(invocation, get(data, "usage") or get(get(data, "response"), "usage"))


def describe_tool(opened: OpenSpan, arguments: Any, call_id: Any, output: Any) -> None:
    """Record what is known of a tool call; None is unknown."""
    if arguments is not None:
        opened.invocation.arguments(_decoded(arguments))
    if isinstance(call_id, str):
        opened.invocation.set(names.GEN_AI_TOOL_CALL_ID, call_id)
    if output is not None:
        opened.invocation.result(output)


def _decoded(arguments: Any) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, TypeError, RecursionError):
        return arguments


def record_usage(invocation: Invocation, told: Any) -> None:
    """The SDK says 0 and 0 where the model did not say."""
    tokens = usage(told) if told is not None else Usage()
    if tokens.input_tokens or tokens.output_tokens:
        invocation.usage(*tokens)
