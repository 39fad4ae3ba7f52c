from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _random_runs import trees
from _traces import agent, llm, node, run_of, together, tool, wait
from otel_agentperf.analysis.replay import merge, movable, replay
from otel_agentperf.model import Change

S = 1_000_000_000
NOTHING = Change()


def ids(run, *operations):
    return [span.span_id for span in run.spans if span.operation in operations]


def after(run, **change):
    return replay(run, Change(**change)) / S


def drop(run, *operations):
    return after(run, drop=frozenset(ids(run, *operations)))


def test_dropping_a_call_moves_what_follows():
    run = run_of(agent("a", llm(1.0), tool("t", 2.0), wait(0.5), llm(1.0)))
    assert drop(run, "t") == 2.5


def test_dropping_beside_a_longer_one_changes_nothing():
    assert drop(run_of(agent("a", together(tool("t", 2.0), tool("u", 3.0)))), "t") == 3.0


def test_dropping_the_longer_of_two_leaves_the_other():
    assert drop(run_of(agent("a", together(tool("t", 2.0), tool("u", 3.0)), llm(1.0))), "u") == 3.0


def test_dropping_all_of_two():
    assert drop(run_of(agent("a", together(tool("t", 2.0), tool("u", 3.0)), llm(1.0))), "t", "u") == 1.0


def test_dropping_staggered_calls():
    calls = [tool("t", 0.4, at=0.3 * i) for i in range(8)]
    assert drop(run_of(agent("a", *calls)), "t") == 0.0


def test_deep_inside():
    run = run_of(agent("a", tool("o", node("x", tool("t", 2.0), wait(0.5)), wait(0.5)), llm(1.0)))
    assert drop(run, "t") == 2.0


def test_shrinking():
    run = run_of(agent("a", tool("t", 5.0), llm(1.0)))
    [call] = ids(run, "t")
    assert after(run, shrink={call: 2 * S}) == 3.0
    assert after(run, shrink={call: 9 * S}) == 6.0


def test_running_in_parallel():
    run = run_of(agent("a", llm(1.0), tool("t", 2.0), tool("u", 3.0), tool("v", 1.0), llm(1.0)))
    assert after(run, parallel=(tuple(ids(run, "t", "u", "v")),)) == 5.0


def test_the_parents_work_between_parallel_calls_stays():
    run = run_of(agent("a", tool("t", 2.0), wait(0.5), tool("u", 2.0), llm(1.0)))
    assert after(run, parallel=(tuple(ids(run, "t", "u")),)) == 3.5


def test_closing_a_gap():
    run = run_of(agent("a", tool("t", 1.0), wait(3.0), llm(1.0)))
    start = run.root.start_ns
    assert after(run, gaps=((run.root.span_id, start + S, start + 4 * S),)) == 2.0
    assert after(run, gaps=((run.root.span_id, start + S, start + 3 * S),) * 2) == 3.0


def test_a_gap_is_only_the_parents_own_time():
    run = run_of(agent("a", tool("t", 1.0), wait(1.0), llm(1.0)))
    assert after(run, gaps=((run.root.span_id, 0, 2 * run.root.end_ns),)) == 2.0


def test_a_call_that_outlives_its_parent_was_not_waited_for():
    assert drop(run_of(agent("a", 2.0, tool("log", 9.0, at=0.5))), "log") == 2.0


def test_an_end_recorded_a_moment_after_the_parents_was_waited_for():
    assert drop(run_of(agent("a", 2.0, tool("t", 2.0005))), "t") == pytest.approx(0.0, abs=0.001)


def test_what_started_after_two_had_ended_waits_for_the_later():
    run = run_of(agent("a", together(tool("t", 2.0), tool("u", 3.0)), llm(1.0)))
    [t], [u] = ids(run, "t"), ids(run, "u")
    assert after(run, shrink={u: S}) == 3.0
    assert after(run, shrink={u: S, t: S}) == 2.0


def test_two_fixes_can_save_more_than_the_sum_of_each():
    """Why savings are never added up, in either direction."""
    run = run_of(agent("a", together(tool("t", 3.0), tool("u", 3.0))))
    [t], [u] = ids(run, "t"), ids(run, "u")
    alone = [Change(shrink={one: S}) for one in (t, u)]
    assert [replay(run, change) / S for change in alone] == [3.0, 3.0]
    assert replay(run, merge(alone)) / S == 1.0


def test_merge_keeps_the_smaller_of_two_shrinks():
    merged = merge([Change(shrink={"x": 5}), Change(shrink={"x": 3}, drop=frozenset("y")), Change(drop=frozenset("z"))])
    assert merged.shrink == {"x": 3}
    assert merged.drop == {"y", "z"}
    assert merge([]) == NOTHING


def test_the_root_itself():
    run = run_of(agent("a", 3.0))
    assert after(run, drop=frozenset([run.root.span_id])) == 0.0
    assert after(run, shrink={run.root.span_id: S}) == 1.0


def test_unknown_ids_change_nothing():
    run = run_of(agent("a", tool("t", 1.0)))
    change = Change(frozenset("x"), {"y": 0}, (("x", "y"),), (("z", 0, 9),))
    assert replay(run, change) == run.root.duration_ns


@st.composite
def changed_runs(draw):
    run = run_of(draw(trees()))
    return run, draw(changes(run))


@st.composite
def changes(draw, run):
    some = st.sampled_from([span.span_id for span in run.spans])
    shrink = draw(st.dictionaries(some, st.sampled_from([0, 10**7, 10**8, S]), max_size=4))
    parents = [parent for parent, below in run.children.items() if len(below) > 1]
    groups = []
    for parent in draw(st.lists(st.sampled_from(parents), max_size=2, unique=True)) if parents else ():
        groups.append(tuple(child.span_id for child in run.children[parent]))
    gaps = []
    for span_id in draw(st.lists(some, max_size=3)):
        span = run.by_id[span_id]
        gaps.append((span_id, span.start_ns, span.start_ns + draw(st.integers(0, 4)) * S // 4))
    return Change(draw(st.frozensets(some, max_size=4)), shrink, tuple(groups), tuple(gaps))


@settings(max_examples=60, deadline=None)
@given(trees())
def test_nothing_changed_is_the_measured_duration_exactly(tree):
    run = run_of(tree)
    assert replay(run, NOTHING) == run.root.duration_ns
    same = Change(shrink={span.span_id: span.duration_ns for span in run.spans})
    assert replay(run, same) == run.root.duration_ns


@settings(max_examples=200, deadline=None)
@given(changed_runs())
def test_a_change_never_lengthens_a_run_nor_goes_below_nothing(case):
    run, change = case
    assert 0 <= replay(run, change) <= run.root.duration_ns


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_two_changes_save_at_least_what_either_does(data):
    run = run_of(data.draw(trees()))
    one, two = data.draw(changes(run)), data.draw(changes(run))
    assert replay(run, merge([one, two])) <= min(replay(run, one), replay(run, two))


@settings(max_examples=200, deadline=None)
@given(changed_runs())
def test_what_is_not_movable_saves_nothing(case):
    run, change = case
    matters = movable(run)
    beside = Change(
        drop=change.drop - matters,
        shrink={span_id: to for span_id, to in change.shrink.items() if span_id not in matters},
        parallel=tuple(group for group in change.parallel if matters.isdisjoint(group)),
        gaps=tuple(gap for gap in change.gaps if gap[0] not in matters),
    )
    assert replay(run, beside) == run.root.duration_ns


@given(changed_runs())
def test_calls_one_after_another_need_no_timeline(case):
    run, change = case
    short = replay(run, change)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otel_agentperf.analysis.replay.in_sequence", lambda children: False)
        assert replay(run, change) == short
