"""Objects of frozen dataclasses, made quickly, are like those that the class makes."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from otel_agentperf.model import SpanRecord
from otel_agentperf.model._quick import quick

NEEDED = {
    "trace_id": "1", "span_id": "2", "parent_id": None, "name": "x", "kind": "tool", "operation": "x",
    "start_ns": 1, "end_ns": 2,
}  # fmt: skip


def test_they_are_the_same() -> None:
    made, plain = quick(SpanRecord)(**NEEDED, error="e"), SpanRecord(**NEEDED, error="e")  # type: ignore[arg-type]
    assert type(made) is SpanRecord
    assert made == plain
    assert (hash(made), repr(made)) == (hash(plain), repr(plain))
    assert [getattr(made, field.name) for field in fields(made)] == [getattr(plain, f.name) for f in fields(plain)]
    assert replace(made, name="y").name == "y"
    assert copy.copy(made) == pickle.loads(pickle.dumps(made)) == plain


def test_they_cannot_be_changed() -> None:
    made = quick(SpanRecord)(**NEEDED)
    with pytest.raises(FrozenInstanceError):
        made.name = "y"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        made.other = 1  # type: ignore[attr-defined]


def test_a_field_that_is_missing_or_unknown() -> None:
    with pytest.raises(TypeError, match="trace_id"):
        quick(SpanRecord)()
    with pytest.raises(TypeError, match="other"):
        quick(SpanRecord)(**NEEDED, other=1)
