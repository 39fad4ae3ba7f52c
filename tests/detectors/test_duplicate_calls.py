from __future__ import annotations

import pytest

from _traces import (
    agent,
    calls_of,
    db,
    findings,
    http,
    llm,
    node,
    run_of,
    saving_of,
    the_finding,
    together,
    tool,
    wait,
)

KIND = "duplicate_calls"


def _user(number: int = 7, result: object = "Ann", seconds: float = 0.5, **fields):
    return tool("get_user", seconds, args={"id": number}, result=result, **fields)


def _answer(size: int):
    url = {"http.request.method": "GET", "url.full": "https://b.io/jobs/4711"}
    return {**url, "http.response.body.size": size}


def _between(part, *others, times=3):
    return [step for _ in range(times) for step in (part, *others)]


def _apart(*calls):
    """Each after its model turn, with another call in between, so that the agent does not go round in a circle."""
    for number, call in enumerate(calls):
        yield from [call] if call else []
        yield from (llm(0.3), tool("look_up", 0.1, args={"q": number}, result=f"r{number}"))


SILENT = {
    "different arguments": agent("a", *[_user(i) for i in range(4)]),
    "results differ": agent("a", *[_user(result=f"v{i}") for i in range(4)]),
    "polling until it is done": agent(
        "a",
        *_between(tool("get_job", 0.5, args={"id": 1}, result="running"), wait(1.0)),
        tool("get_job", 0.5, args={"id": 1}, result="done"),
    ),
    "polling that never ends": agent(
        "a", *_between(tool("get_job", 0.5, args={"id": 1}, result={"state": "RUNNING"}), llm(0.5))
    ),
    "polling by name": agent("a", *_between(tool("check_status", 0.5, args={"id": 1}), wait(0.1))),
    "polling in a query": agent("a", *_between(db("SELECT status FROM jobs WHERE id = 7", 0.2), wait(0.1))),
    "polling of a url": agent("a", *_between(http("https://api.x.io/jobs/7/status", 0.4), wait(0.1))),
    "regular sleeps between calls": agent("a", *_between(http("https://api.x.io/jobs/7", 0.3), wait(1.0))),
    "a write between reads": agent("a", _user(), tool("update_user", 0.3, args={"id": 7}), _user(), llm(0.2)),
    "a write by a server's tool between reads": agent(
        "a", _user(), tool("crm__update_user", 0.3, args={"id": 7}), _user(), llm(0.2)
    ),
    "a write whose arguments are hidden, results too": agent(
        "a", _user(result=None), tool("save_report", 0.3), _user(result=None)
    ),
    "a write of what the name tells, arguments hidden": agent(
        "a", _user(hashed=True), tool("update_user", 0.3, hashed=True), _user(hashed=True)
    ),
    "a file read again after it was written": agent(
        "a",
        *_between(
            tool("read_file", 0.5, args={"path": "/a.txt"}, result="x"),
            tool("write_file", 0.2, args={"path": "/a.txt"}, result="fine"),
        ),
    ),
    "an order read again after it was updated": agent(
        "a",
        *_between(
            tool("get_order", 0.5, args={"id": "o-17"}, result="open"),
            tool("update_order", 0.2, args={"id": "o-17"}, result="fine"),
        ),
    ),
    "a balance read again after a transfer": agent(
        "a",
        *_between(
            tool("get_balance", 0.5, args={"account": "acc_9"}, result="5"),
            tool("transfer", 0.2, args={"from": "acc_9", "to": "acc_3"}, result="fine"),
        ),
    ),
    "answers of different sizes": agent(
        "a",
        *[http("https://b.io/jobs/4711", 0.4).but(attributes=_answer(size)) for size in (64, 64, 66, 1240)],
        wait(0.1),
    ),
    "the next number": agent("a", *_between(db("SELECT nextval('order_seq')", 0.3), wait(0.1))),
    "the next job": agent(
        "a", *_between(db("SELECT id FROM jobs WHERE s = 'new' LIMIT 1 FOR UPDATE SKIP LOCKED", 0.3), wait(0.1))
    ),
    "a write going on while the first read ends": agent(
        "a", tool("set_user", 2.0, args={"id": 7}, at=0.0), _user(at=0.5), _user(at=3.0)
    ),
    "a query between updates of its table": agent(
        "a", *_between(db("SELECT * FROM users", 0.5), db("UPDATE users SET n = 1", 0.1))
    ),
    "a key read again after it was set": agent(
        "a",
        *_between(db("GET user:7", 0.3, system="redis"), db("SET user:7 x", 0.1, system="redis")),
    ),
    "requests between posts to the host": agent(
        "a", *_between(http("https://api.x.io/users/7", 0.5), http("https://api.x.io/users/7/name", 0.2, method="POST"))
    ),
    "requests of reads around a tool that writes": agent(
        "a",
        tool("get_user", http("https://api.x.io/users/7", 0.5), args={"id": 7}),
        tool("update_user", 0.2, args={"id": 7}),
        tool("get_user", http("https://api.x.io/users/7", 0.5), args={"id": 7}),
    ),
    "two agents": agent("boss", agent("one", _user()), agent("two", _user()), llm(0.1)),
    "hidden arguments": agent("a", *_between(tool("get_user", 0.5), llm(0.2))),
    "truncated arguments": agent("a", *_between(tool("get_user", 0.5, args="{'q': 'a long te..."), llm(0.2))),
    "cut off json": agent("a", *_between(tool("get_user", 0.5, args='{"q": "a long te'), llm(0.2))),
    "failures": agent("a", *_between(_user(error="timeout"), llm(0.2))),
    "no arguments and no result": agent("a", *_between(tool("next_task", 0.5, args={}), llm(0.2))),
    "a sampled generation": agent("a", *_between(llm(0.5, messages="a joke"), wait(0.01))),
    "writes": agent("a", *_between(tool("send_mail", 0.5, args={"to": "x"}, result="ok"), llm(0.2))),
    "the time": agent("a", *_between(tool("get_current_time", 0.5, args={"tz": "UTC"}), llm(0.2))),
    "at the same time": agent("a", together(_user(), _user(), _user())),
    "tiny total": agent("a", llm(5.0), *_between(_user(seconds=0.01), llm(1.0))),
    "recursion of one call seen twice": agent("a", tool("get_user", _user(scope="other"), args={"id": 7}, scope="one")),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


LOUD = {
    "in a row": (agent("a", *[_user()] * 3, llm(1.0)), agent("a", _user(), llm(1.0)), "get_user"),
    "between model turns": (
        agent("a", *_apart(_user(), _user(), _user())),
        agent("a", *_apart(_user(), None, None)),
        "get_user",
    ),
    "in graph nodes": (
        agent("a", *[node("step", part) for part in _apart(_user(), _user(), _user())]),
        agent("a", *[node("step", part) for part in _apart(_user(), None, None)]),
        "get_user",
    ),
    "hashes": (
        agent("a", *_apart(*[_user(hashed=True)] * 3)),
        agent("a", *_apart(_user(), None, None)),
        "get_user",
    ),
    "results hidden": (
        agent("a", *_apart(*[_user(result=None)] * 3)),
        agent("a", *_apart(_user(), None, None)),
        "get_user",
    ),
    "something else written in between": (
        agent("a", *_between(_user(), tool("create_ticket", 0.2, args={"title": "broken lamp"}))),
        agent("a", _user(), *[tool("create_ticket", 0.2, args={"title": "x"})] * 3),
        "get_user",
    ),
    "something else written in between, arguments hidden": (
        agent("a", *_between(_user(hashed=True), tool("append_note", 0.2, hashed=True))),
        agent("a", _user(), *[tool("append_note", 0.2)] * 3),
        "get_user",
    ),
    "something whose identifier has parts in common written in between": (
        agent(
            "a",
            *_between(
                tool("get_user", 0.5, args={"id": "8f3c-77e1"}, result="Ann"),
                tool("append_note", 0.2, args={"ticket": "0b5e-77e2"}),
            ),
        ),
        agent("a", _user(), *[tool("append_note", 0.2)] * 3),
        "get_user",
    ),
    "the next number taken in between": (
        agent("a", *_between(db("SELECT * FROM users", 0.5), db("SELECT nextval('log_seq')", 0.1))),
        agent("a", db("SELECT * FROM users", 0.5), *[db("SELECT nextval('log_seq')", 0.1)] * 3),
        "SELECT * FROM users",
    ),
    "answers of one size": (
        agent("a", *_between(http("https://b.io/jobs/4711", 0.4).but(attributes=_answer(64)), llm(0.2))),
        agent("a", http("https://b.io/jobs/4711", 0.4), *[llm(0.2)] * 3),
        "https://b.io/jobs/{id}",
    ),
    "another table written in between": (
        agent("a", *_between(db("SELECT * FROM users", 0.5), db("INSERT INTO log VALUES (1)", 0.1))),
        agent("a", db("SELECT * FROM users", 0.5), *[db("INSERT INTO log VALUES (1)", 0.1)] * 3),
        "SELECT * FROM users",
    ),
    "another key set in between": (
        agent("a", *_between(db("GET user:7", 0.5, system="redis"), db("SET cart:1 x", 0.1, system="redis"))),
        agent("a", db("GET user:7", 0.5, system="redis"), *[db("SET cart:1 x", 0.1, system="redis")] * 3),
        "GET",
    ),
    "requests": (
        agent("a", *_between(http("https://api.x.io/rates?base=EUR", 0.5), llm(0.3))),
        agent("a", http("https://api.x.io/rates?base=EUR", 0.5), *[llm(0.3)] * 3),
        "https://api.x.io/rates",
    ),
    "the same generation, equal result": (
        agent("a", *_between(llm(1.0, messages="2+2", result="4"), wait(0.01))),
        agent("a", llm(1.0), wait(0.03)),
        "gpt",
    ),
    "inside one tool that writes something": (
        agent("a", tool("update_all", *_between(http("https://api.x.io/rates", 0.5), wait(0.01)))),
        agent("a", tool("update_all", http("https://api.x.io/rates", 0.5), wait(0.03))),
        "https://api.x.io/rates",
    ),
}


@pytest.mark.parametrize(("broken", "repaired", "operation"), LOUD.values(), ids=LOUD.keys())
def test_loud(broken, repaired, operation):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.operation == operation
    assert finding.calls == 3
    assert finding.evidence == calls_of(run, operation)
    assert finding.severity in ("warning", "critical")
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.1)
    assert operation in finding.recommendation


def test_twice_is_only_information():
    assert the_finding(run_of(agent("a", _user(), llm(2.0), _user())), KIND).severity == "info"


def test_half_of_the_run_is_critical():
    assert the_finding(run_of(agent("a", *_between(_user(), wait(0.01)))), KIND).severity == "critical"


def test_the_requests_inside_repeated_tools_are_not_told_besides():
    call = tool("get_user", http("https://api.x.io/users/7", 0.5), args={"id": 7}, result="Ann")
    run = run_of(agent("a", *_between(call, llm(0.3))))
    assert [finding.operation for finding in findings(run)] == ["get_user"]


def test_the_same_in_each_of_two_agents_is_told_for_each():
    run = run_of(agent("boss", agent("one", _user(), llm(0.1), _user()), agent("two", _user(), llm(0.1), _user())))
    assert [finding.calls for finding in findings(run, KIND)] == [2, 2]


def test_repeats_of_several_arguments_are_one_finding():
    run = run_of(agent("a", *_apart(*[_user(1), _user(2)] * 3)))
    assert the_finding(run, KIND).calls == 6


def test_the_user_sets_from_how_many_it_is_a_warning_for_one_operation():
    trace = agent("a", llm(0.5), *[tool("find", 1.0, args={"q": 1}, result="r")] * 3, llm(8.0))
    assert the_finding(run_of(trace), KIND).severity == "warning"
    assert the_finding(run_of(trace, thresholds={"duplicate_calls.warning@find": 4}), KIND).severity == "info"
