"""Whether a call's arguments hold an earlier sibling's result, told without showing either."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from _recording import Recording
from otel_agentperf import agent, tool
from otel_agentperf.capture import dependence
from otel_agentperf.capture.dependence import Siblings
from otel_agentperf.capture.tracing import state

PARENT, FIRST = 1, 0xA


@pytest.mark.parametrize(
    ("result", "arguments", "depends"),
    [
        ('{"id":"user-4711"}', '{"user":"user-4711"}', True),
        ('{"id":4711}', '{"user":4711}', True),
        ('{"id":4711}', '{"filter":{"ids":[1,2,4711]}}', True),
        ("the city is Oslo", '{"city":"oslo"}', True),
        ('{"id":4711}', '{"user":47110}', False),
        ('{"id":4711}', '{"user":4712}', False),
        ('{"ok":true}', '{"flag":true}', False),
        ("null", "{}", False),
    ],
)
def test_a_value_of_the_result_in_the_arguments(result: str, arguments: str, depends: bool) -> None:
    siblings = Siblings()
    siblings.ended(PARENT, FIRST, "{}", result)
    assert siblings.depends_on(PARENT, arguments) == (("000000000000000a",) if depends else ())


def test_what_the_earlier_call_was_itself_given_proves_nothing() -> None:
    siblings = Siblings()
    siblings.ended(PARENT, FIRST, '{"city":"Oslo"}', '{"city":"Oslo","celsius":4}')
    assert siblings.depends_on(PARENT, '{"city":"Oslo","days":3}') == ()


def test_unknown_is_not_independent() -> None:
    siblings = Siblings()
    assert siblings.depends_on(PARENT, "{}") is None, "no earlier sibling"
    siblings.ended(PARENT, FIRST, "{}", "1234")
    assert siblings.depends_on(PARENT, None) is None, "arguments unknown"
    assert siblings.depends_on(PARENT, f'{{"a":"{"x" * 20_000}"}}') is None, "arguments too long"
    siblings.ended(PARENT, 2, "{}", None)
    assert siblings.depends_on(PARENT, '{"a":5}') is None, "a result unknown"


def test_after_many_siblings_nothing_is_told() -> None:
    siblings = Siblings()
    for number in range(16):
        assert number == 0 or siblings.depends_on(PARENT, '{"a":5}') == ()
        siblings.ended(PARENT, number, "{}", '"result"')
    assert siblings.depends_on(PARENT, '{"a":5}') is None


def test_parents_do_not_mix_and_are_forgotten() -> None:
    siblings = Siblings()
    siblings.ended(1, FIRST, "{}", "4711")
    assert siblings.depends_on(2, '{"a":4711}') is None
    siblings.forget(1)
    siblings.forget(1)
    assert siblings.depends_on(1, '{"a":4711}') is None
    assert siblings._characters == 0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependence, "_MOST_CHARACTERS", 100_000)
    siblings = Siblings()
    for parent in range(10_000):
        siblings.ended(parent, FIRST, "x" * 10_000, "y" * 10_000)
        assert siblings._characters <= 100_000
    assert len(siblings._calls) < 10
    siblings.ended(0, FIRST, "x" * 10_000_000, "y" * 10_000_000)
    assert siblings._characters <= 100_000


def test_threads_that_meet_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependence, "_MOST_CHARACTERS", 5_000)
    siblings, faults = Siblings(), []

    def work(seed: int) -> None:
        try:
            for number in range(2_000):
                parent = (number * seed) % 40
                siblings.depends_on(parent, '{"a":4711}')
                siblings.ended(parent, number, "{}", "4711 4712")
                if number % 3 == 0:
                    siblings.forget(parent)
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    for parent in range(40):
        siblings.forget(parent)
    assert siblings._characters == 0


def test_seen_on_spans(recorded: Recording) -> None:
    find: Any = tool(name="find")(lambda name: {"id": f"id-{name}-77"})
    load: Any = tool(name="load")(lambda key: {"value": 1})
    with agent("a"):
        found = find("bob")
        find("eve")
        load(found["id"])
    first, second, third = recorded.spans[:3]
    assert "agentperf.depends_on" not in first.attributes
    assert second.attributes["agentperf.depends_on"] == ()
    assert third.attributes["agentperf.depends_on"] == (f"{first.context.span_id:016x}",)
    assert first.parent.span_id not in state.siblings._calls


def test_a_failed_call_brought_nothing(recorded: Recording) -> None:
    def fail(x: str) -> None:
        raise ValueError

    with agent("a"):
        with pytest.raises(ValueError):
            tool(fail)("x")
        tool(lambda x: x)("y")
    assert "agentperf.depends_on" not in recorded.spans[1].attributes
