from __future__ import annotations

import math

import pytest

from otel_agentperf.analysis.measurements import first, measure, nanoseconds, number, resource_usage, strings, text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        (5.9, 5),
        ("5", 5),
        (0, 0),
        (-1, None),
        ("5.5", None),
        (None, None),
        (True, None),
        (math.nan, None),
        ([], None),
    ],
)
def test_number(value, expected):
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, 5.0), (0.5, 0.5), (0, 0.0), (-0.1, None), ("5", None), (True, None), (math.nan, None), (math.inf, None)],
)
def test_measure(value, expected):
    assert measure(value) == expected


def test_nanoseconds():
    assert nanoseconds(0.5) == 500_000_000
    assert nanoseconds("x") is None


def test_first_takes_zero_and_skips_nothing_told():
    assert first({"a": None, "b": 0, "c": 5}, ("x", "a", "b", "c")) == 0
    assert first({}, ("a",)) is None


def test_text_and_strings():
    assert (text(None), text(7), text("x")) == (None, "7", "x")
    assert (strings(None), strings(()), strings(["a", 1]), strings("abc")) == (None, (), ("a", "1"), None)


def test_resource_usage_may_be_half_known():
    usage = resource_usage({"agentperf.process.memory": 5})
    assert usage is not None
    assert (usage.memory_mb, usage.cpu_percent) == (5.0, None)
