"""Wiring only: the instrumentor that `opentelemetry-instrument` finds, and `instrument()` for use in code."""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import Callable, Collection
from functools import partial
from types import ModuleType
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from . import _config, _guard, _versions
from ._discover import discover
from .capture import threads, user_code
from .capture.patching import Patches, forget_waiting, when_imported
from .capture.tracing import state
from .processor import AgentPerfSpanProcessor, processor_of

_logger = logging.getLogger("otel_agentperf")


class AgentPerfInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Patches the installed libraries when they are imported, and adds the processor to the tracer provider."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: what is not installed is not touched."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        config = kwargs.get("config") or _config.load()
        if not config.enabled:
            return
        state.configure(config)
        provider = kwargs.get("tracer_provider")
        if provider is not None:
            state.use(provider)
        with _guard.guard("instrument.processor"):
            _add_processor(provider, config, kwargs.get("meter_provider"))
        _patch_all(config)

    def _uninstrument(self, **kwargs: Any) -> None:
        forget_waiting()
        for patches, module in _patched.values():
            patches.restore()
            unpatch: Callable[[], None] = getattr(module, "unpatch", lambda: None)
            with _guard.guard("uninstrument"):
                unpatch()
        _patched.clear()
        _provider_patches.restore()


def instrument(**kwargs: Any) -> None:
    """Trace the libraries that the program uses, and analyse its runs.

    Keyword arguments, all optional: `tracer_provider` and `meter_provider` (the global ones unless given; a global
    tracer provider may also be set later), `config` (an `otel_agentperf._config.Config`, from the environment
    unless given). Calling it again only takes over a `tracer_provider`; `uninstrument()` undoes it. Raises nothing.
    """
    with _guard.guard("instrument"):
        instrumentor, provider = AgentPerfInstrumentor(), kwargs.get("tracer_provider")
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(skip_dep_check=True, **kwargs)
        elif provider is not None:  # the program's own, where a command had come first
            state.use(provider)
            _add_processor(provider, state.config, kwargs.get("meter_provider"))


def uninstrument() -> None:
    """Restore the originals of everything that was patched. The processor stays with its provider."""
    with _guard.guard("uninstrument"):
        AgentPerfInstrumentor().uninstrument()


def _check_provider() -> None:
    """At the end: tell who called `instrument()` and expected something to come of it."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if _patched and not disabled and not _processors:
        _logger.warning(
            "otel-agentperf: nothing was recorded, because no tracer provider was set: set one, or start the program "
            "with agentperf run or opentelemetry-instrument"
        )


_processors: weakref.WeakSet[AgentPerfSpanProcessor] = weakref.WeakSet()
"""those that were added to a provider"""
_patched: dict[str, tuple[Patches, ModuleType]] = {}
_provider_patches = Patches()
_checked: set[str] = set()
"""integrations whose library's version was looked at: what is to be said of it is said once"""


def _patch_all(config: _config.Config) -> None:
    left_out = _config.parse_names(config.disabled_integrations)
    members = {"threads": threads, "user_code": user_code, **discover("integrations")}
    for name in left_out - members.keys():
        _logger.warning(
            "otel-agentperf: there is no integration %s to disable (there are: %s)", name, ", ".join(members)
        )
    for name, module in members.items():
        if name not in left_out:
            when_imported(getattr(module, "MODULES", ()), partial(_patch, name, module))


def _patch(name: str, module: ModuleType) -> None:
    """A library that changed its shape disables its own integration, never the program and never the others."""
    patches = Patches()
    _patched[name] = (patches, module)
    with _guard.guard("instrument.versions"):
        _check_version(name, module)
    try:
        module.patch(patches)
    except Exception as fault:  # noqa: BLE001 - see above
        patches.restore()
        _guard.swallowed(f"integration {name}", fault)


def _check_version(name: str, module: ModuleType) -> None:
    version = None if name in _checked else _versions.untested(module)
    _checked.add(name)
    if version is not None:
        _logger.warning(
            "otel-agentperf: %s %s is not in the range that we were tested with (%s); it is traced all the same",
            module.DISTRIBUTION, version, module.VERSIONS,
        )  # fmt: skip


def _add_processor(provider: Any, config: _config.Config, meter_provider: Any) -> None:
    """Once per provider. Where none is set yet, as soon as the program sets one."""
    provider = provider or trace.get_tracer_provider()
    if hasattr(provider, "add_span_processor"):
        _attach(provider, config, meter_provider)
        return
    _provider_patches.active = True
    atexit.register(_check_provider)

    def set_provider(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        with _guard.guard("instrument.processor"):
            now = trace.get_tracer_provider()
            if hasattr(now, "add_span_processor"):
                _attach(now, config, meter_provider)
        return result

    # The function behind the public one, which many import by its name before we come.
    inner = "_set_tracer_provider"
    _provider_patches.wrap(
        "opentelemetry.trace", inner if hasattr(trace, inner) else "set_tracer_provider", set_provider
    )


def _attach(provider: Any, config: _config.Config, meter_provider: Any) -> None:
    processor = processor_of(provider)
    if processor is None:
        processor = AgentPerfSpanProcessor(config, meter_provider, provider)
        provider.add_span_processor(processor)
    _processors.add(processor)
