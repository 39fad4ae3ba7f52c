from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf._visible import holds_result, visible_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", None),
        ("plain", "plain"),
        ('{"b": 1, "a": [1, 2]}', '{"a":[1,2],"b":1}'),
        ({"b": 1, "a": "é"}, '{"a":"é","b":1}'),
        ([1, "x"], '[1,"x"]'),
        ((1, 2), "[1,2]"),
        (5, "5"),
        (False, "false"),
        ("{'a': 1}", "{'a': 1}"),
        ("{not json}", "{not json}"),
        ('{"a": "cut off', None),
        ("{'a': 'cut off", None),
        ("[1, 2, 3", None),
        ("long text...", None),
        ("long text…", None),
        ('"long text…"', None),
        ("long [truncated]", None),
        ("x" * 16_384, "x" * 16_384),
        ("x" * 16_385, None),
        (["x" * 16_384], None),
        ("[" * 100_000, None),
    ],
)
def test_visible_text(value, text):
    assert visible_text(value) == text


def test_what_cannot_be_written_is_not_visible():
    circle: list[object] = []
    circle.append(circle)
    assert visible_text(circle) is None
    assert visible_text({(1, 2): 3}) is None


def test_a_repr_that_raises_is_the_callers_to_guard():
    class Odd:
        def __str__(self):
            return "odd"

    assert visible_text({"x": Odd()}) == '{"x":"odd"}'


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_spelling_does_not_matter(value):
    spelled = visible_text(json.dumps(value, indent=2)) if value else "{}"
    assert spelled == visible_text(dict(reversed(value.items())))


# As OpenInference and OpenLLMetry record LangChain's tools; see tests/analysis/data/README.md.
MESSAGE = {"type": "tool", "data": {"content": "sunny", "id": None, "tool_call_id": "call_1"}}
CALLBACK = {
    "input_str": "{'city': 'Oslo'}",
    "tags": ["seq:step:1"],
    "metadata": {"langgraph_step": 2},
    "inputs": {"city": "Oslo"},
    "kwargs": {"tool_call_id": "call_1"},
}


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (MESSAGE, {"type": "tool", "data": {"content": "sunny"}}),
        (CALLBACK, {"city": "Oslo"}),
        ({**CALLBACK, "inputs": None}, "{'city': 'Oslo'}"),
        ({"output": MESSAGE, "kwargs": {"tags": []}}, {"type": "tool", "data": {"content": "sunny"}}),
        ({"outputs": [MESSAGE], "kwargs": {"tags": []}}, [{"type": "tool", "data": {"content": "sunny"}}]),
    ],
)
def test_what_a_framework_adds_to_each_call_is_left_out(value, content):
    assert visible_text(json.dumps(value)) == visible_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    "value",
    [
        {"id": "user-7", "tags": ["x"]},
        {"output": "x", "kwargs": {"mode": "fast"}, "tags": 1},
        {"output": "x", "kwargs": "tags"},
        {"inputs": {"city": "Oslo"}, "metadata": {"step": 1}},
    ],
)
def test_what_only_looks_like_it_stays(value):
    assert json.loads(visible_text(json.dumps(value)) or "") == value


DEPENDS = [
    ('{"id":"user-77"}', '{"id":"user-77"}', None),
    ('{"a":{"b":["user-77"]}}', '{"rows":[{"id":"user-77"}]}', None),
    ('{"id":7}', '{"next":7}', None),
    ('{"id":2}', "[1,2,3]", None),
    ('{"city":"Oslo"}', "The capital is Oslo.", None),
    ('{"city":"oslo"}', '{"city":"OSLO"}', None),
    ('{"text":"ask Bergen now"}', '{"text":"first\\nBergen"}', None),
    ('{"url":"https://x.io/a/77b"}', '{"id":"77b"}', None),
    ('{"id":"77b"}', "https://x.io/a/77b?x", None),
    ('{"mail":"ann@x.io"}', "Ann <ann@x.io>", None),
    ("user-77", "user-77", None),
    ('{"id":"user-77"}', '{"id":"user-77"}', '{"name":"Ann"}'),
    ('{"id":"user-77","name":"Ann"}', '{"id":"user-77"}', '{"name":"Ann"}'),
]


@pytest.mark.parametrize(("args", "result", "earlier"), DEPENDS)
def test_holds_a_value_of_the_result(args, result, earlier):
    assert holds_result(args, result, earlier) is True


INDEPENDENT = [
    ('{"id":7}', '{"price":17.5,"stock":70}', None),
    ('{"id":5}', '{"at":"2024-05-12","n":1.5}', None),
    ('{"id":"art"}', "a party", None),
    ('{"city":"Oslo"}', '{"sky":"grey"}', None),
    ('{"city":"Oslo"}', '{"city":"Oslo","sky":"grey"}', '{"city":"Oslo"}'),
    ('{"flag":true,"n":1,"m":0,"x":null}', '{"flag":true,"n":1,"m":0,"x":null}', None),
    ('{"unit":"mm"}', '{"unit":"mm"}', None),
    ("{}", "anything", None),
    ("", "anything", None),
    ('{"url":"https://x.io/a"}', "see https://y.org/b", None),
]


@pytest.mark.parametrize(("args", "result", "earlier"), INDEPENDENT)
def test_holds_no_value_of_the_result(args, result, earlier):
    assert holds_result(args, result, earlier) is False


def test_too_many_values_to_tell():
    assert holds_result(json.dumps([f"w{i}" for i in range(40)]), "x", None) is None


@given(st.text(max_size=40), st.text(max_size=40), st.none() | st.text(max_size=10))
def test_any_text_is_fine(args, result, earlier):
    assert holds_result(args, result, earlier) in (True, False, None)
