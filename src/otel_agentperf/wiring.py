"""What `instrument()` does, whoever calls it: the processor on the provider, the patches on the libraries.

It loads little: an integration when its library is imported, `wrapt` when the first thing is wrapped, the analysis
when there is something to analyse.
"""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from types import ModuleType
from typing import Any, NamedTuple

from opentelemetry import trace

from . import _config, _discover, _guard, _versions
from .capture import processes, threads
from .capture.patching import Patches, forget_waiting, when_imported
from .capture.tracing import state
from .processor import AgentPerfSpanProcessor, processor_of

_logger = logging.getLogger("otel_agentperf")


def instrument(**kwargs: Any) -> None:
    """Trace the libraries that the program uses, and analyse its runs.

    Keyword arguments, all optional: `tracer_provider` and `meter_provider` (the global ones unless given; a global
    tracer provider may also be set later), `config` (an `otel_agentperf._config.Config`, from the environment
    unless given). Calling it again only takes over a `tracer_provider`; `uninstrument()` undoes it. Raises nothing.
    """
    with _guard.guard("instrument"):
        provider, meter_provider = kwargs.get("tracer_provider"), kwargs.get("meter_provider")
        if is_on():
            if provider is not None:  # the program's own, where a command had come first
                state.use(provider)
                _add_processor(provider, state.config, meter_provider)
            return
        config = kwargs.get("config") or _config.load()
        _on.append(config)
        if not config.enabled:
            return
        state.configure(config)
        if provider is not None:
            state.use(provider)
        with _guard.guard("instrument.processor"):
            _add_processor(provider, config, meter_provider)
        _patch_all(config)


def uninstrument() -> None:
    """Restore the originals of everything that was patched. The processor stays with its provider."""
    with _guard.guard("uninstrument"):
        _on.clear()
        forget_waiting()
        for patches, module in _patched.values():
            patches.restore()
            unpatch: Callable[[], None] = getattr(module, "unpatch", lambda: None)
            with _guard.guard("uninstrument"):
                unpatch()
        _patched.clear()
        _provider_patches.restore()


def is_on() -> bool:
    """Was `instrument()` called, and not undone?"""
    return bool(_on)


def _check_provider() -> None:
    """At the end: tell who called `instrument()` and expected something to come of it."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if _patched and not disabled and not _processors:
        _logger.warning(
            "otel-agentperf: nothing was recorded, because no tracer provider was set: set one, or start the program "
            "with agentperf run or opentelemetry-instrument"
        )


_on: list[_config.Config] = []
"""the settings of `instrument()`, while it is not undone"""
_processors: weakref.WeakSet[AgentPerfSpanProcessor] = weakref.WeakSet()
"""those that were added to a provider"""
_patched: dict[str, tuple[Patches, ModuleType]] = {}
_provider_patches = Patches()
_checked: set[str] = set()
"""integrations whose library's version was looked at: what is to be said of it is said once"""


class _Member(NamedTuple):
    modules: Sequence[str]
    """that it waits for"""
    load: Callable[[], ModuleType | None]


def _patch_all(config: _config.Config) -> None:
    left_out = _config.parse_names(config.disabled_integrations)
    members = dict(_members(config))
    for name in left_out - members.keys():
        _logger.warning(
            "otel-agentperf: there is no integration %s to disable (there are: %s)", name, ", ".join(members)
        )
    for name, member in members.items():
        if name not in left_out:
            when_imported(member.modules, partial(_patch, name, member.load))


def _members(config: _config.Config) -> Iterator[tuple[str, _Member]]:
    yield "threads", _Member(threads.MODULES, partial(_itself, threads))
    yield "processes", _Member(processes.MODULES, partial(_itself, processes))
    yield "user_code", _Member((), partial(_user_code, config))
    for name in _discover.members("integrations"):
        load = partial(_discover.load, "integrations", name)
        modules = _discover.constant("integrations", name, "MODULES")
        yield name, _Member(getattr(load(), "MODULES", ()) if modules is None else modules, load)
    for name, module in _discover.third_parties("integrations").items():
        yield name, _Member(getattr(module, "MODULES", ()), partial(_itself, module))


def _user_code(config: _config.Config) -> ModuleType | None:
    if not config.wrap:
        return None
    from .capture import user_code  # with `wrapt`

    return user_code


def _itself(module: ModuleType) -> ModuleType:
    return module


def _patch(name: str, load: Callable[[], ModuleType | None]) -> None:
    """A library that changed its shape disables its own integration, never the program and never the others."""
    module = load()
    if module is None:
        return
    if getattr(module, "DISTRIBUTION", ""):
        state.expect()
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

    def following(set_provider: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(set_provider)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = set_provider(*args, **kwargs)
            with _guard.guard("instrument.processor"):
                now = trace.get_tracer_provider()
                if _provider_patches.active and hasattr(now, "add_span_processor"):
                    _attach(now, config, meter_provider)
            return result

        return call

    # The function behind the public one, which many import by its name before we come.
    inner = "_set_tracer_provider"
    _provider_patches.change("opentelemetry.trace", inner if hasattr(trace, inner) else inner[1:], following)


def _attach(provider: Any, config: _config.Config, meter_provider: Any) -> None:
    processor = processor_of(provider)
    if processor is None:
        processor = AgentPerfSpanProcessor(config, meter_provider, provider, load=False)
        state.when_expected(processor.load)
        provider.add_span_processor(processor)
        processes.ends_with_process(provider, meter_provider, partial(_inside_ns, weakref.ref(processor)))
        if config.sampling:
            from .sampling import hold

            with _guard.guard("instrument.sampling"):
                hold(provider)
    _processors.add(processor)


def _inside_ns(reference: weakref.ref[AgentPerfSpanProcessor]) -> int:
    """The time that the processor and its like have taken."""
    processor = reference()
    return 0 if processor is None else processor._own.self_ns
