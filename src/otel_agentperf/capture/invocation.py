"""The one lifecycle of everything that makes a span: started once, then stopped or failed, exactly once.

This is the hot path: each traced call goes through `start` and `_end`, so both are one guarded piece, and all
attributes that are known only at the end are set at once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from .. import _guard, sanitize
from .. import _semconv as names
from ..model import Kind
from .tracing import SUPPRESSED, set_clean, state
from .usage import tokens_of

_FAILED = Status(StatusCode.ERROR)
_COMPARED: frozenset[Kind] = frozenset({"tool", "agent", "retrieval"})
_WHOLE_AT_START: frozenset[Kind] = frozenset({"agent", "workflow"})
_SHORT_NS = 20_000
_MOST_KNOWN = 2_000
_NONE: Any = object()
"""no value, where None is one"""


class _Convention(NamedTuple):
    verb: str
    """`gen_ai.operation.name`, and the first word of the span's name"""
    name_key: str
    span_kind: SpanKind
    args_key: str = names.GEN_AI_TOOL_CALL_ARGUMENTS
    result_key: str = names.GEN_AI_TOOL_CALL_RESULT


_USAGE_KEYS = (
    names.GEN_AI_USAGE_INPUT_TOKENS,
    names.GEN_AI_USAGE_OUTPUT_TOKENS,
    names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
    names.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
)
_MESSAGES = (names.GEN_AI_INPUT_MESSAGES, names.GEN_AI_OUTPUT_MESSAGES)
_CONVENTIONS: dict[Kind, _Convention] = {
    "agent": _Convention(names.INVOKE_AGENT, names.GEN_AI_AGENT_NAME, SpanKind.INTERNAL, *_MESSAGES),
    "workflow": _Convention(names.INVOKE_WORKFLOW, names.GEN_AI_WORKFLOW_NAME, SpanKind.INTERNAL, *_MESSAGES),
    "tool": _Convention(names.EXECUTE_TOOL, names.GEN_AI_TOOL_NAME, SpanKind.INTERNAL),
    "llm": _Convention(names.CHAT, names.GEN_AI_REQUEST_MODEL, SpanKind.CLIENT, *_MESSAGES),
    "embedding": _Convention(names.EMBEDDINGS, names.GEN_AI_REQUEST_MODEL, SpanKind.CLIENT, *_MESSAGES),
    "retrieval": _Convention(names.RETRIEVAL, names.GEN_AI_DATA_SOURCE_ID, SpanKind.CLIENT),
    "cache": _Convention("", names.CACHE_NAME, SpanKind.CLIENT),
}


class Invocation:
    """One traced call: its span, and the context in which the call's own work belongs.

    `stop` or `fail` end the span; whichever comes first counts, the rest does nothing. No method raises.
    """

    __slots__ = ("_args_text", "_compared", "_cpu_ns", "_ended", "_ended_ns", "_parent_id", "_recording", "_result",
                 "_values", "_wall_ns", "context", "kind", "span")  # fmt: skip

    def __init__(self, kind: Kind, span: Span) -> None:
        self.kind = kind
        self.span = span
        self.context: Context = set_span_in_context(span)
        self._ended = False
        self._ended_ns: int | None = None
        self._recording = span.is_recording()
        self._values: dict[str, Any] = {}
        self._args_text: str | None = None
        self._compared = True
        self._result: Any = _NONE
        self._cpu_ns = -1
        parent = getattr(span, "parent", None) if self._recording else None
        self._parent_id: int = parent.span_id if parent is not None else 0

    def arguments(self, values: Any) -> None:
        """Record what the call was given: hash and size, and the content where the user turned it on."""
        if not self._recording:
            return
        try:
            hashed, size, _, text = state.hasher.parts(values)
            self._args_text = text
            recorded, kind = self._values, self.kind
            if size is not None:
                recorded[names.ARGS_SIZE] = size
            if hashed is not None:
                recorded[names.CACHE_KEY_HASH if kind == "cache" else names.ARGS_HASH] = hashed
            if state.config.content and kind != "cache":
                recorded[_CONVENTIONS[kind].args_key] = _content(values)
            self._compared = kind in _COMPARED and state.siblings.are_compared(self._parent_id)
            if self._compared:
                depends_on = state.siblings.depends_on(self._parent_id, text, values)
                if depends_on is not None:
                    recorded[names.DEPENDS_ON] = depends_on
        except Exception as fault:  # noqa: BLE001 - ours; a `with` block of the guard costs more than the rest
            _guard.swallowed("invocation.arguments", fault)

    def measure_cpu(self) -> None:
        """Count the thread's CPU time from now to the end; for synchronous calls only."""
        if not self._recording:
            return
        try:
            self._wall_ns = time.perf_counter_ns()
            self._cpu_ns = time.thread_time_ns()
        except Exception as fault:  # noqa: BLE001 - a clock that a test has replaced
            _guard.swallowed("invocation.measure_cpu", fault)

    def result(self, value: Any) -> None:
        """Record what the call gave; used where a `with` block has no return value."""
        self._result = value

    def usage(
        self,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
    ) -> None:
        """Record the tokens of a model call; input includes what was read from or written to a prompt cache."""
        with _guard.guard("invocation.usage"):
            told = (input_tokens, output_tokens, cache_read_tokens, cache_write_tokens)
            for key, value in zip(_USAGE_KEYS, told, strict=True):
                if value is not None and (number := int(value)) >= 0:
                    self._values[key] = sanitize.number(number)

    def hit(self, hit: bool) -> None:
        """Say whether a cache look-up found something."""
        with _guard.guard("invocation.hit"):
            self._values[names.CACHE_HIT] = bool(hit)

    def set(self, key: str, value: Any) -> None:
        """Add an attribute of the caller's own."""
        with _guard.guard("invocation.set"):
            if value is not None:
                self._values[sanitize.name(key)] = sanitize.attribute(value)

    def chunk(self) -> None:
        """A stream brought something; the first time counts."""
        if names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK not in self._values:
            started = getattr(self.span, "start_time", None)
            if started is not None:
                waited = max(0, time.time_ns() - started) / 1e9
                self._values[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = waited

    def ended_at(self, time_ns: int) -> None:
        """The call ended at that time (nanoseconds since the epoch), and `stop` or `fail` tells it only later."""
        self._ended_ns = time_ns

    def stop(self, result: Any = _NONE) -> None:
        """The call ended well, with `result` if it has one."""
        self._end(None, self._result if result is _NONE else result)

    def fail(self, error: BaseException) -> None:
        """The call raised, or was cancelled."""
        self._end(error, self._result)

    def _end(self, error: BaseException | None, result: Any) -> None:
        if self._ended:
            return
        self._ended = True
        try:
            if self._recording:
                self._describe(error, result)
        except Exception as fault:  # noqa: BLE001 - ours; the span ends all the same
            _guard.swallowed("invocation.end", fault)
        finally:  # Ctrl-C in the middle of it: the span ends all the same
            try:
                self.span.end(self._ended_ns)
            except Exception as fault:  # noqa: BLE001 - some processor's or exporter's
                _guard.swallowed("span.end", fault)

    def _describe(self, error: BaseException | None, result: Any) -> None:
        began = time.perf_counter_ns()
        values = self._values
        if self._cpu_ns >= 0:
            values[names.CPU_TIME] = self._cpu_time_ns() / 1e9
        if error is not None:
            values[names.ERROR_TYPE] = error_type(error)
            # No description and no recorded exception: messages and stack traces are content.
            self.span.set_status(_FAILED)
        text = self._describe_result(result) if result is not _NONE else None
        set_clean(self.span, values)
        if self.kind in _COMPARED:
            own_id = self.span.get_span_context().span_id
            state.siblings.forget(own_id)
            if error is None and self._parent_id and self._compared:
                state.siblings.ended(self._parent_id, own_id, self._args_text, text)
        state.self_ns += time.perf_counter_ns() - began

    def _cpu_time_ns(self) -> int:
        """The clock is a system call, as dear as a third of a span: what took less than it can tell was busy."""
        wall = time.perf_counter_ns() - self._wall_ns
        return wall if wall < _SHORT_NS else max(0, time.thread_time_ns() - self._cpu_ns)

    def _describe_result(self, value: Any) -> str | None:
        values = self._values
        hashed, size, kind, text = state.hasher.parts(value, by_identity=False)
        if hashed is not None:
            values[names.RESULT_HASH] = hashed
        if size is not None:
            values[names.RESULT_SIZE] = size
        values[names.RESULT_TYPE] = sanitize.name(kind)
        if self.kind in ("llm", "embedding") and names.GEN_AI_USAGE_INPUT_TOKENS not in values:
            self.usage(*tokens_of(value))
        if state.config.content and self.kind != "cache":
            values[_CONVENTIONS[self.kind].result_key] = _content(value)
        return text


def start(
    kind: Kind,
    name: str,
    attributes: Mapping[str, Any] | None = None,
    arguments: Any = None,
    *,
    parent: Context | None = None,
    start_time: int | None = None,
) -> Invocation | None:
    """Start a call of `kind` named `name` below the current span (or `parent`). None: not traced.

    `attributes` are ours, not content; a `gen_ai.operation.name` among them wins over the kind's own.
    `start_time`: nanoseconds since the epoch, now unless given.
    """
    began = time.perf_counter_ns()
    span = None
    try:
        if context_api.get_value(SUPPRESSED):
            return None
        verb, name, span_name, span_kind, given = (type(name) is str and _known.get((kind, name))) or _named(kind, name)
        if attributes:
            given = {**given, **attributes}
            verb = given.get(names.GEN_AI_OPERATION_NAME) or f"cache {given.get(names.CACHE_OPERATION, 'get')}"
            span_name = f"{verb} {name}"
        early = given if kind in _WHOLE_AT_START or not state.may_wait() else None
        before = time.perf_counter_ns()
        span = state.tracer.start_span(span_name, parent, span_kind, early, start_time=start_time)
        began += time.perf_counter_ns() - before
        invocation = Invocation(kind, span)
        if kind in _WHOLE_AT_START:
            # Said again at the end: others (LiteLLM) write what they know of a model call into the span around it.
            invocation._values[names.GEN_AI_OPERATION_NAME] = verb
        if early is None and invocation._recording:
            set_clean(span, given)
        if arguments is not None:
            invocation.arguments(arguments)
    except Exception as fault:  # noqa: BLE001 - ours; the user's call goes on untraced
        _guard.swallowed("invocation.start", fault)
        _let_go(span)
        return None
    except BaseException:  # Ctrl-C
        _let_go(span)
        raise
    state.self_ns += time.perf_counter_ns() - began
    return invocation


@_guard.guarded("invocation.let_go", None)
def _let_go(span: Span | None) -> None:
    """End a span that nobody is given, so that nobody else could."""
    if span is not None:
        span.end()


class _Named(NamedTuple):
    """What all calls of one kind and name start with."""

    verb: str
    name: str
    span_name: str
    span_kind: SpanKind
    attributes: Mapping[str, Any]


_known: dict[tuple[Kind, str], _Named] = {}
"""a program has few, and uses each of them often"""


def _named(kind: Kind, name: Any) -> _Named:
    verb, name_key, span_kind, _, _ = _CONVENTIONS[kind]
    clean = sanitize.name(name)
    given = {name_key: clean, **({names.GEN_AI_OPERATION_NAME: verb} if verb else {})}
    made = _Named(verb, clean, f"{verb} {clean}", span_kind, given)
    if clean == name and type(name) is str and len(_known) < _MOST_KNOWN:
        _known[kind, clean] = made
    return made


def _content(value: Any) -> str:
    return sanitize.content(value, state.config.content_limit, state.redact)


def error_type(error: BaseException) -> str:
    """The exception's class name; cancellation is a type of its own."""
    asyncio = sys.modules.get("asyncio.exceptions")  # nothing is cancelled before the program imports it
    if asyncio is not None and issubclass(type(error), asyncio.CancelledError):  # its `__class__` may fail
        return "CancelledError"
    kind = type(error)
    own = kind.__module__ in ("builtins", "__main__")
    return sanitize.name(kind.__qualname__ if own else f"{kind.__module__}.{kind.__qualname__}")


def attach(invocation: Invocation) -> Any:
    """Make the invocation's span current; undo with `detach`."""
    return context_api.attach(invocation.context)


def detach(invocation: Invocation, token: Any, closing: bool = False) -> None:
    """Undo `attach`. `closing`: somebody closes a suspended coroutine or stream, perhaps in another context, where
    there is nothing to undo (and OpenTelemetry would log an error)."""
    if not closing or context_api.get_current() is invocation.context:
        context_api.detach(token)
