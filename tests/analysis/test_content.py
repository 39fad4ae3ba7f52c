from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_agentperf._config import Config
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.content import arguments_text, asks, result_size, result_text
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.readers import Query, files

DATA = Path(__file__).parent / "data"
IN, OUT = "llm.input_messages.0.message.", "llm.output_messages.0.message."


def test_a_retrievals_query_and_documents():
    shown = {"gen_ai.retrieval.query.text": "refunds?", "gen_ai.retrieval.documents": '[{"id": "d1"}]'}
    assert (arguments_text("retrieval", shown), result_text("retrieval", shown)) == ("refunds?", '[{"id":"d1"}]')


def test_googles_spelling_of_a_tools_content():
    shown = {"gcp.vertex.agent.tool_call_args": '{"q": "tea"}', "gcp.vertex.agent.tool_response": "green"}
    assert (arguments_text("tool", shown), result_text("tool", shown)) == ('{"q":"tea"}', "green")


def test_documents_without_their_scores():
    one, two = ({f"retrieval.documents.0.document.{key}": value for key, value in shown.items()} for shown in (
        {"content": "tea", "score": 0.5}, {"content": "tea", "score": 0.50001}))  # fmt: skip
    assert result_text("retrieval", one) == result_text("retrieval", two) is not None


def test_the_texts_of_an_embedding_without_its_vectors():
    shown = {"embedding.embeddings.0.embedding.text": "tea", "embedding.embeddings.0.embedding.vector": (0.5, 0.1)}
    assert arguments_text("embedding", shown) == '{"embedding.embeddings.0.embedding.text":"tea"}'
    assert arguments_text("embedding", {"input.value": "tea"}) == "tea"


def test_messages_are_read_before_the_frameworks_own_text():
    shown = {IN + "role": "user", IN + "content": "hi", "input.value": '{"id": "uuid-1"}', OUT + "content": "ho"}
    assert "uuid" not in (arguments_text("llm", shown) or "")
    assert result_text("llm", shown) == json.dumps({OUT + "content": "ho"}, separators=(",", ":"))
    assert arguments_text("llm", {"gen_ai.prompt.0.content": "hi"}) == '{"gen_ai.prompt.0.content":"hi"}'


def test_a_message_that_was_cut_off_is_no_identity():
    assert arguments_text("llm", {IN + "content": "a long text..."}) is None
    assert result_text("llm", {OUT + "content": "a long text...", OUT + "role": "assistant"}) is None


def test_an_empty_message_beside_others():
    assert arguments_text("llm", {IN + "content": "", IN + "role": "user"}) is not None


@pytest.mark.parametrize("key", ["agentperf.result.size", "http.response.body.size", "http.response_content_length"])
def test_result_size(key):
    assert result_size({key: 64}) == 64
    assert result_size({key: "much"}) is None


def _message(*parts):
    return {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": list(parts)}])}


def _call(name):
    return {"type": "tool_call", "id": "1", "name": name, "arguments": {"name": "no"}}


ASKS = [
    (_message(_call("a"), {"type": "text", "content": "and"}, _call("b"), _call("a")), ("a", "b", "a")),
    (_message({"type": "text", "content": "a function"}), ()),
    (_message(), ()),
    ({"gen_ai.output.messages": [{"content": [{"type": "tool_use", "name": "a", "input": {}}]}]}, ("a",)),
    ({"gen_ai.output.messages": '[{"tool_calls": [{"type": "function", "function": {"name": "a"}}]}]'}, ("a",)),
    ({"gen_ai.output.messages": '[{"parts": [{"type": "tool_call", "na'}, None),
    ({"gen_ai.output.messages": '[{"parts": [{"type": "tool_call"}]}]'}, ()),
    (
        {OUT + "tool_calls.0.tool_call.function.name": "a", OUT + "tool_calls.1.tool_call.function.name": "b"},
        ("a", "b"),
    ),
    ({OUT + "content": "hello", OUT + "role": "assistant"}, ()),
    ({OUT + "role": "assistant"}, None),
    ({"gen_ai.completion.0.tool_calls.0.name": "a", "gen_ai.completion.0.role": "assistant"}, ("a",)),
    ({"gen_ai.completion.0.finish_reason": "stop"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("attributes", "names"), ASKS)
def test_asks(attributes, names):
    assert asks(attributes) == names


RECORDED = [
    ("openinference_langgraph.json", "workflow", "Model"),
    ("openllmetry_langgraph.json", "agent", "unknown"),
]


@pytest.mark.parametrize(("file", "kind", "model"), RECORDED)
def test_recorded_langgraph_agents(file, kind, model):
    """Four model turns; three ask for the weather of one city, one of them for another tool at the same time."""
    runs = [run for run in find_runs(files.read(str(DATA / file), Query())) if len(run.spans) > 1]
    [report] = [analyze(run, Config()) for run in runs]
    calls = {(entry.kind, entry.name): entry.calls for entry in report.operations if entry.kind != "other"}
    assert calls == {
        (kind, "weatherbot"): 1,
        ("llm", model): 4,
        ("tool", "get_weather"): 3,
        ("tool", "get_population"): 1,
    }
    assert (report.tokens.input, report.tokens.output) == (410, 40)
    assert [(finding.kind, finding.operation, finding.calls) for finding in report.findings] == [
        ("duplicate_calls", "get_weather", 3)
    ]
    assert [span.asks for span in report.run.spans if span.kind == "llm"] == [
        ("get_weather",),
        ("get_weather", "get_population"),
        ("get_weather",),
        (),
    ]
