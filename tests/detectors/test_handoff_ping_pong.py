from __future__ import annotations

import pytest

from _traces import agent, findings, llm, node, run_of, saving_of, the_finding, together, tool, wait
from otel_agentperf.detectors._rounds import is_handoff

KIND = "handoff_ping_pong"


def _to(name: str, **fields):
    return tool(f"transfer_to_{name}", 0.01, args={}, result="ok", **fields)


def _visit(name: str, *parts, to: str | None = None, seconds: float = 0.5):
    return agent(name, llm(seconds), *parts, *([_to(to)] if to else []))


def _rally(*parts, visits: int = 7, names: tuple[str, ...] = ("triage", "refunds"), handoff: bool = True, **fields):
    """Visits in turn; the last one gives the answer."""
    return [
        _visit(
            names[place % len(names)],
            *parts,
            to=names[(place + 1) % len(names)] if handoff and place < visits - 1 else None,
            **fields,
        )
        for place in range(visits)
    ]


def _nested(visits: int, *parts, name: str = "triage"):
    """Each calls the other by a tool."""
    other = {"triage": "refunds", "refunds": "triage"}[name]
    if visits == 1:
        return agent(name, llm(0.5))
    return agent(name, llm(0.5), *parts, tool(f"transfer_to_{other}", _nested(visits - 1, *parts, name=other)))


def _turns(names, *parts, key: str = "gen_ai.agent.name"):
    return [part for name in names for part in (llm(0.5, more={key: name}), *parts)]


def _work(**fields):
    return tool("get_order", 0.3, args={"id": 7}, **fields)


SILENT = {
    "two round trips": agent("team", *_rally(visits=5)),
    "and one hand-over more": agent("team", *_rally(visits=6)),
    "workers that work": agent("team", *_rally(_work(), visits=9)),
    "one of the two works": agent(
        "team", *[part for _ in range(5) for part in (_visit("triage", to="refunds"), _visit("refunds", _work()))]
    ),
    "work in the middle": agent("team", *_rally(visits=5), _visit("refunds", _work()), *_rally(visits=5)),
    "a supervisor's tools between": agent("team", *[part for visit in _rally() for part in (visit, _work())]),
    "three agents in a ring": agent("team", *_rally(visits=12, names=("a", "b", "c"))),
    "one agent again and again": agent("team", *[_visit("worker") for _ in range(9)]),
    "a boss that calls one worker": agent("boss", *[part for _ in range(8) for part in (llm(0.5), _visit("worker"))]),
    "a boss that names itself, and a worker": agent(
        "boss", *[part for _ in range(8) for part in (llm(0.5, more={"gen_ai.agent.name": "boss"}), _visit("worker"))]
    ),
    "at the same time": agent("team", together(*_rally())),
    "two pairs at the same time": agent(
        "team", together(agent("one", *_rally(visits=4)), agent("two", *_rally(visits=4)))
    ),
    "model and tools of one graph, all tools failing": agent(
        "a", *[part for _ in range(8) for part in (node("model", llm(0.5)), node("tools", _work(error="x")))]
    ),
    "steps of one agent that write and check": agent(
        "a", *[part for _ in range(8) for part in (node("generate", llm(0.5)), node("reflect", llm(0.5)))]
    ),
    "a short nest": _nested(6),
    "a nest that works": _nested(9, _work()),
    "model turns of one agent": agent("a", *_turns(["a"] * 9)),
    "model turns of two agents with work": agent("a", *_turns(["a", "b"] * 6, _work())),
    "tiny": agent("team", llm(60.0), *_rally(seconds=0.01)),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


LOUD = {
    "one after another": (agent("team", *_rally()), agent("team", *_rally(visits=3)), 7),
    "an even number of visits": (agent("team", *_rally(visits=8)), agent("team", *_rally(visits=4)), 8),
    "after a third agent": (
        agent("team", _visit("greeter", to="triage"), *_rally()),
        agent("team", _visit("greeter", to="triage"), *_rally(visits=3)),
        7,
    ),
    "work before the first hand-over and at the end": (
        agent("team", _visit("triage", _work()), *_rally()[1:-1], _visit("triage", _work())),
        agent("team", _visit("triage", _work()), *_rally()[1:2], _visit("triage", _work())),
        7,
    ),
    "tools that fail": (
        agent("team", *_rally(_work(error="denied"))),
        agent("team", *_rally(_work(error="denied"), visits=3)),
        7,
    ),
    "in the nodes of a graph": (
        agent("team", *[node(visit.name, visit) for visit in _rally()]),
        agent("team", *[node(visit.name, visit) for visit in _rally(visits=3)]),
        7,
    ),
    "hand-overs as spans of their own": (
        agent("team", *[part for visit in _rally(handoff=False) for part in (visit, node("handoff a to b", 0.01))]),
        agent("team", *[part for visit in _rally(visits=3, handoff=False) for part in (visit, wait(0.01))]),
        7,
    ),
    "a selector's turns between": (
        agent("team", *[part for visit in _rally() for part in (llm(0.2, model="selector"), visit)]),
        agent(
            "team",
            *[llm(0.2, model="selector")] * 4,
            *[part for visit in _rally(visits=3) for part in (llm(0.2, model="selector"), visit)],
        ),
        7,
    ),
    "each calls the other": (_nested(9), _nested(3), 9),
    "each calls the other, below an agent that calls others too": (
        agent("boss", _visit("greeter"), _nested(9)),
        agent("boss", _visit("greeter"), _nested(3)),
        9,
    ),
    "model turns that name their agent": (
        agent("team", *_turns(["a", "b"] * 3, _to("other")), *_turns(["a"])),
        agent("team", *_turns(["a", "b"], _to("other")), *_turns(["a"])),
        7,
    ),
    "model turns in the nodes of a graph": (
        agent("team", *[node(name, llm(0.5), _to("other")) for name in "ababab"], node("a", llm(0.5))),
        agent("team", *[node(name, llm(0.5), _to("other")) for name in "ab"], node("a", llm(0.5))),
        7,
    ),
}


@pytest.mark.parametrize(("broken", "repaired", "visits"), LOUD.values(), ids=LOUD.keys())
def test_loud(broken, repaired, visits):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.operation in ("triage", "a")
    assert finding.calls == visits
    assert finding.severity in ("warning", "critical")
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.1)
    assert "back and forth" in finding.recommendation


def test_whoever_answers_in_the_end_stays():
    run = run_of(agent("team", *_rally()))
    last = [visit for visit in run.spans if visit.kind == "agent"][-1]
    assert last.span_id not in the_finding(run, KIND).change.drop


def test_a_writer_and_its_reviewer_are_only_information():
    trace = agent("team", *_rally(names=("writer", "reviewer"), handoff=False))
    assert the_finding(run_of(trace), KIND).severity == "info"


def test_tools_that_fail_are_a_warning_without_a_sign_of_a_hand_over_too():
    trace = agent("team", *_rally(_work(error="denied"), handoff=False))
    assert the_finding(run_of(trace), KIND).severity in ("warning", "critical")


def test_a_visit_may_seem_to_start_just_before_the_last_one_ended():
    visits = [agent(name, llm(0.5), at=place * 0.4995) for place, name in enumerate("abababa")]
    trace = agent("team", *[node("step", visit, at=visit.at).but(children=(visit.but(at=None),)) for visit in visits])
    assert the_finding(run_of(trace), KIND).calls == 7


def test_the_user_sets_how_often():
    trace = agent("team", *_rally())
    assert findings(run_of(trace, thresholds={"handoff_ping_pong.alternations@triage": 4}), KIND) == []
    assert findings(run_of(agent("t", *_rally(visits=5)), thresholds={"handoff_ping_pong.alternations": 2}), KIND)


@pytest.mark.parametrize(
    "name",
    [
        "transfer_to_refunds",
        "transfer_back_to_supervisor",
        "transferToAgent",
        "handoff",
        "hand_off_to_x",
        "delegate_task_to_member",
        "Delegate work to coworker",
        "execute_tool transfer_to_agent",
        "handoff triage to refunds",
    ],
)
def test_hands_over(name):
    assert is_handoff(name)


@pytest.mark.parametrize("name", ["transfer_money", "bank_transfer", "get_order", "send_mail", "route_planner", "span"])
def test_does_not_hand_over(name):
    assert not is_handoff(name)
