from __future__ import annotations

import math

import pytest

from _traces import TRACE_ID
from otel_agentperf.analysis.agents import looks_like_agent
from otel_agentperf.analysis.classify import RawSpan, classify


def record(name="span", side="internal", failed=False, scope="", exception=None, **given):
    attributes = given.pop("attributes", {}) | given
    told = {"side": side, "exception": exception}
    return classify(RawSpan(TRACE_ID, "1" * 16, None, name, attributes, 10, 20, failed, scope, **told))


GEN_AI = "gen_ai.operation.name"
INFERENCE = "openinference.span.kind"
LOOP = "traceloop.span.kind"
SMITH = "langsmith.span.kind"

LOGFIRE = "logfire.openai_agents"
BY_SCOPE = [
    (LOGFIRE, "OpenAI Agents trace: {name}", {"name": "flow"}, "workflow", "flow"),
    (LOGFIRE, "Agent run: {name!r}", {"name": "bot"}, "agent", "bot"),
    (LOGFIRE, "Function: {name}", {"name": "search"}, "tool", "search"),
    (LOGFIRE, "Chat completion with {gen_ai.request.model!r}", {"gen_ai.request.model": "gpt"}, "llm", "gpt"),
    (LOGFIRE, "Turn {turn} for agent bot", {"name": "turn"}, "other", "turn"),
    ("mine", "Agent run: {name!r}", {"name": "bot"}, "other", "Agent run: {name!r}"),
    ("openinference.instrumentation.openai_agents", "flow", {INFERENCE: "AGENT"}, "workflow", "flow"),
    ("openinference.instrumentation.openai_agents", "bot", {INFERENCE: "AGENT", "graph.node.id": "b"}, "agent", "b"),
    ("openinference.instrumentation.openai_agents", "handoff to b", {INFERENCE: "TOOL"}, "other", "handoff to b"),
    ("mine", "handoff to b", {INFERENCE: "TOOL"}, "tool", "handoff to b"),
]
KINDS = [
    ("invoke_agent bot", {GEN_AI: "invoke_agent", "gen_ai.agent.name": "bot"}, "agent", "bot"),
    ("invoke_agent bot", {GEN_AI: "invoke_agent"}, "agent", "bot"),
    ("invoke_agent", {GEN_AI: "invoke_agent"}, "agent", "invoke_agent"),
    ("invoke_agent bot", {}, "agent", "bot"),
    ("invoke_workflow crew", {GEN_AI: "invoke_workflow"}, "workflow", "crew"),
    ("execute_tool search", {GEN_AI: "execute_tool", "gen_ai.tool.name": "search"}, "tool", "search"),
    ("chat gpt", {GEN_AI: "chat", "gen_ai.request.model": "gpt"}, "llm", "gpt"),
    ("chat gpt", {GEN_AI: "chat", "gen_ai.response.model": "gpt-2"}, "llm", "gpt-2"),
    ("generate_content gem", {GEN_AI: "generate_content"}, "llm", "gem"),
    ("text_completion old", {GEN_AI: "text_completion"}, "llm", "old"),
    ("embeddings ada", {GEN_AI: "embeddings", "gen_ai.request.model": "ada"}, "embedding", "ada"),
    ("retrieval docs", {GEN_AI: "retrieval", "gen_ai.data_source.id": "docs"}, "retrieval", "docs"),
    ("create_agent bot", {GEN_AI: "create_agent", LOOP: "agent"}, "other", "create_agent bot"),
    ("execute_event_loop_cycle", {GEN_AI: "execute_event_loop_cycle"}, "other", "execute_event_loop_cycle"),
    ("execute_task model", {GEN_AI: "execute_task", LOOP: "task"}, "other", "execute_task model"),
    ("anything", {GEN_AI: "brand_new"}, "other", "anything"),
    ("anything", {GEN_AI: "brand_new", INFERENCE: "TOOL", "tool.name": "t"}, "tool", "t"),
    ("anything", {GEN_AI: 7}, "other", "anything"),
    ("run", {INFERENCE: "AGENT", "agent.name": "bot"}, "agent", "bot"),
    ("LangGraph", {INFERENCE: "CHAIN"}, "other", "LangGraph"),
    ("ChatOpenAI", {INFERENCE: "LLM", "llm.model_name": "gpt"}, "llm", "gpt"),
    ("search", {INFERENCE: "TOOL", "tool.name": "search"}, "tool", "search"),
    ("docs", {INFERENCE: "RETRIEVER"}, "retrieval", "docs"),
    ("emb", {INFERENCE: "EMBEDDING", "embedding.model_name": "ada"}, "embedding", "ada"),
    ("bot.workflow", {LOOP: "workflow", "traceloop.entity.name": "bot"}, "workflow", "bot"),
    ("bot.agent", {LOOP: "agent", "traceloop.entity.name": "bot"}, "agent", "bot"),
    ("search.tool", {LOOP: "tool", "traceloop.entity.name": "search"}, "tool", "search"),
    ("step.task", {LOOP: "task"}, "other", "step.task"),
    ("openai.chat", {"llm.request.type": "chat", "gen_ai.request.model": "gpt"}, "llm", "gpt"),
    ("openai.embeddings", {"llm.request.type": "embedding", "gen_ai.request.model": "ada"}, "embedding", "ada"),
    ("ChatOpenAI", {SMITH: "llm", GEN_AI: "chat", "gen_ai.request.model": "gpt"}, "llm", "gpt"),
    ("model", {SMITH: "chain", GEN_AI: "chain"}, "other", "model"),
    ("search", {SMITH: "tool", GEN_AI: "execute_tool", "gen_ai.tool.name": "search"}, "tool", "search"),
    ("search", {SMITH: "tool"}, "tool", "search"),
    ("docs", {SMITH: "retriever"}, "retrieval", "docs"),
    (
        "tools/call search",
        {"mcp.method.name": "tools/call", GEN_AI: "execute_tool", "gen_ai.tool.name": "search"},
        "tool",
        "search",
    ),
    ("MCP send tools/call search", {"mcp.method.name": "tools/call"}, "mcp", "search"),
    ("MCP send initialize", {"mcp.method.name": "initialize"}, "mcp", "initialize"),
    ("tools/call search", {"mcp.method.name": "tools/call", "gen_ai.tool.name": "s2"}, "mcp", "s2"),
    (
        "cache get answers",
        {"agentperf.cache.name": "answers", "agentperf.cache.operation": "get", "db.system.name": "redis"},
        "cache",
        "answers",
    ),
    ("connect", {"db.system": "postgresql"}, "db", "connect"),
    ("main", {}, "other", "main"),
    ("", {}, "other", "unnamed"),
]


@pytest.mark.parametrize(("name", "attributes", "kind", "operation"), KINDS)
def test_kind_and_operation(name, attributes, kind, operation):
    found = record(name, attributes=attributes)
    assert (found.kind, found.operation) == (kind, operation)


@pytest.mark.parametrize(("scope", "name", "attributes", "kind", "operation"), BY_SCOPE)
def test_kind_and_operation_by_who_tells_it(scope, name, attributes, kind, operation):
    found = record(name, attributes=attributes, scope=scope)
    assert (found.kind, found.operation) == (kind, operation)


PSEUDO = [
    ("gcp.vertex.agent", "(merged tools)"),
    ("gcp.vertex.agent", "(merged)"),
    ("gcp.vertex.agent", "transfer_to_agent"),
    ("gcp.vertex.agent", "set_model_response"),
    ("gcp.vertex.agent", "finish_task"),
    ("strands.telemetry.tracer", "handoff_to_agent"),
    ("openinference.instrumentation.smolagents", "final_answer"),
    ("openinference.instrumentation.agno", "delegate_task_to_members"),
    ("openinference.instrumentation.dspy", "finish"),
]


@pytest.mark.parametrize(("scope", "tool"), PSEUDO)
def test_pseudo_tools_are_not_tools(scope, tool):
    attributes = {GEN_AI: "execute_tool", "gen_ai.tool.name": tool}
    assert record(f"execute_tool {tool}", scope=scope, attributes=attributes).kind == "other"
    assert record(f"execute_tool {tool}", scope="mine", attributes=attributes).kind == "tool"


def test_an_output_function_is_no_tool_whatever_it_is_called():
    told = {GEN_AI: "execute_tool", "gen_ai.tool.name": "mine", "logfire.msg": "running output function: mine"}
    assert record("execute_tool mine", scope="pydantic-ai", attributes=told).kind == "other"
    assert record("execute_tool mine", scope="mine", attributes=told).kind == "tool"
    told["logfire.msg"] = "running tool: mine"
    assert record("execute_tool mine", scope="pydantic-ai", attributes=told).kind == "tool"


TOKENS = [
    ({"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 3}, (5, 3, None)),
    ({"gen_ai.usage.prompt_tokens": 5, "gen_ai.usage.completion_tokens": 3}, (5, 3, None)),
    ({"llm.token_count.prompt": 5, "llm.token_count.completion": 3}, (5, 3, None)),
    ({"llm.usage.prompt_tokens": 5, "llm.usage.completion_tokens": 3}, (5, 3, None)),
    ({"gen_ai.usage.input_tokens": 5, "gen_ai.usage.cache_read.input_tokens": 2}, (5, None, 2)),
    ({"gen_ai.usage.input_tokens": 5, "gen_ai.usage.cache_read_input_tokens": 2}, (5, None, 2)),
    ({"llm.token_count.prompt": 5, "llm.token_count.prompt_details.cache_read": 2}, (5, None, 2)),
    (
        {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.prompt_tokens": 5, "gen_ai.usage.output_tokens": 0},
        (5, 0, None),
    ),
    ({"gen_ai.usage.input_tokens": "5", "gen_ai.usage.output_tokens": 3.0}, (5, 3, None)),
    ({"gen_ai.usage.input_tokens": "many", "gen_ai.usage.output_tokens": -1}, (None, None, None)),
    ({"gen_ai.usage.input_tokens": math.nan, "gen_ai.usage.output_tokens": math.inf}, (None, None, None)),
    ({"gen_ai.usage.input_tokens": True, "gen_ai.usage.output_tokens": [1]}, (None, None, None)),
    ({}, (None, None, None)),
]


@pytest.mark.parametrize(("attributes", "expected"), TOKENS)
def test_tokens(attributes, expected):
    found = record(attributes={GEN_AI: "chat", **attributes}).tokens
    assert (found.input, found.output, found.cache_read) == expected


def test_tokens_count_on_model_calls_and_agents_only():
    told = {"gen_ai.usage.input_tokens": 5}
    assert record(attributes={GEN_AI: "invoke_agent", **told}).tokens.input == 5
    assert not record(attributes={GEN_AI: "execute_tool", **told}).tokens
    assert not record(attributes={GEN_AI: "invoke_agent", "gen_ai.aggregated_usage.input_tokens": 5}).tokens


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.server.time_to_first_token",
    ],
)
def test_time_to_first_chunk(key):
    assert record(attributes={GEN_AI: "chat", key: 0.4}).first_chunk_s == pytest.approx(0.4)
    assert record(attributes={GEN_AI: "chat", key: math.nan}).first_chunk_s is None


@pytest.mark.parametrize(
    "key",
    ["gen_ai.tool.call.arguments", "tool_arguments", "input.value", "traceloop.entity.input", "gen_ai.prompt"],
)
def test_visible_arguments(key):
    found = record(attributes={GEN_AI: "execute_tool", key: '{"b": 2, "a": 1}'})
    assert found.args == found.args_text == '{"a":1,"b":2}'


@pytest.mark.parametrize(
    "key", ["gen_ai.tool.call.result", "tool_response", "output.value", "traceloop.entity.output", "gen_ai.completion"]
)
def test_visible_results(key):
    found = record(attributes={GEN_AI: "execute_tool", key: "grey"})
    assert found.result == found.result_text == "grey"


def test_a_hash_is_the_identity_even_where_the_text_is_visible():
    found = record(attributes={GEN_AI: "execute_tool", "agentperf.args.hash": "h", "gen_ai.tool.call.arguments": "{}"})
    assert (found.args, found.args_text) == ("h", "{}")


@pytest.mark.parametrize(
    "text", ['{"q": "a lo', "[1, 2", "some text...", "some text…", "x [truncated]", "y" * 20_000, ""]
)
def test_cut_off_content_is_no_identity(text):
    found = record(attributes={GEN_AI: "execute_tool", "input.value": text, "output.value": text})
    assert (found.args, found.args_text, found.result, found.result_text) == (None, None, None, None)


def test_model_calls_take_messages():
    found = record(attributes={GEN_AI: "chat", "gen_ai.input.messages": "[]", "gen_ai.output.messages": "[1]"})
    assert (found.args, found.result) == ("[]", "[1]")


def test_only_model_calls_ask():
    shown = {"gen_ai.output.messages": '[{"parts": [{"type": "tool_call", "name": "t"}]}]'}
    assert record(attributes={GEN_AI: "chat", **shown}).asks == ("t",)
    assert record(attributes={GEN_AI: "invoke_agent", **shown}).asks is None


def test_depends_on_is_known_when_empty():
    assert record(attributes={GEN_AI: "execute_tool", "agentperf.depends_on": ()}).depends_on == ()
    assert record(attributes={GEN_AI: "execute_tool"}).depends_on is None


ERRORS = [
    ({"error.type": "Timeout"}, True, "Timeout"),
    ({"error.type": "tool_error"}, False, "tool_error"),
    ({}, True, "error"),
    ({}, False, None),
    ({"http.request.method": "GET", "http.response.status_code": 503}, False, "503"),
    ({"http.method": "GET", "http.status_code": "404"}, False, "404"),
    ({"http.method": "GET", "http.status_code": 302}, False, None),
    ({"error.type": ""}, False, None),
]


@pytest.mark.parametrize(("attributes", "failed", "error"), ERRORS)
def test_errors(attributes, failed, error):
    assert record(attributes=attributes, failed=failed, side="client").error == error


def test_an_http_server_span_is_no_call():
    assert record("GET /ask", side="server", attributes={"http.request.method": "GET"}).kind == "other"


def test_root_measurements():
    found = record(
        attributes={
            GEN_AI: "invoke_agent",
            "agentperf.caches": '[{"name": "c", "lookups": 3, "hits": 2}]',
            "agentperf.process.memory": 120,
            "agentperf.process.cpu": 55.5,
            "agentperf.incomplete": True,
        }
    )
    assert [(count.name, count.lookups, count.hits, count.miss_s) for count in found.counts] == [("c", 3, 2, 0.0)]
    assert found.usage is not None
    assert (found.usage.memory_mb, found.usage.cpu_percent) == (120.0, 55.5)
    assert found.incomplete


@pytest.mark.parametrize(
    "value", ["", "null", "[1]", '[{"name": "c"}]', '[{"name": "c", "lookups": "x", "hits": 1}]', 7]
)
def test_broken_cache_counts_are_not_told(value):
    assert record(attributes={"agentperf.caches": value}).counts == ()


def test_broken_measurements_are_not_told():
    found = record(
        attributes={
            GEN_AI: "execute_tool",
            "agentperf.cpu_time": math.nan,
            "agentperf.process.memory": "much",
            "agentperf.process.cpu": True,
            "agentperf.result.size": "x",
            "agentperf.depends_on": "abc",
        }
    )
    assert (found.cpu_ns, found.usage, found.result_size, found.depends_on) == (None, None, None, None)


def test_an_end_before_the_start_is_an_end_at_the_start():
    raw = RawSpan(TRACE_ID, "1" * 16, None, "x", {}, 20, 10)
    assert classify(raw).duration_ns == 0


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("x", {GEN_AI: "invoke_agent"}, True),
        ("x", {GEN_AI: "invoke_workflow"}, True),
        ("invoke_agent x", {GEN_AI: "chat"}, False),
        ("invoke_agent x", {}, True),
        ("invoke_swarm", {}, True),
        ("x", {GEN_AI: "invoke_graph"}, True),
        ("x", {INFERENCE: "AGENT"}, True),
        ("x", {LOOP: "workflow"}, True),
        ("x", {INFERENCE: "CHAIN"}, True),
        ("x", {SMITH: "chain"}, True),
        ("x", {INFERENCE: "CHAIN", GEN_AI: "execute_task"}, False),
        ("x", {INFERENCE: "TOOL"}, False),
        ("x", {}, False),
    ],
)
def test_looks_like_agent(name, attributes, expected):
    assert looks_like_agent(name, attributes) is expected


def test_a_recorded_exception_names_the_error_of_a_failed_span():
    assert record(failed=True, exception="openai.RateLimitError").error == "openai.RateLimitError"
    assert record(failed=True, exception="X", attributes={"error.type": "timeout"}).error == "timeout"
    assert record(exception="X").error is None


def test_a_task_goes_by_its_bare_name():
    told = {"traceloop.span.kind": "task", "traceloop.entity.name": "execute"}
    assert record(name="execute.task", attributes=told).operation == "execute"


def test_a_step_that_looks_like_a_tool_is_none():
    told = {GEN_AI: "execute_tool", "gen_ai.tool.name": "Answer"}
    assert record(attributes=told).kind == "tool"
    assert record(attributes={**told, "agentperf.step": True}).kind == "other"


def test_names_as_long_as_texts_are_cut_and_told_apart():
    one, other = (record(attributes={GEN_AI: "execute_tool", "gen_ai.tool.name": "x" * 100_000 + end}) for end in "ab")
    assert one.operation != other.operation
    assert len(one.operation) < 1_100
    assert one.operation.startswith("x" * 1_000)
    assert len(record("y" * 100_000).name) < 1_100
    assert len(record(failed=True, exception="z" * 100_000).error or "") < 1_100


def test_texts_too_long_to_keep_are_known_by_their_hash():
    values = {f"db.query.parameter.{number}": "v" * 1_000 for number in range(50)}
    one, same, other = (
        record(attributes={"db.system.name": "x", "db.query.text": "SELECT ?", **values, "db.query.parameter.1": last})
        for last in ("a", "a", "b")
    )
    assert one.args == same.args != other.args
    assert len(one.args or "") == 16
    assert one.args_text is None


def test_a_query_too_long_to_be_looked_at_has_a_template_and_no_identity():
    ids = ", ".join(map(str, range(100_000)))
    long, longer = (
        record(attributes={"db.system.name": "x", "db.query.text": f"SELECT a FROM t WHERE id IN ({ids}{more})"})
        for more in ("", ", 7, 8")
    )
    assert long.operation == longer.operation == "SELECT a FROM t WHERE id IN (?)"
    assert long.args is longer.args is None
