"""What every reader has to keep, whoever wrote it: found by being in the folder."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import pytest

from otel_agentperf._discover import discover
from otel_agentperf.readers import Query, ReadError

READERS = discover("readers")
SOURCES = ["-", "traces.jsonl", "/no/such/file", "C:\\traces.json", "http://127.0.0.1:1", "https://127.0.0.1:1/x", ""]


@pytest.fixture(params=READERS.values(), ids=READERS.keys())
def reader(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def test_it_has_the_two_functions_and_says_what_it_is(reader: ModuleType) -> None:
    assert list(inspect.signature(reader.accepts).parameters) == ["source"]
    assert list(inspect.signature(reader.read).parameters) == ["source", "query"]
    assert reader.__doc__


def test_accepting_is_a_plain_answer_without_a_look_at_the_source(reader: ModuleType) -> None:
    assert all(reader.accepts(source) in (True, False) for source in SOURCES)


def test_nothing_is_read_before_the_first_span_is_asked_for(reader: ModuleType) -> None:
    reader.read("/no/such/file", Query())


def test_what_cannot_be_read_is_one_clear_line(reader: ModuleType, tmp_path: Path) -> None:
    for source in (str(tmp_path / "none.jsonl"), "http://127.0.0.1:1"):
        if reader.accepts(source):
            with pytest.raises(ReadError) as caught:
                list(reader.read(source, Query()))
            assert 0 < len(str(caught.value)) < 500
            assert "\n" not in str(caught.value)


def test_each_kind_of_source_has_exactly_one_reader() -> None:
    for source in SOURCES:
        assert [name for name, module in READERS.items() if module.accepts(source)] in (["files"], ["jaeger"])
