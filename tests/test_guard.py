from __future__ import annotations

import asyncio
import logging
import signal
from functools import partial

import pytest

from otel_agentperf import _guard

pytestmark = pytest.mark.usefixtures("swallow")


def broken(error):
    @_guard.guarded("place", default="instead")
    def function(x: int) -> str:
        """Says something."""
        raise error

    return function


def test_an_error_is_swallowed_and_the_default_returned():
    assert broken(ValueError("secret"))(1) == "instead"
    assert _guard.counts == {("place", "ValueError"): 1}


def test_a_result_is_returned():
    assert _guard.guarded("place", default=None)(lambda x: x + 1)(1) == 2
    assert _guard.counts == {}


def test_the_function_keeps_its_looks():
    assert broken(ValueError()).__name__ == "function"
    assert broken(ValueError()).__doc__ == "Says something."


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_what_is_no_exception_passes(error):
    with pytest.raises(error):
        broken(error())(1)
    with pytest.raises(error), _guard.guard("place"):
        raise error
    assert _guard.counts == {}


def test_a_block():
    with _guard.guard("block"):
        raise TypeError
    assert _guard.counts == {("block", "TypeError"): 1}
    with _guard.guard("block"):
        pass
    assert _guard.counts == {("block", "TypeError"): 1}


def test_logged_once_for_each_place_and_type_without_the_message(caplog):
    caplog.set_level(logging.WARNING, logger="otel_agentperf")
    for _ in range(3):
        broken(ValueError("secret"))(1)
    broken(TypeError("secret"))(1)
    assert len(caplog.messages) == 2
    assert "secret" not in caplog.text
    assert "ValueError in place" in caplog.messages[0]
    assert _guard.counts["place", "ValueError"] == 3


def test_at_debug_level_it_is_told_where_and_nothing_of_the_message_the_source_or_what_was_raised_before(caplog):
    caplog.set_level(logging.DEBUG, logger="otel_agentperf")
    try:
        raise KeyError("secret of the program")
    except KeyError:
        broken(ValueError("secret of ours"))(1)
    handler = logging.Formatter()
    told = "\n".join(handler.format(record) for record in caplog.records)
    assert f"{__file__}:" in told
    assert "secret" not in told
    assert "raise" not in told


def test_a_filter_of_the_programs_own_that_raises():
    def refuse(record: logging.LogRecord) -> bool:
        raise LookupError

    logger = logging.getLogger("otel_agentperf")
    logger.addFilter(refuse)
    try:
        assert broken(ValueError())(1) == "instead"
    finally:
        logger.removeFilter(refuse)
    assert _guard.counts["place", "ValueError"] == 1


class TimeLimit(Exception):
    """What a signal handler raises to end a call that takes too long, as Celery's soft time limit does."""


def handler(*_):
    raise TimeLimit


class Handler:
    def __call__(self, *_):
        raise TimeLimit


class Holder:
    handle = staticmethod(handler)

    def method(self, *_):
        raise TimeLimit


@pytest.mark.parametrize("raising", [handler, partial(handler), Handler(), Holder().method], ids=type)
def test_what_a_signal_handler_raises_is_for_the_program(raising):
    before = signal.signal(signal.SIGUSR1, raising)
    try:
        with pytest.raises(TimeLimit), _guard.guard("block"):
            signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(TimeLimit):
            _guard.guarded("place", None)(signal.raise_signal)(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert _guard.counts == {}
    with _guard.guard("block"):
        handler()  # no longer one
    assert _guard.counts == {("block", "TimeLimit"): 1}


def test_an_error_that_lies_about_its_class():
    class Lying(BaseException):
        @property
        def __class__(self):
            raise LookupError

    error, caught = Lying(), None
    try:
        with _guard.guard("block"):
            raise error
    except BaseException as raised:
        caught = raised
    assert caught is error


def test_the_places_are_bounded():
    for number in range(2_000):
        _guard.swallowed(f"place {number}", ValueError())
    assert len(_guard.counts) == 1_000


def test_tests_see_every_error(monkeypatch):
    monkeypatch.setattr(_guard, "reraise", True)
    with pytest.raises(ValueError):
        broken(ValueError())(1)
    with pytest.raises(TypeError), _guard.guard("block"):
        raise TypeError
