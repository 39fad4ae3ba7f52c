"""The findings of `agentperf report` on a labelled corpus, and what the corpus itself promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from corpus.build import Case, cases
from corpus.cases import scenarios
from corpus.critical_paths import KNOWN, KnownPath
from corpus.measure import Measured, measure
from corpus.otlp import EPOCH_NS, Json, document
from corpus.reports import report, write_documents
from corpus.scoring import Score

SEEDS = range(101, 104)
"""not those of docs/accuracy.md, so that the two measure different draws"""
LEAST_RECALL, LEAST_PRECISION, MOST_SAVING_ERROR = 0.95, 0.95, 0.1
"""of each kind"""
LEAST_RECALL_OF_ALL, LEAST_PRECISION_OF_ALL = 0.98, 0.98
KINDS = sorted({scenario.kind for scenario in scenarios()})


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(SEEDS)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_found_and_nothing_else_is_called_by_its_name(kind: str, measured: Measured) -> None:
    score = measured.scores[kind]
    wrong = [one.case.name + ": " + one.detail for one in measured.outcomes if one.verdict in ("missed", "false")]
    assert (score.recall or 0) >= LEAST_RECALL, wrong
    assert (score.precision or 0) >= LEAST_PRECISION, wrong


@pytest.mark.parametrize("kind", KINDS)
def test_nineteen_of_twenty_predicted_savings_are_what_the_repaired_program_saves(
    kind: str, measured: Measured
) -> None:
    error = measured.scores[kind].saving_error(0.95)
    assert error is None or error <= MOST_SAVING_ERROR


def test_all_kinds_together(measured: Measured) -> None:
    total = Score()
    for score in measured.scores.values():
        total.found, total.missed, total.false = (
            total.found + score.found, total.missed + score.missed, total.false + score.false,
        )  # fmt: skip
    assert (total.recall or 0) >= LEAST_RECALL_OF_ALL
    assert (total.precision or 0) >= LEAST_PRECISION_OF_ALL


def test_each_kind_has_positive_programs_and_at_least_six_healthy_look_alikes() -> None:
    count = Counter((scenario.kind, scenario.sort) for scenario in scenarios())
    assert all(count[kind, "positive"] >= 3 for kind in KINDS)
    assert all(count[kind, "negative"] >= 6 for kind in KINDS), count


def test_a_seed_gives_the_same_traces_every_time() -> None:
    assert _documents(cases(7)) == _documents(cases(7))
    assert _documents(cases(7)) != _documents(cases(8))


def test_every_program_of_a_positive_scenario_has_something_to_find() -> None:
    made = [case for seed in range(1, 6) for case in cases(seed) if case.scenario.sort == "positive"]
    counted = Counter(case.scenario.name for case in made if any(one.counted for one in case.expected))
    assert set(counted) == {case.scenario.name for case in made}


def test_a_repaired_program_is_faster_and_never_takes_less_than_no_time() -> None:
    savings = [
        (case.duration_s, one.saving_s)
        for case in cases(3)
        for one in case.expected
        if one.saving_s is not None and one.counted
    ]
    assert len(savings) > 50
    assert all(0 < saving < duration for duration, saving in savings)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The reported critical paths by the sentence of the known trace."""
    folder = tmp_path_factory.mktemp("known")
    write_documents(folder / "traces.jsonl", [_trace(place, known) for place, known in enumerate(KNOWN, 1)])
    runs = report(folder, {})
    return {KNOWN[int(trace_id, 16) - 1].sentence: run["critical_path"] for (trace_id, _), run in runs.items()}


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.sentence.replace(" ", "_"))
def test_the_critical_path_of_a_known_trace(known: KnownPath, paths: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    path = [(one["name"], one["start_s"] * 1e3, one["end_s"] * 1e3) for one in paths[known.sentence]]
    assert [name for name, _, _ in path] == [name for name, _, _ in known.path]
    assert [time for _, *times in path for time in times] == pytest.approx(
        [time for _, *times in known.path for time in times], abs=1e-3
    )


def _documents(made: Iterable[Case]) -> list[tuple[Json, ...]]:
    return [case.documents for case in made]


def _trace(place: int, known: KnownPath) -> Json:
    ids = {name: f"{number:016x}" for number, (name, *_) in enumerate(known.rows, 1)}
    spans = [
        {
            "traceId": f"{place:032x}",
            "spanId": ids[name],
            **({"parentSpanId": ids[parent]} if parent else {}),
            "name": name,
            "startTimeUnixNano": str(EPOCH_NS + round(start * 1e6)),
            "endTimeUnixNano": str(EPOCH_NS + round(end * 1e6)),
        }
        for name, parent, start, end in known.rows
    ]
    return document("known", [("known", spans)])
