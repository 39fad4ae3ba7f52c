"""What every renderer has to keep, whoever wrote it: found by being in the folder."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import ModuleType

import pytest

from otel_agentperf._discover import discover
from otel_agentperf.model import Report
from renderers._reports import ALL, HOSTILE, Pipe, Terminal, hostile, trip

RENDERERS = discover("renderers")


@pytest.fixture(params=RENDERERS.values(), ids=RENDERERS.keys())
def renderer(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def test_it_says_what_it_is_for_in_a_few_words(renderer: ModuleType) -> None:
    assert 0 < len(renderer.SUMMARY) < 80
    assert not renderer.SUMMARY.endswith(".")


@pytest.mark.parametrize("report", ALL.values(), ids=ALL.keys())
def test_it_renders_whatever_a_run_may_be(renderer: ModuleType, report: Callable[[], Report]) -> None:
    output = io.StringIO()
    renderer.render([report()], output)
    assert output.getvalue().endswith("\n")


@pytest.mark.parametrize("runs", [0, 1, 2, 6, 40])
def test_it_takes_any_number_of_runs_from_any_iterable(renderer: ModuleType, runs: int) -> None:
    output = io.StringIO()
    renderer.render((trip() for _ in range(runs)), output)
    assert output.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_it_writes_to_a_stream_of_any_encoding(renderer: ModuleType, encoding: str) -> None:
    output = Pipe(encoding)
    renderer.render([trip(), hostile()], output)
    assert "planner" in output.text()


def test_no_control_character_of_a_name_gets_through(renderer: ModuleType) -> None:
    for stream in (io.StringIO(), Terminal()):
        renderer.render([hostile()], stream)
        assert "\x1b[31mred" not in stream.getvalue()
        assert not set("\x00\x07\u202e\ud800") & set(stream.getvalue())
        assert HOSTILE not in stream.getvalue()


def test_it_leaves_the_stream_open(renderer: ModuleType) -> None:
    output = io.StringIO()
    renderer.render([trip()], output)
    output.write("more")
