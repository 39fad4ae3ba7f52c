"""OpenTelemetry for `agentperf run`: set up as `opentelemetry-instrument` does, exporting only where that was asked
for, and making way for a program that sets it up itself."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.util._once import Once

from .. import _guard
from ..capture.tracing import state
from ..processor import processor_of
from ..sampling import hold

_SIGNALS = ("TRACES", "METRICS", "LOGS")
_GLOBALS = (
    ("opentelemetry.trace", "_TRACER_PROVIDER_SET_ONCE"),
    ("opentelemetry.metrics._internal", "_METER_PROVIDER_SET_ONCE"),
    ("opentelemetry._logs._internal", "_LOGGER_PROVIDER_SET_ONCE"),
)


def set_up(settings: Mapping[str, str]) -> None:
    """Initialize OpenTelemetry and all instrumentations, with `settings` in the environment, which is afterwards what
    it was."""
    from opentelemetry.instrumentation.auto_instrumentation import initialize

    before = dict(os.environ)
    os.environ.update({**dict.fromkeys(_not_exported(), "none"), **settings})
    try:
        initialize()
    finally:
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if name.startswith("OTEL_")})
    with _guard.guard("run.make_way"):
        _make_way()


def _not_exported() -> Iterator[str]:
    """`OTEL_…_EXPORTER` of the signals for which neither an exporter nor an endpoint is given."""
    endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
    for signal in _SIGNALS:
        name = f"OTEL_{signal}_EXPORTER"
        if not any(map(os.environ.get, (name, endpoint, f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))):
            yield name


def _make_way() -> None:
    """Let the program set global providers, once, as if there were none yet.

    OpenTelemetry takes only the first, and warns about others. A program that sets its own would lose what it
    exports, so the "once" starts anew; spans of instrumentations that already hold our provider's tracers
    stay with that. Private to the API, as there is no other way; without the names a warning is all that happens.
    """
    ours = trace.get_tracer_provider()
    for module, name in _GLOBALS:
        holder = importlib.import_module(module)
        getattr(holder, name)
        setattr(holder, name, _Anew(lambda: _adopt(ours)) if holder is trace else Once())


class _Anew(Once):
    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self._then = then

    def do_once(self, func: Callable[[], None]) -> bool:
        done: bool = super().do_once(func)
        if done:
            with _guard.guard("run.adopt"):
                self._then()
        return done


def _adopt(ours: Any) -> None:
    """The program has set a tracer provider: our spans go there, and the one processor sees the spans of both."""
    provider = trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor"):
        state.use(ours)  # not OpenTelemetry's SDK: there is nothing to hear from it
        return
    state.use(provider)
    processor = processor_of(ours)
    if processor is not None and processor_of(provider) is None:
        provider.add_span_processor(processor)
        if state.config.sampling:
            hold(provider)


def shut_down() -> None:
    """What the providers' own exit functions would do, where those will not run any more."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        with _guard.guard("run.shut_down"):
            getattr(provider, "shutdown", lambda: None)()
