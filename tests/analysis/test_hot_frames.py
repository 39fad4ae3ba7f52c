"""Which functions a run's CPU time went to, from samples; and read back from the root's attribute."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from _traces import records, tool
from otel_agentperf.analysis.classify import RawSpan, classify
from otel_agentperf.analysis.hot_frames import Place, SpanSamples, hottest
from otel_agentperf.analysis.measurements import profile
from otel_agentperf.model import HotFrame, SpanProfile

MS = 1_000_000
APP, TOKENIZE, RANK, DUMPS = 1, 2, 3, 4
PLACES = {
    APP: Place("main", "app.py", 10),
    TOKENIZE: Place("tokenize", "app.py", 20),
    RANK: Place("rank", "app.py", 30),
    DUMPS: Place("dumps", "json/__init__.py", 183),
}


def samples(cpu_ms: float, **frames_ms: float) -> SpanSamples:
    """`tokenize=30` milliseconds in a function of the program's own; `dumps=30` in a library it called."""
    frames = {
        (number, APP if number == DUMPS else 0): int(frames_ms[place.function] * MS)
        for number, place in PLACES.items()
        if place.function in frames_ms
    }
    return SpanSamples(int(cpu_ms * MS), 10, frames)


def of(*calls: tuple[str, SpanSamples]) -> tuple[SpanProfile, ...]:
    made = records(*[tool(name, 1.0) for name, _ in calls])
    return hottest([(record, taken) for record, (_, taken) in zip(made, calls, strict=True)], PLACES.__getitem__)


def test_the_hottest_call_and_its_hottest_function_come_first() -> None:
    search, index = of(("index", samples(100, rank=100)), ("search", samples(300, tokenize=60, rank=240)))
    assert (search.name, index.name) == ("search", "index")
    assert (search.cpu_s, search.samples, search.calls) == (0.3, 10, 1)
    assert search.frames == (HotFrame("rank", "app.py", 30, 0.8), HotFrame("tokenize", "app.py", 20, 0.2))


def test_a_librarys_function_has_its_caller() -> None:
    ((frame,),) = (one.frames for one in of(("export", samples(100, dumps=100))))
    assert frame == HotFrame("dumps", "json/__init__.py", 183, 1.0, "main app.py:10")


def test_time_that_nobody_saw_spent_counts_against_the_shares() -> None:
    (one,) = of(("index", samples(200, rank=100)))
    assert [frame.share for frame in one.frames] == [0.5]


@pytest.mark.parametrize(
    "taken", [samples(49, rank=49), samples(500), SpanSamples()], ids=["too little", "nothing seen", "nothing"]
)
def test_a_call_that_says_nothing_is_left_out(taken: SpanSamples) -> None:
    assert of(("index", taken)) == ()


def test_functions_that_hardly_matter_are_left_out() -> None:
    (one,) = of(("index", samples(1_000, rank=960, tokenize=40)))
    assert [frame.function for frame in one.frames] == ["rank"]


def test_short_calls_of_one_operation_count_as_one_and_long_ones_apart() -> None:
    long = [("search", samples(600, rank=600)), ("search", samples(500, tokenize=500))]
    short = [("step", samples(4 + number / 10, rank=4)) for number in range(20)]
    first, second, steps = of(*long, *short)
    assert (first.calls, second.calls) == (1, 1)
    assert [one.frames[0].function for one in (first, second)] == ["rank", "tokenize"]
    assert (steps.name, steps.calls, steps.samples) == ("step", 20, 200)
    assert steps.span_id == f"{22:016x}", "the longest stands for them"


def test_the_result_is_bounded() -> None:
    many = {number: Place(f"f{number}", "app.py", number) for number in range(1, 100)}
    taken = [SpanSamples(1_000 * MS, 10, {(number, 0): 10 * MS * (6 if number < 9 else 1) for number in many})] * 30
    found = hottest(zip(records(*[tool(f"t{n}", 1.0) for n in range(30)]), taken, strict=True), many.__getitem__)
    assert [len(one.frames) for one in found] == [5] * 5


# --- from the root's attribute --------------------------------------------------------------------------------

GOOD: dict[str, Any] = asdict(
    SpanProfile("00000000000000ab", "index", 12, (HotFrame("rank", "app.py", 30, 0.8, "main app.py:1"),), 0.3, 2)
)


def test_what_is_written_is_read_back() -> None:
    text = json.dumps([GOOD])
    (read,) = profile(text)
    assert asdict(read) == GOOD
    raw = RawSpan("a" * 32, "b" * 16, None, "run", {"agentperf.profile": text, "agentperf.profile.note": "x"}, 0, 1)
    assert (classify(raw).profile, classify(raw).profile_note) == ((read,), "x")


@pytest.mark.parametrize(
    "value",
    [None, 7, "", "no json", "{}", "[1]", "[[1]]", '[{"span_id": 1}]', "[" * 100_000]
    + [
        json.dumps([{**GOOD, **wrong}])
        for wrong in (
            {"span_id": "../../etc"},
            {"span_id": 5},
            {"samples": "many"},
            {"calls": 0},
            {"cpu_s": float("nan")},
            {"cpu_s": -1},
            {"frames": 3},
            {"frames": {"a": 1}},
            {"frames": ["x"]},
            {"frames": [{**GOOD["frames"][0], "share": 1.5}]},
            {"frames": [{**GOOD["frames"][0], "line": None}]},
            {"surprise": 1},
        )
    ],
)
def test_what_is_no_profile_counts_as_none(value: object) -> None:
    assert profile(value) == ()


def test_a_huge_one_is_cut() -> None:
    (read, *rest) = profile(json.dumps([{**GOOD, "frames": GOOD["frames"] * 1_000}] * 1_000))
    assert (len(rest), len(read.frames)) == (15, 16)
