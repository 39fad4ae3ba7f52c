"""The one place that swallows exceptions, so that nothing of ours reaches the user's program.

Only `Exception` is swallowed; `KeyboardInterrupt`, `SystemExit`, `CancelledError` and `GeneratorExit`
always pass. Every swallowed error is counted by the place it happened in, and logged once per place and type.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from traceback import walk_tb
from typing import ParamSpec, TypeVar, cast

from ._fork import ForkLock

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")

_logger = logging.getLogger("otel_agentperf")
_PLACES_REMEMBERED = 1_000
_FRAMES_TOLD = 20

counts: dict[tuple[str, str], int] = {}
"""Swallowed errors by (place, exception type); read by `metrics` for `agentperf.self.errors`."""

_counting = ForkLock()
_logging = ForkLock()
"""a child that is forked while a thread writes a line would find the log file's own lock held for ever"""

reraise = False
"""Tests set this, so that a swallowed error fails the test that caused it."""


def swallowed(place: str, error: Exception) -> None:
    """Count `error` under `place` and log it the first time. Never raises, but for what a signal handler of the
    program's raised while our code ran (a time limit, say): that is meant for the program."""
    if reraise or is_from_signal_handler(error):
        raise error
    key = (place, type(error).__name__)
    with _counting.held():
        first = key not in counts
        if first and len(counts) >= _PLACES_REMEMBERED:
            return
        counts[key] = counts.get(key, 0) + 1
    if first and not sys.is_finalizing():  # then nothing imports any more: faults are no news
        with _logging.held(), suppress(Exception):  # a handler or filter of the program's own
            # Messages, also those of the exceptions before it, and lines of source may hold user content.
            _logger.warning("otel-agentperf: %s in %s (logged once; the program is not affected)", key[1], place)
            _logger.debug("otel-agentperf: it came by way of %s", _way(error))


def _way(error: Exception) -> str:
    frames = [f"{frame.f_code.co_filename}:{line}" for frame, line in walk_tb(error.__traceback__)]
    return ", ".join(frames[-_FRAMES_TOLD:])


def is_from_signal_handler(error: Exception) -> bool:
    """Did a signal handler of the program's raise it, while our code or what that called ran?"""
    trace, codes = error.__traceback__, set()
    while trace is not None:
        codes.add(trace.tb_frame.f_code)
        trace = trace.tb_next
    with suppress(Exception):  # a handler may be any object
        return not codes.isdisjoint(_codes_of_handlers())
    return False


def _codes_of_handlers() -> Iterator[object]:
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        for function in (handler, getattr(handler, "func", None), getattr(type(handler), "__call__", None)):  # noqa: B004
            yield getattr(function, "__code__", None)


def guarded(place: str, default: D) -> Callable[[Callable[P, R]], Callable[P, R | D]]:
    """Decorate a function of ours that runs inside the user's program: on an `Exception`, `default` is returned."""

    def decorate(function: Callable[P, R]) -> Callable[P, R | D]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R | D:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - this is the guard
                swallowed(place, error)
                return default

        return call

    return decorate


class guard:  # noqa: N801 - reads as a statement: `with guard("place"):`
    """The same for a block: `with guard("cache.drain"): ...`."""

    __slots__ = ("_place",)

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if kind is not None and issubclass(kind, Exception):  # not `isinstance`: its `__class__` may lie, or fail
            swallowed(self._place, cast("Exception", error))
            return True
        return False
