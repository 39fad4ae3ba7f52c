from __future__ import annotations

import gc
import random
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _random_runs import trees
from _traces import agent, db, findings, http, llm, node, records, run_of, saving_of, together, tool, wait
from otel_agentperf import _guard
from otel_agentperf._config import Config
from otel_agentperf.analysis import analyze as module
from otel_agentperf.analysis.analyze import analyze, find_bottlenecks
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.model import Change, Finding


def finding(kind, evidence, *, drop=(), change=True, wasted=9.0, severity="warning"):
    return Finding(
        kind=kind,
        severity=severity,
        operation="t",
        calls=1,
        wasted_s=wasted,
        evidence=tuple(evidence),
        threshold="always",
        recommend=lambda saving: f"t could save {saving} seconds",
        change=Change(drop=frozenset(drop)) if change else None,
    )


@pytest.fixture
def detectors(monkeypatch):
    """Puts other detectors in place of the real ones: name → (findings, kinds that speak instead)."""

    def use(**found):
        made = {
            kind: SimpleNamespace(detect=lambda run, told=told: told, REPLACED_BY=frozenset(by))
            for kind, (told, by) in found.items()
        }
        monkeypatch.setattr(module, "detectors", lambda: made)

    return use


def run():
    return run_of(agent("a", *[tool("t", 1.0, args={"i": i}) for i in range(4)], llm(1.0)))


def kinds(found):
    return [one.kind for one in found]


def test_the_whole_report():
    trace = agent("bot", llm(1.0, tokens=(100, 20)), *[tool("t", 0.5, args={"i": f"i{i}"}) for i in range(6)], llm(1.0))
    report = analyze(run_of(trace))
    assert kinds(report.findings) == ["n_plus_one_calls"]
    assert report.saving_s == pytest.approx(2.5)
    assert report.efficiency == pytest.approx(0.5)
    assert report.score_parts.success == 1.0
    assert report.score_parts.resource is None
    assert report.grade == "C"
    assert report.tokens.input == 100
    assert (report.calls("tool"), report.calls("tool", "llm"), report.errors("tool")) == (6, 8, 0)
    assert report.root.operation == "bot"


def test_a_clean_run_wastes_nothing():
    report = analyze(run_of(agent("a", llm(1.0), tool("t", 0.5), llm(1.0))))
    assert (report.findings, report.efficiency, report.saving_s) == ((), 1.0, 0.0)


def test_configuration_counts():
    report = analyze(run_of(agent("a", 5.0)), Config(baselines="a=20", weights="0,1,0"))
    assert report.score == pytest.approx(0.75)


def test_a_finding_names_its_agent_and_keeps_its_fingerprint_from_run_to_run():
    def planned(name, calls):
        return run_of(agent("boss", agent(name, *(tool("search", 0.2, args=number) for number in range(calls)))))

    (few,), (many,), (other,) = (findings(planned(*case)) for case in (("planner", 5), ("planner", 9), ("writer", 5)))
    assert (few.agent, other.agent) == ("planner", "writer")
    assert few.fingerprint == many.fingerprint != other.fingerprint


def test_a_threshold_that_the_user_set_says_where():
    trace = agent("a", *(tool("search", 0.2, args=number) for number in range(5)))
    config = Config(thresholds="n_plus_one_calls.calls=3")
    by_default, configured = analyze(run_of(trace)), analyze(run_of(trace, thresholds=config.threshold_map()), config)
    assert by_default.findings[0].threshold.endswith("under one parent")
    assert configured.findings[0].threshold.endswith("under one parent; set in OTEL_AGENTPERF_THRESHOLDS")


def test_a_run_of_no_length():
    report = analyze(run_of(agent("a", 0.0)))
    assert (report.efficiency, report.saving_s, report.findings) == (1.0, 0.0, ())


def test_what_saves_too_little_is_not_said(detectors):
    spans = run().spans
    detectors(x=([finding("x", [spans[1].span_id], drop=[spans[1].span_id], wasted=0.2)], ()))
    assert find_bottlenecks(run()) == ()


def test_what_claims_no_time_is_said(detectors):
    detectors(x=([finding("x", [run().root.span_id], change=False, wasted=0.0)], ()))
    assert kinds(find_bottlenecks(run())) == ["x"]


def test_worst_first(detectors):
    spans = [span.span_id for span in run().spans]
    told = [
        finding("x", spans[1:2], drop=spans[1:2], severity="info"),
        finding("x", spans[2:3], drop=spans[2:3]),
        finding("x", spans[3:5], drop=spans[3:5]),
        finding("x", spans[5:], drop=spans[5:], severity="critical"),
    ]
    detectors(x=(told, ()))
    found = find_bottlenecks(replace(run(), thresholds={"critical_share": 0.2}))
    assert [one.severity for one in found] == ["critical", "warning", "warning", "info"]
    assert [one.saving_s for one in found] == [1.0, 2.0, 1.0, 1.0]


def test_what_wastes_much_and_saves_little_is_not_critical(detectors):
    spans = [span.span_id for span in run().spans]
    detectors(x=([finding("x", spans[1:2], drop=spans[1:2], severity="critical")], ()))
    assert [one.severity for one in find_bottlenecks(run())] == ["warning"]


def test_where_spans_are_missing_what_needs_them_all_is_info():
    calls = [tool(name, 2.0, call_id=name) for name in ("one", "two")]
    whole = run_of(agent("a", llm(1.0), *calls, llm(1.0)))
    assert [one.severity for one in findings(whole)] == ["warning"]
    assert [one.severity for one in findings(replace(whole, incomplete=True))] == ["info"]


def test_the_more_specific_one_speaks(detectors):
    spans = [span.span_id for span in run().spans]
    detectors(
        general=([finding("general", spans[1:3], drop=spans[1:3])], {"*"}),
        special=([finding("special", spans[1:3], drop=spans[1:3])], ()),
    )
    assert kinds(find_bottlenecks(run())) == ["special"]


def test_not_where_it_is_about_other_calls(detectors):
    spans = [span.span_id for span in run().spans]
    detectors(
        general=([finding("general", spans[1:3], drop=spans[1:3])], {"special"}),
        special=([finding("special", spans[2:5], drop=spans[2:5])], ()),
    )
    assert kinds(find_bottlenecks(run())) == ["special", "general"]


def test_not_where_it_is_about_little_of_the_time(detectors):
    spans = [span.span_id for span in run().spans]
    detectors(
        general=([finding("general", spans[1:3], drop=spans[1:5])], {"special"}),
        special=([finding("special", spans[1:3], drop=spans[1:2])], ()),
    )
    assert kinds(find_bottlenecks(run())) == ["general", "special"]


def test_one_that_is_itself_replaced_speaks_for_nobody(detectors):
    spans = [span.span_id for span in run().spans]
    detectors(
        a=([finding("a", spans[1:2], drop=spans[1:2])], {"b"}),
        b=([finding("b", spans[1:4], drop=spans[1:4])], {"c"}),
        c=([finding("c", spans[2:4], drop=spans[2:4])], ()),
    )
    assert kinds(find_bottlenecks(run())) == ["c", "a"]


def test_calls_inside_calls_that_go_are_not_said_besides():
    inner = [db(f"SELECT * FROM t WHERE id = {i}", 0.1) for i in range(6)]
    calls = [part for _ in range(4) for part in (tool("get", *inner, args={"x": 5}, result="r"), node("n", 0.1))]
    trace = agent("a", *calls)
    assert kinds(findings(run_of(trace))) == ["duplicate_calls", "n_plus_one_calls"]
    one = [db("SELECT * FROM t WHERE id = 7", 0.5)]
    calls = [part for _ in range(4) for part in (tool("get", *one, args={"x": 5}, result="r"), node("n", 0.1))]
    trace = agent("a", *calls)
    assert kinds(findings(run_of(trace))) == ["duplicate_calls"]


def test_the_requests_inside_the_calls_of_a_loop_are_not_slow_besides():
    calls = [tool("get", http(f"https://x.io/u/{i}", 0.7), args={"id": f"u-{i}"}) for i in range(8)]
    assert kinds(findings(run_of(agent("a", llm(0.5), *calls, llm(0.5))))) == ["n_plus_one_calls"]


def test_a_finding_about_the_agent_does_not_hide_those_about_its_calls(detectors):
    spans = [span.span_id for span in run().spans]
    detectors(
        general=([finding("general", spans[1:3], drop=spans[1:3])], {"*"}),
        whole=([finding("whole", spans[:1], change=False)], ()),
    )
    assert kinds(find_bottlenecks(run())) == ["general", "whole"]


def test_a_failing_detector_disables_no_other(detectors, swallow, monkeypatch):
    class Broken:
        def detect(self, run):
            raise ValueError

    detectors(good=([finding("good", [run().root.span_id], change=False)], ()))
    both = {"bad": Broken(), **module.detectors()}
    monkeypatch.setattr(module, "detectors", lambda: both)
    assert kinds(find_bottlenecks(run())) == ["good"]
    assert _guard.counts == {("detector bad", "ValueError"): 1}


def test_all_fixes_together():
    calls = [tool("t", 0.5, args={"i": f"i{i}"}) for i in range(6)]
    trace = agent("a", llm(1.0), *calls, llm(1.0), *[tool("u", 1.0, args={"x": 5}, result="r"), node("n", 0.5)] * 3)
    fixed = agent("a", llm(1.0), calls[0], llm(1.0), tool("u", 1.0, args={"x": 5}, result="r"), *[node("n", 0.5)] * 3)
    report = analyze(run_of(trace))
    assert kinds(report.findings) == ["n_plus_one_calls", "duplicate_calls"]
    assert report.saving_s == pytest.approx(saving_of(trace, fixed))


def facts(report):
    return (
        report.score,
        report.efficiency,
        report.saving_s,
        report.operations,
        report.agents,
        report.caches,
        report.tokens,
        [replace(one, change=None) for one in report.findings],  # its gaps are dates; what they save is not
        [one.recommendation for one in report.findings],
        [(part.span.span_id, part.end_ns - part.start_ns) for part in report.run.path],
    )


@settings(max_examples=40, deadline=None)
@given(trees(), st.integers(-(10**18), 10**18), st.randoms(use_true_random=False))
def test_neither_the_order_of_the_spans_nor_the_date_matters(tree, shift, order):
    spans = records(tree)
    moved = [replace(span, start_ns=span.start_ns + shift, end_ns=span.end_ns + shift) for span in spans]
    order.shuffle(moved)
    [first], [second] = find_runs(spans), find_runs(moved)
    assert facts(analyze(first)) == facts(analyze(second))


def wide(size):
    return agent(
        "a",
        *[
            part
            for i in range(size // 2)
            for part in (tool("t", 0.1, args={"i": i % 50}, result=f"r{i}"), node("n", 0.0))
        ],
    )


def lanes(size):
    """Many at the same time, each with something to say."""
    lane = [tool("x", 0.5, args={"a": "b"}, result="r"), tool("y", 0.5, args={"c": "d"}, result="s"), llm(0.2)]
    return agent("a", together(*[node("lane", llm(0.1), *lane) for _ in range(size // 5)]))


def turns(size):
    parts = []
    for i in range(size // 4):
        parts += [
            llm(0.2, tokens=(10, 5)),
            node("tools", tool("set_t", 0.1, args={"i": i}, error="x" if i % 3 else None)),
        ]
        parts += [http(f"https://x.io/a?i={i % 9}", 0.1)]
    return agent("a", *parts)


def reads_and_writes(size):
    parts = [
        part
        for i in range(size // 2)
        for part in (tool("get", 0.1, args={"k": i % 99}), tool("set_z", 0.1, args={"v": f"w{i}"}))
    ]
    return agent("a", *parts)


def steps(size):
    return agent("a", *[node("n", node("m", node("o", wait(0.1)))) for _ in range(size // 3)])


@pytest.mark.parametrize("shape", [wide, lanes, turns, reads_and_writes, steps])
def test_near_linear(shape):
    """Not a test of speed: ten times the spans may take thirty times as long, a quadratic step takes a hundred."""
    small, large = (records(shape(size)) for size in (2_000, 20_000))
    assert seconds(large) < 30 * max(seconds(small), 0.05)


def test_near_linear_in_depth():
    small, large = chain(1_000), chain(10_000)
    assert seconds(large) < 30 * max(seconds(small), 0.05)


def chain(depth):
    """Each call inside the one before."""
    kinds = (tool("t", 9.0, args={"i": 1}), node("n", 9.0), db("SELECT 1", 9.0), node("m", 9.0))
    spans = records(agent("a", 9.0))
    for level in range(depth):
        top = kinds[level % len(kinds)].but(span_id=f"{level + 2:016x}", parent_id=spans[-1].span_id)
        spans += records(top)
    return spans


def seconds(spans):
    random.Random(1).shuffle(spans)
    gc.disable()  # the other tests' objects are not what is measured
    try:
        start = time.process_time()
        [found] = find_runs(spans)
        analyze(found)
        return time.process_time() - start
    finally:
        gc.enable()


def test_of_very_many_findings_of_a_kind_the_worst_are_told_and_the_others_counted():
    def moved(name, size):
        return tool(name, 0.1, more={"agentperf.result.size": size})

    report = analyze(run_of(agent("a", *(moved(f"t{number}", 400_000) for number in range(100)))))
    assert kinds(report.findings) == ["oversized_payload"] * 64
    assert report.findings_left_out == 36
    assert analyze(run_of(agent("a", moved("t", 400_000)))).findings_left_out == 0
