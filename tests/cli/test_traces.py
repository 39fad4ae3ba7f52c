"""Spans by trace, whatever fits in memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from _traces import agent, llm, records, tool
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.cli._traces import Traces, runs_by_start
from otel_agentperf.model import AgentRun, SpanRecord


def mixed(traces: int) -> list[SpanRecord]:
    """Traces that overlap in time, their spans in no order."""
    spans = []
    for number in range(traces):
        tree = agent("planner", llm(0.5), *[tool("search", 0.1, args={"n": n}) for n in range(4)])
        other = agent("writer", llm(0.2), at=1.5)
        spans += records(tree, other, trace_id=f"{number + 1:032x}", start_s=0.7 * (number * 7 % traces))
    random.Random(3).shuffle(spans)
    return spans


def runs_of(spans: list[SpanRecord], most_held: int) -> list[AgentRun]:
    with Traces(most_held) as traces:
        for span in spans:
            traces.add(span)
        return [run for _, run in runs_by_start(traces, {}) if run is not None]


@pytest.mark.parametrize("most_held", [1_000_000_000, 100_000, 0], ids=["memory", "both", "disk"])
def test_the_runs_are_those_of_all_spans_at_once_in_the_same_order(most_held: int) -> None:
    spans = mixed(40)
    assert len(spans) == 320
    assert runs_of(spans, most_held) == find_runs(spans)


def test_little_is_held_and_the_rest_waits_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Traces(most_held=20_000) as traces:
        for span in mixed(40):
            traces.add(span)
            assert sum(map(len, traces._held.values())) <= 21
        assert (len(traces), traces.spans) == (40, 320)
        assert list(tmp_path.iterdir()) == [], "a file without a name: nothing stays behind when the process is killed"


def test_long_texts_count() -> None:
    with Traces(most_held=100_000) as traces:
        for span in records(agent("a", *[tool("t", 0.1, args="x" * 5_000) for _ in range(40)])):
            traces.add(span)
            assert sum(map(len, traces._held.values())) <= 17


def test_progress_counts_traces_to_the_end() -> None:
    with Traces() as traces:
        for span in mixed(10):
            traces.add(span)
        told = [done for done, _ in runs_by_start(traces, {})]
    assert told == sorted(told)
    assert (told[-1], len(traces)) == (10, 10)
