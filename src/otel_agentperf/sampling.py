"""Which runs are exported, by the user's rules: a sampler that decides when a run starts, and a processor that decides
again when it has ended and all is known of it.

Either way every run is analysed, scored and counted. What the sampler leaves out is recorded all the same, so that the
processor may still have it exported.
"""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import RLock
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState

from . import _config, _guard
from . import _semconv as names
from ._entries import SamplingRule
from ._fork import call_in_child
from .analysis.sampling import Start, decide
from .postponing import queues

_ENVIRONMENT = ("deployment.environment.name", "deployment.environment")
_MOST_SPANS = 50_000
_MOST_TRACES = 10_000
_LONGEST_S = 600.0
_LONG = (str, bytes, tuple)
_SMALL = 100
"""characters that an event or link without any is as heavy as"""


def start_of(name: str, attributes: Mapping[str, Any], resource: Mapping[str, Any]) -> Start:
    """What the attributes of a run's root and its resource tell for the rules."""
    agent = attributes.get(names.GEN_AI_AGENT_NAME) or name.removeprefix(f"{names.INVOKE_AGENT} ")
    environment = next((resource[key] for key in _ENVIRONMENT if resource.get(key)), "")
    return Start(str(agent), str(environment), attributes.get(names.COMPLEXITY))


class AgentPerfSampler(Sampler):
    """`OTEL_TRACES_SAMPLER=agentperf`, with the rules of `OTEL_AGENTPERF_SAMPLING` or `OTEL_TRACES_SAMPLER_ARG`: those
    about the agent, the environment, the complexity and the rest decide when a trace starts; below a parent its
    decision holds. What is not sampled is recorded, analysed and counted, but not exported."""

    only_names = True  # below a parent; see capture.tracing.State.may_wait

    def __init__(self, rules: Sequence[SamplingRule] | None = None) -> None:
        self._rules = _config.load().sampling_rules() if rules is None else tuple(rules)
        self._resource = OTELResourceDetector().detect().attributes

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Recorded always, sampled by the rules; what goes wrong here is sampled."""
        parent = trace.get_current_span(parent_context).get_span_context()
        sampled = True
        with _guard.guard("sampler"):
            if parent.is_valid:
                sampled = parent.trace_flags.sampled
            else:
                decision = decide(self._rules, trace_id, start_of(name, attributes or {}, self._resource))
                sampled = decision is None or decision.sampled
        return SamplingResult(
            Decision.RECORD_AND_SAMPLE if sampled else Decision.RECORD_ONLY,
            attributes,
            parent.trace_state if parent.is_valid else None,
        )

    def get_description(self) -> str:
        return f"AgentPerfSampler{{{','.join(f'{rule.key}={rule.share:g}' for rule in self._rules)}}}"


def sampler(argument: str | None) -> AgentPerfSampler:
    """The entry point that `OTEL_TRACES_SAMPLER=agentperf` names, with the value of `OTEL_TRACES_SAMPLER_ARG`."""
    config = _config.load({"OTEL_AGENTPERF_SAMPLING": argument}) if argument else _config.load()
    return AgentPerfSampler(config.sampling_rules())


class _Held:
    """The spans of one trace in this process, while it is not known whether they are exported."""

    __slots__ = ("open", "sampled", "since", "spans", "weight")

    def __init__(self, since: float) -> None:
        self.since = since
        self.open = 0
        self.spans: list[ReadableSpan] = []
        self.weight = 0
        self.sampled: bool | None = None
        """None: none of its runs has ended"""


class TailSamplingProcessor(SpanProcessor):
    """Stands before an exporter's processor and passes on whole traces: those of which a run is to be exported, as
    `AgentPerfSpanProcessor` has written on its root, and those without a run.

    A trace is held until its last span in this process has ended, at most `longest_s` seconds, and of all traces at
    most `most_spans` spans, where one with much text counts as many; beyond that, and at shutdown, what is held is
    exported, unless it belongs to a trace whose runs were to be left out so far. A span that starts after its trace was
    decided about goes the same way.
    """

    def __init__(self, inner: SpanProcessor, most_spans: int = _MOST_SPANS, longest_s: float = _LONGEST_S) -> None:
        self._inner = inner
        self.queues = queues(inner)
        self._most_spans = max(most_spans, 0)
        self._longest_s = max(longest_s, 0.0)
        self._reset()
        call_in_child(self._reset)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Count the span as open, and let go of what is held too long."""
        too_much: list[ReadableSpan] = []
        with _guard.guard("tail_sampling.on_start"), self._lock:
            now = time.monotonic()
            context = span.get_span_context()
            assert context is not None
            held = self._traces.get(context.trace_id)
            if held is None:
                held = self._traces[context.trace_id] = _Held(now)
                if span.parent is not None and not span.parent.is_remote:
                    held.sampled = self._decided.get(context.trace_id)  # late
            held.open += 1
            too_much = self._too_much(now)
        self._pass_on(too_much)
        self._inner.on_start(span, parent_context)

    on_start.only_names = True  # type: ignore[attr-defined]  # see capture.tracing.State.may_wait

    def _on_ending(self, span: Span) -> None:
        self._inner._on_ending(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Hold the span, or pass on its trace where that is decided."""
        passed: list[ReadableSpan] = [span]
        with _guard.guard("tail_sampling.on_end"), self._lock:
            passed = self._ended(span)
        self._pass_on(passed)

    def shutdown(self) -> None:
        """Export what is not decided yet."""
        with self._lock:
            left = [held for held in self._traces.values() if held.sampled is not False]
            self._reset()
        for held in left:
            self._pass_on(held.spans)
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """What is decided is exported; runs that go on stay held."""
        return self._inner.force_flush(timeout_millis)

    def _ended(self, span: ReadableSpan) -> list[ReadableSpan]:
        """What can be passed on now."""
        context = span.get_span_context()
        if context is None:
            return [span]
        told = (span.attributes or {}).get(names.SAMPLED)
        held = self._traces.get(context.trace_id)
        if held is None:  # begun before us, or let go of
            return _decided(told or self._decided.get(context.trace_id), [span])
        held.open -= 1
        held.spans.append(span)
        weight = _weight(span)
        held.weight += weight
        self._spans += weight
        if told is not None:
            held.sampled = bool(held.sampled or told)
        if held.open > 0 and not held.sampled:
            return []
        if held.open <= 0:
            del self._traces[context.trace_id]
            self._remember(context.trace_id, held)
        return self._released(held)

    def _remember(self, trace_id: int, held: _Held) -> None:
        """How it was decided about a trace, for its late spans."""
        if held.sampled is not None:
            self._decided[trace_id] = held.sampled or self._decided.get(trace_id, False)
            if len(self._decided) > _MOST_TRACES:
                self._decided.popitem(last=False)

    def _released(self, held: _Held) -> list[ReadableSpan]:
        """Of what is held, all that is to be exported; nothing is held afterwards."""
        spans, held.spans = held.spans, []
        self._spans -= held.weight
        held.weight = 0
        return _decided(held.sampled, spans)

    def _too_much(self, now: float) -> list[ReadableSpan]:
        """Of the oldest traces, as long as there are too many of them, too many spans, or they are held too long."""
        found: list[ReadableSpan] = []
        while self._traces:
            trace_id, held = next(iter(self._traces.items()))
            many = len(self._traces) > _MOST_TRACES
            if not many and self._spans <= self._most_spans and now - held.since <= self._longest_s:
                break
            found += self._released(held)
            if many or held.sampled is None:
                del self._traces[trace_id]  # its further spans are passed on as they end
                self._remember(trace_id, held)
            else:  # decided, but it goes on: what is left out stays left out, unless a later run in it is wanted
                held.since = now
                self._traces.move_to_end(trace_id)
        return found

    def _pass_on(self, spans: list[ReadableSpan]) -> None:
        for span in spans:
            self._inner.on_end(span)

    def _reset(self) -> None:
        """At the start, and in a forked child: what is held is the parent's, as may be the lock."""
        self._lock = RLock()
        self._traces: OrderedDict[int, _Held] = OrderedDict()
        self._decided: OrderedDict[int, bool] = OrderedDict()
        self._spans = 0


def _decided(sampled: Any, spans: list[ReadableSpan]) -> list[ReadableSpan]:
    """Those of a trace that are to be exported; None: nobody has decided."""
    if sampled is False:
        return []
    return [_sampled(span) for span in spans] if sampled else spans


def _weight(span: ReadableSpan) -> int:
    """1, and 1 more for each 1,000 characters that instrumentations have put on it."""
    more: tuple[Any, ...] = (*span.events, *span.links)
    return 1 + (_text(span.attributes) + sum([_SMALL + _text(one.attributes) for one in more])) // 1_000


def _text(attributes: Mapping[str, Any] | None) -> int:
    """Characters of what is text, also in lists."""
    values = (attributes or {}).values()
    return sum([len(value) if type(value) is str else _long(value) for value in values if type(value) in _LONG])


def _long(value: Any) -> int:
    return len(value) if type(value) is bytes else sum([len(part) if type(part) is str else 8 for part in value])


def _sampled(span: ReadableSpan) -> ReadableSpan:
    """The span as one that its sampler took: exporters' processors leave out the others."""
    context = span.get_span_context()
    if context is None or context.trace_flags.sampled:
        return span
    flags = TraceFlags(context.trace_flags | TraceFlags.SAMPLED)
    taken = copy.copy(span)
    taken._context = SpanContext(context.trace_id, context.span_id, context.is_remote, flags, context.trace_state)
    return taken


def hold(provider: Any) -> None:
    """Put a `TailSamplingProcessor` before each of the exporters' processors that a provider has."""
    members = provider._active_span_processor
    with members._lock:
        members._span_processors = tuple(map(_held, members._span_processors))


def _held(processor: SpanProcessor) -> SpanProcessor:
    exports = type(processor).__module__.startswith("opentelemetry.sdk.trace.export")
    return TailSamplingProcessor(processor) if exports else processor
