"""A text that comes in pieces is the same text."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf.readers import ReadError
from otel_agentperf.readers._documents import documents, pieces
from otel_agentperf.readers._problems import Problems

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.lists(
    st.dictionaries(st.text(max_size=3), VALUES, max_size=4) | st.lists(VALUES, max_size=4), max_size=6
)
BROKEN = st.sampled_from(['{"a": ', '{"a": [1, 2', "hello", '{"text', "[[[", '{"a": 1}}', "\ufeff", "null"])


def told(text_pieces: list[str]) -> tuple[list[Any], str]:
    problems = Problems()
    return list(documents(text_pieces, problems)), str(problems)


@given(DOCUMENTS, st.sampled_from([None, 1]), st.booleans())
def test_documents_come_back_whatever_the_pieces(values: list[Any], indent: int | None, by_line: bool) -> None:
    text = "".join(json.dumps(value, indent=indent) + "\n" for value in values)
    found, said = told(text.splitlines(keepends=True) if by_line else [text])
    assert [document for _, document in found] == values
    assert said == ""


@given(st.lists(BROKEN | DOCUMENTS.map(lambda values: json.dumps(values, indent=1)), max_size=6))
def test_line_by_line_gives_what_the_whole_text_gives(parts: list[str]) -> None:
    text = "".join(part + "\n" for part in parts)
    assert told(text.splitlines(keepends=True)) == told([text])


def test_a_long_document_in_many_pieces_is_not_parsed_for_each() -> None:
    text = json.dumps({"spans": [{"n": n} for n in range(20_000)]}, indent=1)
    lines = text.splitlines(keepends=True)
    assert len(lines) > 60_000
    found, said = told(lines)
    assert (len(found), said) == (1, "")


def test_one_document_is_held_at_a_time() -> None:
    line = json.dumps({"text": "x" * 100_000}) + "\n"

    def many() -> Iterator[str]:
        for _ in range(300):
            yield line

    tracemalloc.start()
    count = sum(1 for _ in documents(many(), Problems()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 300
    assert peak < 3_000_000


def test_garbage_without_end_is_named_in_few_words() -> None:
    problems = Problems()
    assert list(documents(["{broken\n"] * 20_000, problems)) == []
    assert str(problems).endswith("and 19997 more")
    assert len(list(problems)) == 3


def test_pieces_end_with_a_line_and_are_the_text() -> None:
    text = "".join(f"{{{'ä' * (n % 700)}\r\n" for n in range(9_000)) + "the end"
    found = list(pieces(io.BytesIO(text.encode())))
    assert "".join(found) == text
    assert len(found) > 2
    assert all(piece.endswith("\n") for piece in found[:-1])


def test_a_character_on_the_edge_of_what_is_looked_at_is_no_fault() -> None:
    text = "x" * 4_095 + "日\n"
    assert "".join(pieces(io.BytesIO(text.encode()))) == text


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ReadError, match="not text \\(byte 2 is no utf-8\\)"):
        list(pieces(io.BytesIO(b"ab\xff")))


@pytest.mark.parametrize(("text", "reason"), [("[" * 100_000, "nested too deeply"), ("9" * 5_000, "too many digits")])
def test_json_that_python_does_not_take_is_named_with_the_reason(text: str, reason: str) -> None:
    found, said = told([text + "\n", "{}\n"])
    assert [document for _, document in found] == [{}]
    assert said.startswith("line 1: not JSON, or cut off (")
    assert reason in said
