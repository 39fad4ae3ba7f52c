from __future__ import annotations

import asyncio
import logging

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
