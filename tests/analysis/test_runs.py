from __future__ import annotations

from dataclasses import replace

from _traces import agent, http, llm, node, records, run_of, span, tool, wait
from otel_agentperf.analysis.runs import build_run, find_runs


def names(spans, **more):
    return [(run.root.operation, len(run.spans), run.incomplete) for run in find_runs(spans, **more)]


def test_the_outermost_agent_with_everything_below_it():
    run = run_of(
        span("GET /ask", agent("a", tool("t", agent("b", llm(1.0)), http("https://x.io", 1.0))), side="server")
    )
    assert run.root.operation == "a"
    assert len(run.spans) == 5
    assert not run.incomplete


def test_several_runs_in_one_trace():
    server = span("POST /", agent("a", llm(1.0)), wait(0.1), node("x", agent("b", llm(1.0), tool("t", 1.0))))
    assert names(records(server)) == [("a", 2, False), ("b", 3, False)]


def test_several_traces():
    spans = [*records(agent("b", 1.0), start_s=9), *records(agent("a", 1.0), trace_id="b" * 32)]
    assert names(spans) == [("a", 1, False), ("b", 1, False)]


def test_without_an_agent_each_local_root_is_a_run():
    assert names(records(node("main", tool("t", 1.0)), node("other", 1.0, at=5.0))) == [
        ("main", 2, False),
        ("other", 1, False),
    ]


def test_an_agent_whose_parent_is_remote():
    assert names(records(agent("a", llm(1.0), parent_id="f" * 16, remote_parent=True))) == [("a", 2, False)]


def test_a_remote_parent_in_the_same_process_is_still_a_run_of_its_own():
    call = http("https://self", agent("b", 1.0, remote_parent=True))
    assert names(records(agent("a", tool("t", call)))) == [("a", 3, False), ("b", 1, False)]


def two_processes():
    caller = records(agent("a", tool("t", http("https://b", 2.0, span_id="c" * 16)), process="one"))
    called = records(node("POST /", agent("b", llm(1.0)), tool("log", 0.1), parent_id="c" * 16), start_s=0.5)
    called = [
        replace(one, process="two", span_id=f"2{one.span_id[1:]}", parent_id=_other(one.parent_id)) for one in called
    ]
    return [*(replace(one, process="one") for one in caller), *called]


def _other(parent_id):
    return parent_id if parent_id in (None, "c" * 16) else f"2{parent_id[1:]}"


def test_two_processes_are_two_runs():
    assert names(two_processes()) == [("a", 3, False), ("b", 2, False)]


def test_a_process_without_an_agent_has_no_run_where_the_trace_has_one():
    spans = [one for one in two_processes() if one.operation not in ("b", "gpt")]
    assert names(spans) == [("a", 3, False)]


def test_a_run_knows_which_spans_called_a_run_elsewhere():
    assert [sorted(run.callers) for run in find_runs(two_processes())] == [["c" * 16]] * 2
    without = [one for one in two_processes() if one.operation not in ("b", "gpt")]
    assert [sorted(run.callers) for run in find_runs(without)] == [[]]


def test_without_any_agent_each_processs_local_root_is_a_run():
    spans = [replace(one, kind="other") if one.kind == "agent" else one for one in two_processes()]
    assert [root for root, _, _ in names(spans)] == ["a", "POST /"]


def test_a_span_whose_parent_never_arrived_joins_the_run_it_happened_in():
    spans = records(agent("a", 5.0), tool("t", llm(1.0), at=1.0, parent_id="f" * 16))
    [run] = find_runs(spans)
    assert [member.operation for member in run.spans] == ["a", "t", "gpt"]
    assert run.incomplete
    assert run.by_id[run.spans[1].span_id].parent_id == run.root.span_id


def test_an_orphan_outside_of_any_run_belongs_to_none():
    assert names(records(agent("a", 5.0), tool("t", 9.0, at=1.0, parent_id="f" * 16))) == [("a", 1, False)]


def test_nobody_knows_whose_an_orphan_is_when_two_runs_were_going_on():
    spans = records(agent("a", 5.0), agent("b", 5.0), tool("t", 1.0, at=1.0, parent_id="f" * 16))
    assert names(spans) == [("a", 1, False), ("b", 1, False)]


def test_only_orphans():
    assert names(records(tool("t", 1.0, parent_id="f" * 16))) == [("t", 1, False)]


def test_a_trace_of_another_root_is_not_adopted():
    """A second local root has no missing parent, so it is somebody else's."""
    assert names(records(agent("a", 5.0), node("cron", 1.0, at=1.0))) == [("a", 1, False)]


def test_children_may_arrive_in_any_order():
    spans = records(agent("a", tool("t", llm(1.0)), llm(2.0)))
    assert find_runs(reversed(spans))[0].spans == find_runs(spans)[0].spans


def test_a_span_that_is_its_own_parent():
    spans = records(agent("a", tool("t", 1.0)))
    spans = [replace(spans[0], parent_id=spans[0].span_id), spans[1]]
    assert names(spans) == [("a", 2, False)]


def test_a_circle_of_parents():
    first, second, third = records(agent("a", tool("t", llm(1.0))))
    spans = [replace(first, parent_id=third.span_id), second, third]
    assert names(spans) == [("a", 3, False)]


def test_a_circle_beside_a_run():
    spans = records(agent("a", 1.0), node("x", node("y", 1.0)))
    x, y = spans[1], spans[2]
    assert names([spans[0], replace(x, parent_id=y.span_id), y]) == [("a", 1, False)]


def test_a_span_id_told_twice_counts_once():
    spans = records(agent("a", tool("t", 1.0)))
    assert names([*spans, spans[1], replace(spans[1], end_ns=spans[1].end_ns + 5)]) == [("a", 2, False)]
    assert len(build_run(spans[0], [*spans, spans[1]]).spans) == 2


def test_no_spans():
    assert find_runs([]) == []


def test_build_run_takes_only_what_is_below_the_root():
    spans = records(node("x", agent("a", llm(1.0)), agent("b", llm(1.0))))
    assert [member.operation for member in build_run(spans[1], spans).spans] == ["a", "gpt"]


def test_the_root_says_that_spans_are_missing():
    assert run_of(agent("a", 1.0, more={"agentperf.incomplete": True})).incomplete


def test_a_run_knows_whom_a_span_works_for():
    run = run_of(agent("a", tool("t", agent("b", llm(1.0))), llm(1.0)))
    owners = [run.by_id[run.agents[member.span_id]].operation for member in run.walk()]
    assert owners == ["a", "a", "b", "b", "a"]
