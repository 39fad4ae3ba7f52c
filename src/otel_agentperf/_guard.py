"""The one place that swallows exceptions, so that nothing of ours reaches the user's program.

Only `Exception` is swallowed; `KeyboardInterrupt`, `SystemExit`, `CancelledError` and `GeneratorExit`
always pass. Every swallowed error is counted by the place it happened in, and logged once per place and type.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")

_logger = logging.getLogger("otel_agentperf")
_PLACES_REMEMBERED = 1_000

counts: dict[tuple[str, str], int] = {}
"""Swallowed errors by (place, exception type); read by `metrics` for `agentperf.self.errors`."""

reraise = False
"""Tests set this, so that a swallowed error fails the test that caused it."""


def swallowed(place: str, error: Exception) -> None:
    """Count `error` under `place` and log it the first time; never raises (but see `reraise`)."""
    if reraise:
        raise error
    key = (place, type(error).__name__)
    first = key not in counts
    if first and len(counts) >= _PLACES_REMEMBERED:
        return
    counts[key] = counts.get(key, 0) + 1
    if first:
        with suppress(Exception):  # a handler or filter of the program's own
            # The message may hold user content, so only its type and place are logged.
            _logger.warning("otel-agentperf: %s in %s (logged once; the program is not affected)", key[1], place)
            _logger.debug("otel-agentperf: details", exc_info=error)


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
        if isinstance(error, Exception):
            swallowed(self._place, error)
            return True
        return False
