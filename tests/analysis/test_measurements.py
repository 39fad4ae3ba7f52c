from __future__ import annotations

import json
import math

import pytest

from otel_agentperf.analysis.measurements import (
    first,
    measure,
    nanoseconds,
    number,
    resource_usage,
    stalls,
    strings,
    text,
)
from otel_agentperf.model import FullCpu, Stall


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


def test_resource_usage_in_full():
    full = {"start_ns": 1, "duration_ns": 2, "own": 0.9, "machine": 0.95}
    usage = resource_usage({"agentperf.process.cores": 2, "agentperf.full_cpu": json.dumps([full])})
    assert usage is not None
    assert (usage.cores, usage.full_cpu) == (2.0, (FullCpu(1, 2, 0.9, 0.95),))
    assert resource_usage({"agentperf.full_cpu": "[]"}) is None


@pytest.mark.parametrize(
    "told",
    [None, 5, "", "not json", "{}", "[1]", '[{"start_ns": 1}]', '[{"start_ns": 1e999, "duration_ns": 1, "frame": ""}]',
     '[{"start_ns": 1, "duration_ns": 1, "frame": "f", "waiting": 5}]',
     '[{"start_ns": 1, "duration_ns": 1, "frame": "f", "ready": [5]}]', "[" * 100_000],
)  # fmt: skip
def test_broken_stalls_are_none(told):
    assert stalls(told) == ()


def test_stalls_are_bounded():
    one = {"start_ns": 1, "duration_ns": -2, "frame": "f", "due_ns": [3, 1]}
    assert stalls(json.dumps([one])) == (Stall(1, 0, "f", due_ns=(1, 3)),)
    assert len(stalls(json.dumps([one] * 1_000))) == 64
