"""The tracer and settings that everything which makes a span shares."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from .. import _config, _guard
from .._version import VERSION
from ..sanitize import Hasher
from .dependence import Siblings

SCOPE = "otel_agentperf"


SUPPRESSED = _SUPPRESS_INSTRUMENTATION_KEY
"""context key: somebody (an exporter, a user) asked not to be traced"""


class State:
    """Settings of the process. `tracer` is got once: getting one takes a lock of the SDK that a signal handler
    which traces could find held."""

    __slots__ = ("_is_expected", "_nobody_looks", "_seen_by", "_waiting", "config", "hasher", "redact", "self_ns",
                 "siblings", "tracer")  # fmt: skip

    def __init__(self) -> None:
        self.siblings = Siblings()
        self.self_ns = 0
        """spent on making spans, without what the SDK and its processors take; no lock is worth its exactness"""
        self._seen_by: tuple[Any, Any] = (None, None)
        self._nobody_looks = False
        self._is_expected = False
        self._waiting: list[Callable[[], object]] = []
        self.tracer = trace.get_tracer(SCOPE, VERSION)
        self.configure(_config.load())

    def configure(self, config: _config.Config) -> None:
        """Take over settings; a redaction pattern that does not compile is reported by `_config`."""
        self.config = config
        self.hasher = Hasher(config.hash_key)
        self.redact = re.compile(config.redact) if config.redact else None

    def expect(self) -> None:
        """There will be spans of ours: something is to be traced, or a library that makes them was imported."""
        self._is_expected = True
        while self._waiting:
            action = self._waiting.pop()
            with _guard.guard("tracing.expected"):
                action()

    def when_expected(self, action: Callable[[], object]) -> None:
        """Run `action` before there are spans of ours: now, if they are expected already."""
        self._waiting.append(action)
        if self._is_expected:
            self.expect()

    def use(self, provider: trace.TracerProvider | None) -> None:
        """Trace with `provider` instead of the global one."""
        self.tracer = trace.get_tracer(SCOPE, VERSION, provider)

    def may_wait(self) -> bool:
        """Can a span's attributes wait until it has started? Given to the SDK at the start they cost as much as
        making the span; but a sampler or a processor may want to see them there."""
        tracer: Any = self.tracer
        try:
            tracer = tracer if hasattr(tracer, "sampler") else tracer._tracer
            sampler, processors = self._seen_by
            now = tracer.span_processor._span_processors
            if tracer.sampler is not sampler or now is not processors:
                self._nobody_looks = _is_blind(tracer.sampler) and all(map(_ignores_starts, now))
                self._seen_by = (tracer.sampler, now)
        except (AttributeError, TypeError):  # an SDK that looks different
            return False
        return self._nobody_looks


def _is_blind(sampler: Any) -> bool:
    """The SDK's own samplers do not look at attributes, ours only at a run's; one that combines others may."""
    if getattr(sampler, "only_names", False):
        return True
    if type(sampler).__module__ != "opentelemetry.sdk.trace.sampling":
        return False
    return all(_is_blind(inner) for inner in vars(sampler).values() if hasattr(inner, "should_sample"))


def _ignores_starts(processor: Any) -> bool:
    on_start = type(processor).on_start
    return getattr(on_start, "only_names", False) or on_start.__module__.startswith("opentelemetry.sdk.trace")


def set_clean(span: Any, values: Mapping[str, Any]) -> None:
    """`span.set_attributes` for values that `sanitize` has made. The SDK would check each of them again, which
    costs more than all the rest of ending a span; where its inside looks different, its own way is taken."""
    bounded = getattr(span, "_attributes", None)
    if type(bounded) is BoundedAttributes and bounded.max_value_len is None and not bounded._immutable:
        most = bounded.maxlen
        if most is None or len(bounded._dict) + len(values) <= most:
            bounded._dict.update(values)
            return
    span.set_attributes(values)


state = State()
