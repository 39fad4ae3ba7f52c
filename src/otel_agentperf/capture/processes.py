"""Processes that end without `atexit`, where OpenTelemetry sends what waits for the next batch: the workers of
`multiprocessing` and of Celery's `billiard`, which leave by `os._exit`, and uvicorn's, which raise SIGTERM again.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

from opentelemetry import metrics

from .. import _guard
from .._fork import call_in_child
from .patching import Patches, when_imported

MODULES = ()
_POOL = "billiard.pool"
_SERVER = "uvicorn.server"
_UTIL = "multiprocessing.util"
_LONGEST_S = 2.0
"""that a process waits for its last spans and metrics to be sent"""


class _Ending:
    """What is to be shut down, if this process has traced anything since it was forked: otherwise nothing waits, and
    a Collector that is away holds up nobody."""

    def __init__(self, meter_provider: Any, inside_ns: Callable[[], int]) -> None:
        self._meter_provider = meter_provider
        self._inside_ns = inside_ns
        self._forked()
        call_in_child(self._forked)

    def _forked(self) -> None:
        self._before_ns = self._inside_ns()

    def providers(self, provider: Any) -> tuple[Any, ...]:
        """Of traces and of metrics."""
        if self._inside_ns() == self._before_ns:
            return ()
        return provider, self._meter_provider or metrics.get_meter_provider()


_endings: dict[int, tuple[weakref.ref[Any], _Ending]] = {}
"""by the identity of the provider of traces, as some (Logfire's) have no hash"""


@_guard.guarded("processes.ends", None)
def ends_with_process(provider: Any, meter_provider: Any, inside_ns: Callable[[], int]) -> None:
    """Shut down the providers (of metrics the global one, if None) when a worker process ends that has worked:
    `inside_ns` tells the time that the plugin has taken so far."""
    key = id(provider)
    reference = weakref.ref(provider, lambda _: _endings.pop(key, None))
    _endings[key] = reference, _Ending(meter_provider, inside_ns)


def patch(patches: Patches) -> None:
    """Where they end, after all that the program does there."""
    when_imported((_UTIL,), partial(patches.change, _UTIL, "_exit_function", partial(_then_shut_down, patches)))
    when_imported((_POOL,), partial(patches.change, _POOL, "Worker._do_exit", partial(_shut_down_in, patches)))
    signals = "Server.capture_signals"
    when_imported((_SERVER,), partial(patches.change, _SERVER, signals, partial(_flush_before_signals, patches)))


def _then_shut_down(patches: Patches, leave: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(leave)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return leave(*args, **kwargs)
        finally:
            if patches.active and _leaves_at_once():
                _shut_down()

    return call


@_guard.guarded("processes.method", False)
def _leaves_at_once() -> bool:
    """Is this a worker whose `atexit` is not called? A spawned one ends as every program does."""
    multiprocessing = sys.modules["multiprocessing"]
    if multiprocessing.parent_process() is None:
        return False
    method = multiprocessing.current_process()._start_method or multiprocessing.get_start_method(allow_none=True)
    return bool(method != "spawn")


def _shut_down_in(patches: Patches, leave: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(leave)
    def call(worker: Any, *args: Any, **kwargs: Any) -> Any:
        if patches.active:
            with _guard.guard("processes.worker"):
                worker.on_exit = partial(_after, worker.on_exit)
        return leave(worker, *args, **kwargs)

    return call


def _after(on_exit: Callable[..., Any] | None, *args: Any, **kwargs: Any) -> None:
    try:
        if on_exit is not None:
            on_exit(*args, **kwargs)
    finally:
        _shut_down()


def _flush_before_signals(patches: Patches, capture: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(capture)
    @contextmanager
    def call(server: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with capture(server, *args, **kwargs) as captured:
            try:
                yield captured
            finally:
                if patches.active and getattr(server, "_captured_signals", None):
                    _for_all("force_flush")

    return call


def _shut_down() -> None:
    _for_all("shutdown")


def _for_all(method: str) -> None:
    """Call it on all providers at the same time. Where nobody listens, OpenTelemetry would try for 14 s."""
    with _guard.guard("processes.end"):
        end_s = time.monotonic() + _LONGEST_S
        alive = [(reference(), ending) for reference, ending in list(_endings.values())]
        found = [one for provider, ending in alive if provider is not None for one in ending.providers(provider)]
        providers = {id(one): one for one in found}.values()
        threads = [threading.Thread(target=_call, args=(one, method), daemon=True) for one in providers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end_s - time.monotonic()))


@_guard.guarded("processes.call", None)
def _call(provider: Any, method: str) -> None:
    if hasattr(provider, method) and not getattr(provider, "_shutdown", False):
        getattr(provider, method)()
