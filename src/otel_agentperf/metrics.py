"""Our instruments. Labels are allow-listed and bounded: names of agents, tools, models, kinds; never a run, session,
user or argument."""

from __future__ import annotations

import os
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar

from opentelemetry import metrics as metrics_api
from opentelemetry.metrics import CallbackOptions, Observation

from . import _guard
from . import _semconv as names
from ._fork import ForkLock
from .capture.tracing import SCOPE, state
from .run_buffer import RunBuffer, weakly
from .sanitize import valid

if TYPE_CHECKING:
    from .model import Report, SpanRecord

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_MOST_NAMES = 200
_MOST_FAILURES = 400
"""series of an instrument with an error's type: with those without one it stays below the SDK's own limit of 2,000,
beyond which all labels are lost"""
OTHER = "_OTHER"


class Labels:
    """At most `most` different values a label; the rest is `_OTHER`."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}

    def bounded(self, label: str, value: str, most: int = _MOST_NAMES) -> str:
        value = valid(value)  # a lone surrogate makes exporters leave the label out, and series collide
        seen = self._seen.setdefault(label, set())
        if value in seen:
            return value
        if len(seen) >= most:
            return OTHER
        seen.add(value)
        return value


_adding = ForkLock()


class Own:
    """The plugin's own numbers, of one processor. The SDK keeps only the first of several instruments of one name, so
    what is observed is the sum of all processors that measure with one meter provider; those that are gone are part of
    it, because a counter may not fall."""

    __slots__ = ("_before", "_before_ns", "_buffer", "_provider", "dropped", "self_ns")

    _all: ClassVar[list[Own]] = []

    def __init__(self, provider: metrics_api.MeterProvider | None, buffer: RunBuffer) -> None:
        self.self_ns = 0
        """spent in the processor; `state.self_ns` is the rest"""
        self.dropped = buffer.dropped
        self._buffer = weakref.ref(buffer)
        self._before, self._before_ns = Counter[str](), 0
        """of those that are gone"""
        is_global = provider is None or type(provider).__name__ == "_ProxyMeterProvider"  # which stands for it
        self._provider: Callable[[], Any] = metrics_api.get_meter_provider if is_global else weakly(provider)
        with _adding.held():
            gone = [own for own in self._together() if own._buffer() is None]
            for own in gone:
                self._before_ns += own.self_ns + own._before_ns
                self._before.update(own._dropped())
            Own._all = [*(own for own in Own._all if own not in gone and own._provider() is not None), self]

    def _dropped(self) -> Counter[str]:
        return self._before + Counter(dict(self.dropped))

    def _together(self) -> list[Own]:
        provider = self._provider()
        return [own for own in Own._all if own._provider() is provider]

    def observe_active(self, options: CallbackOptions) -> Iterable[Observation]:
        buffers = [own._buffer() for own in self._together()]
        # Not a sum: two processors may have been added to one provider.
        yield Observation(len(set().union(*[buffer.open_agents() for buffer in buffers if buffer is not None])))

    def observe_self_time(self, options: CallbackOptions) -> Iterable[Observation]:
        inside = sum(own.self_ns + own._before_ns for own in self._together())
        yield Observation((inside + state.self_ns) / 1e9)

    def observe_dropped(self, options: CallbackOptions) -> Iterable[Observation]:
        dropped = sum((own._dropped() for own in self._together()), Counter[str]())
        for reason, count in dropped.items():
            yield Observation(count, {"reason": reason})


class Metrics:
    """Records a run's numbers when it has ended, and reports the plugin's own when asked.

    Recording costs about as much as a span, so it happens once a run and not in the middle of a call. The SDK's
    locks, held by another thread while the process forks, would hang the child: ours is taken around recording
    and before a fork. They are not re-entrant either: what a signal handler reports while its thread is recording
    is recorded afterwards.
    """

    def __init__(self, provider: metrics_api.MeterProvider | None, buffer: RunBuffer) -> None:
        self.own = Own(provider, buffer)
        self._labels = Labels()
        self._lock = RLock()
        self._waiting: deque[Report] = deque()
        self._recording = False
        try:
            self._make(metrics_api.get_meter("otel_agentperf", meter_provider=provider))
        except Exception as fault:  # noqa: BLE001 - the provider's; the reports do not hang on it
            _guard.swallowed("metrics", fault)
            self._make(metrics_api.NoOpMeter("otel_agentperf"))
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._lock.release
            )

    def _make(self, meter: metrics_api.Meter) -> None:
        """Our instruments."""

        def histogram(name: str, unit: str, bounds: tuple[float, ...], description: str) -> Any:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)

        self._durations = {
            "agent": histogram(names.METRIC_AGENT_DURATION, "s", _SECONDS, "Duration of an agent's invocation"),
            "tool": histogram(names.METRIC_TOOL_DURATION, "s", _SECONDS, "Duration of a tool call"),
            "llm": histogram(names.METRIC_LLM_DURATION, "s", _SECONDS, "Duration of a model call"),
        }
        self._durations["embedding"] = self._durations["llm"]
        self._tokens = histogram(names.METRIC_TOKEN_USAGE, "{token}", _TOKENS, "Tokens of a model call")
        self._first_chunk = histogram(names.METRIC_FIRST_CHUNK, "s", _SECONDS, "Time to a stream's first chunk")
        self._score = histogram(names.METRIC_RUN_SCORE, "1", _SHARES, "Score of a run")
        self._efficiency = histogram(names.METRIC_RUN_EFFICIENCY, "1", _SHARES, "Share of a run that is no waste")
        self._saving = histogram(names.METRIC_BOTTLENECK_SAVING, "s", _SECONDS, "What mending a bottleneck would save")
        self._bottlenecks = meter.create_counter(names.METRIC_BOTTLENECKS, "1", "Bottlenecks found")
        self._lookups = meter.create_counter(names.METRIC_CACHE_LOOKUPS, "1", "Cache look-ups")
        self._cost = meter.create_counter(names.METRIC_COST, "{USD}", "Cost of runs, where all of it is known")
        self._time_saved = meter.create_counter(names.METRIC_CACHE_TIME_SAVED, "s", "Time that cache hits saved")
        own = self.own
        meter.create_observable_up_down_counter(
            names.METRIC_AGENTS_ACTIVE, [own.observe_active], "1", "Agents running now"
        )
        meter.create_observable_counter(
            names.METRIC_SELF_TIME, [own.observe_self_time], "s", "Time spent inside the plugin"
        )
        meter.create_observable_counter(names.METRIC_SELF_DROPPED, [own.observe_dropped], "1", "Spans not analysed")
        meter.create_observable_counter(names.METRIC_SELF_ERRORS, [_observe_errors], "1", "Errors swallowed")

    def record(self, report: Report) -> None:
        """A run has ended. Other instrumentations record their spans themselves, so the GenAI metrics are those
        of the spans that are ours."""
        with self._lock:
            self._waiting.append(report)
            if self._recording:
                return
            self._recording = True
            try:
                while self._waiting:
                    self._record(self._waiting.popleft())
            finally:
                self._recording = False

    @_guard.guarded("metrics.record", None)
    def _record(self, report: Report) -> None:
        for span in report.run.spans:
            if span.scope == SCOPE and span.kind in self._durations:
                self._record_call(span)
        agent = {names.GEN_AI_AGENT_NAME: self._labels.bounded("agent", report.root.operation)}
        self._score.record(report.score, agent)
        self._efficiency.record(report.efficiency, agent)
        if report.cost.complete and report.cost.usd is not None:
            self._cost.add(report.cost.usd, agent)
        self._record_findings(report)
        self._record_caches(report)

    def _record_call(self, span: SpanRecord) -> None:
        name = self._labels.bounded(span.kind, span.operation)
        key, operation = _CALL_LABELS[span.kind]
        labels = {names.GEN_AI_OPERATION_NAME: operation, key: name}
        if span.error is not None:
            told = self._labels.bounded(f"{span.kind} and error", f"{name}\0{span.error}", _MOST_FAILURES)
            labels[names.ERROR_TYPE] = OTHER if told == OTHER else self._labels.bounded("error", span.error)
        self._durations[span.kind].record(span.duration_s, labels)
        if span.first_chunk_s is not None and span.kind == "llm":
            self._first_chunk.record(span.first_chunk_s, labels)
        if span.kind in ("llm", "embedding"):
            for kind, count in (("input", span.tokens.input), ("output", span.tokens.output)):
                if count is not None:
                    self._tokens.record(count, {**labels, names.GEN_AI_TOKEN_TYPE: kind})

    def _record_findings(self, report: Report) -> None:
        for finding in report.findings:
            kind = {"kind": finding.kind, "severity": finding.severity}
            self._bottlenecks.add(1, kind)
            self._saving.record(finding.saving_s, kind)

    def _record_caches(self, report: Report) -> None:
        for cache in report.caches:
            name = {"cache": self._labels.bounded("cache", cache.name)}
            for hit, count in ((True, cache.hits), (False, cache.lookups - cache.hits)):
                if count > 0:
                    self._lookups.add(count, {**name, "hit": hit})
            if cache.time_saved_s:
                self._time_saved.add(cache.time_saved_s, name)


_CALL_LABELS = {
    "agent": (names.GEN_AI_AGENT_NAME, names.INVOKE_AGENT),
    "tool": (names.GEN_AI_TOOL_NAME, names.EXECUTE_TOOL),
    "llm": (names.GEN_AI_REQUEST_MODEL, names.CHAT),
    "embedding": (names.GEN_AI_REQUEST_MODEL, names.EMBEDDINGS),
}


def _observe_errors(options: CallbackOptions) -> Iterable[Observation]:
    for (place, kind), count in list(_guard.counts.items()):
        yield Observation(count, {"place": place, names.ERROR_TYPE: kind})
