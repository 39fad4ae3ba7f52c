"""AutoGen: agents, teams, tools, hand-offs and model calls once each, with its own spans going our way or nowhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, BaseChatAgent, SocietyOfMindAgent
from autogen_agentchat.base import Response
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.messages import ModelClientStreamingChunkEvent, TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import CancellationToken, FunctionCall, SingleThreadedAgentRuntime
from autogen_core.models import ChatCompletionClient, CreateResult, ModelInfo, RequestUsage, UserMessage
from autogen_core.tools import FunctionTool, TextResultContent, ToolResult, Workbench
from autogen_ext.cache_store.diskcache import DiskCacheStore
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, Refusal, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("modern",)
REQUIRES = ("autogen-ext[openai,diskcache]>=0.7,<1", "openai>=3,<4")

INFO = ModelInfo(vision=False, function_calling=True, json_output=False, family="unknown", structured_output=False)
USAGE = RequestUsage(prompt_tokens=INPUT, completion_tokens=OUTPUT)
REPLAY = "ReplayChatCompletionClient"


@pytest.fixture(params=["a provider of our own", "the global provider"])
def recorded(
    request: pytest.FixtureRequest, instrumented: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch
) -> Recorded:
    """AutoGen's own spans go nowhere, or the way that ours go."""
    recorded = instrumented()
    if request.param == "the global provider":
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorded.provider)
    return recorded


@pytest.fixture(autouse=True)
def _nothing_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert "detach" not in caplog.text
    assert not get_current_span().get_span_context().is_valid


def says(text: str = "done") -> CreateResult:
    return CreateResult(finish_reason="stop", content=text, usage=USAGE, cached=False)


def asks(*tools: tuple[str, str]) -> CreateResult:
    content = [
        FunctionCall(id=f"{name}-{place}", name=name, arguments=given) for place, (name, given) in enumerate(tools)
    ]
    return CreateResult(finish_reason="function_calls", content=content, usage=USAGE, cached=False)


def replay(*answers: CreateResult | str) -> ReplayChatCompletionClient:
    return ReplayChatCompletionClient(list(answers), model_info=INFO)


def get_weather(city: str) -> str:
    """The weather SECRETDOC."""
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


async def get_time(city: str) -> str:
    """The time."""
    with otel_agentperf.retrieval("clock"):
        await asyncio.sleep(0.01)
    return city


def broken(city: str) -> str:
    """Fails."""
    raise LookupError(city)


TWO_TURNS = (asks(("get_weather", '{"city": "Paris"}'), ("get_time", '{"city": "Rome"}')), says())


def planner(*answers: CreateResult | str, name: str = "planner", **more: Any) -> AssistantAgent:
    tools = {"tools": [get_weather, get_time], "reflect_on_tool_use": True}
    return AssistantAgent(name, replay(*answers), description="SECRETDOC", **{**tools, **more})


def writer(*answers: CreateResult | str, name: str = "writer", **more: Any) -> AssistantAgent:
    return AssistantAgent(name, replay(*answers), **more)


async def run(runner: Any) -> None:
    await runner.run(task="hello secret")


async def run_stream(runner: Any) -> None:
    async for _ in runner.run_stream(task="hello secret"):
        assert not get_current_span().get_span_context().is_valid, "the reader is not inside the agent"


async def on_messages(agent: Any) -> None:
    await agent.on_messages([TextMessage(content="hello secret", source="user")], CancellationToken())


async def on_messages_stream(agent: Any) -> None:
    async for _ in agent.on_messages_stream([TextMessage(content="hello secret", source="user")], CancellationToken()):
        assert not get_current_span().get_span_context().is_valid


def expect_two_turns(recorded: Recorded, model: str = REPLAY) -> None:
    report = recorded.report
    assert recorded.traces == 1
    assert report.root.name == "invoke_agent planner"
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(report, "llm") == {model: 2}
    assert counted(report, "retrieval") == {"almanac": 1, "clock": 1}
    assert (report.tokens.input, report.tokens.output) == (2 * INPUT, 2 * OUTPUT)
    assert report.errors("agent", "tool", "llm") == 0
    assert recorded.parent(recorded.one("execute_tool get_weather")) == "invoke_agent planner"
    assert recorded.parent(recorded.one("retrieval almanac")) == "execute_tool get_weather"
    assert recorded.parent(recorded.one("retrieval clock")) == "execute_tool get_time"


def error_of(recorded: Recorded, name: str) -> Any:
    return dict(recorded.one(name).attributes or {}).get("error.type")


# --- agents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [run, run_stream, on_messages, on_messages_stream])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_agent_its_tools_and_its_model(recorded: Recorded, way: Any, streamed: bool) -> None:
    asyncio.run(way(planner(*TWO_TURNS, model_client_stream=streamed)))
    expect_two_turns(recorded)
    tool = recorded.one("execute_tool get_weather").attributes
    assert tool is not None
    assert tool["gen_ai.tool.call.id"] == "get_weather-0"
    assert {"agentperf.args.hash", "agentperf.result.hash"} <= tool.keys()
    shown = str([(span.name, dict(span.attributes or {})) for span in recorded.spans])
    assert not any(word in shown for word in ("Paris", "secret", "SECRETDOC", "create_agent"))


def test_equal_calls_have_equal_hashes(recorded: Recorded) -> None:
    asked = (
        ("get_weather", '{"city": "Paris"}'),
        ("get_weather", '{ "city":"Paris" }'),
        ("get_weather", '{"city":"Rome"}'),
    )
    asyncio.run(run(planner(asks(*asked), says())))
    hashes = [dict(span.attributes or {})["agentperf.args.hash"] for span in recorded.named("execute_tool get_weather")]
    assert sorted(hashes.count(one) for one in hashes) == [1, 2, 2]


@pytest.mark.parametrize("way", [run, run_stream])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_openai_client_below_is_the_same_call(recorded: Recorded, way: Any, streamed: bool) -> None:
    async def go(url: str) -> None:
        client = OpenAIChatCompletionClient(
            model="gpt-stub", base_url=url, api_key="none", model_info=INFO, stream_options={"include_usage": True}
        )
        agent = AssistantAgent("planner", client, tools=[get_weather, get_time], reflect_on_tool_use=True,
                               model_client_stream=streamed)  # fmt: skip
        await way(agent)
        await client.close()

    served = calls(("get_weather", {"city": "Paris"}), ("get_time", {"city": "Rome"})), "done"
    with ModelServer(*served) as server:
        asyncio.run(go(server.url))
    expect_two_turns(recorded, "gpt-stub")
    assert recorded.report.tokens.cache_read == 2 * CACHED


def test_an_agent_as_a_tool_is_a_sub_agent(recorded: Recorded) -> None:
    helper = planner(*TWO_TURNS, name="helper")
    asyncio.run(run(planner(asks(("helper", '{"task": "?"}')), says(), name="boss", tools=[AgentTool(helper)])))
    assert counted(recorded.report, "agent") == {"boss": 1, "helper": 1}
    assert counted(recorded.report, "tool") == {"helper": 1, "get_weather": 1, "get_time": 1}
    assert counted(recorded.report, "llm") == {REPLAY: 4}
    assert recorded.parent(recorded.one("invoke_agent helper")) == "execute_tool helper"


def test_agents_of_the_users_own(recorded: Recorded) -> None:
    class Echo(BaseChatAgent):
        produced_message_types = (TextMessage,)

        async def on_messages(self, messages: Any, cancellation_token: CancellationToken) -> Response:
            with otel_agentperf.tool("look"):
                return Response(chat_message=TextMessage(content="echo", source=self.name))

        async def on_reset(self, cancellation_token: CancellationToken) -> None: ...

    class Loud(Echo):
        async def on_messages(self, messages: Any, cancellation_token: CancellationToken) -> Response:
            return await super().on_messages(messages, cancellation_token)

    for way in (run, run_stream, on_messages, on_messages_stream):
        recorded.forget()
        asyncio.run(way(Loud("echo", "")))
        assert recorded.tree == [("invoke_agent echo", ["execute_tool look"])]


def test_runs_side_by_side_are_kept_apart(recorded: Recorded) -> None:
    async def both() -> None:
        await asyncio.gather(*(run(planner(*TWO_TURNS, name=name)) for name in ("left", "right")))

    asyncio.run(both())
    assert len(recorded.reports) == 2
    assert [counted(report, "tool") for report in recorded.reports] == [{"get_weather": 1, "get_time": 1}] * 2


# --- teams ----------------------------------------------------------------------------------------------


def round_robin(**more: Any) -> RoundRobinGroupChat:
    critic = planner(
        asks(("get_weather", '{"city": "Oslo"}')), says("APPROVE"), name="critic", reflect_on_tool_use=False
    )
    ends = TextMentionTermination("APPROVE") | MaxMessageTermination(6)
    return RoundRobinGroupChat([writer(says("a"), says("b")), critic], termination_condition=ends, **more)


@pytest.mark.parametrize("way", [run, run_stream])
@pytest.mark.parametrize("runtime", ["of the team's own", "started before", "started inside a span"])
def test_a_team_is_one_run(recorded: Recorded, way: Any, runtime: str) -> None:
    async def go() -> None:
        if runtime == "of the team's own":
            team = round_robin()
            await way(team)
        else:
            shared = SingleThreadedAgentRuntime()
            if runtime == "started before":
                shared.start()
            else:
                with recorded.provider.get_tracer("web").start_as_current_span("start"):
                    shared.start()
            team = round_robin(runtime=shared)
            await way(team)
            await shared.stop_when_idle()
        await team.save_state()
        if runtime == "of the team's own":
            await team.reset()

    asyncio.run(go())
    report = recorded.report if runtime != "started inside a span" else recorded.reports[-1]
    assert report.root.name == "invoke_workflow RoundRobinGroupChat"
    assert counted(report, "agent") == {"writer": 2, "critic": 2}
    assert counted(report, "tool") == {"get_weather": 1}
    assert counted(report, "llm") == {REPLAY: 4}
    assert report.tokens.input == 4 * INPUT
    assert not report.run.incomplete
    assert {recorded.parent(span) for span in recorded.named("invoke_agent writer")} == {report.root.name}
    assert not any(span.name.startswith("autogen") for span in recorded.spans)


def test_the_messages_of_a_team_where_they_are_wanted(
    instrumented: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOGEN_DISABLE_RUNTIME_TRACING", "false")
    recorded = instrumented()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorded.provider)
    asyncio.run(run(round_robin()))
    assert any(span.name.startswith("autogen publish") for span in recorded.spans)
    assert recorded.traces == 1
    assert counted(recorded.report, "agent") == {"writer": 2, "critic": 2}
    assert "hello secret" not in str([dict(span.attributes or {}) for span in recorded.spans])


def test_a_hand_off_is_a_step(recorded: Recorded) -> None:
    triage = writer(asks(("transfer_to_refunds", "{}")), name="triage", handoffs=["refunds"])
    refunds = planner(*TWO_TURNS[:1], says("TERMINATE"), name="refunds")
    asyncio.run(run(Swarm([triage, refunds], termination_condition=TextMentionTermination("TERMINATE"))))
    assert counted(recorded.report, "agent") == {"triage": 1, "refunds": 1}
    assert counted(recorded.report, "tool") == {"get_weather": 1, "get_time": 1}
    assert recorded.parent(recorded.one("handoff triage to refunds")) == "invoke_agent triage"


def test_a_selector_asks_a_model_too(recorded: Recorded) -> None:
    agents = [writer(says(), description="w"), writer(says("APPROVE"), name="critic", description="c")]
    ends = TextMentionTermination("APPROVE")
    team = SelectorGroupChat(agents, model_client=replay("writer", "critic"), termination_condition=ends)  # type: ignore[arg-type]
    asyncio.run(run(team))
    assert counted(recorded.report, "agent") == {"writer": 1, "critic": 1}
    assert counted(recorded.report, "llm") == {REPLAY: 3}, "the second choice leaves no choice"
    assert recorded.traces == 1


def test_teams_inside_agents_and_tools(recorded: Recorded) -> None:
    inner = RoundRobinGroupChat([writer(says(), name="inner")], max_turns=1, name="inner_team")
    mind = SocietyOfMindAgent("mind", inner, replay(says()))
    asyncio.run(run(RoundRobinGroupChat([mind], max_turns=1)))
    assert recorded.tree == [
        ("invoke_workflow RoundRobinGroupChat", [
            ("invoke_agent mind", [
                ("invoke_workflow inner_team", [("invoke_agent inner", [f"chat {REPLAY}"])]),
                f"chat {REPLAY}",
            ])
        ])
    ]  # fmt: skip
    recorded.forget()
    team = RoundRobinGroupChat([writer(says(), name="member")], max_turns=1, name="crew")
    tool = TeamTool(team, name="crew", description="Asks.")
    asyncio.run(run(planner(asks(("crew", '{"task": "?"}')), says(), name="boss", tools=[tool])))
    assert recorded.parent(recorded.one("invoke_workflow crew")) == "execute_tool crew"


def test_a_team_inside_a_team(recorded: Recorded) -> None:
    inner = RoundRobinGroupChat([writer(says(), name="inner")], max_turns=1, name="inner_team")
    asyncio.run(run(RoundRobinGroupChat([inner, writer(says())], max_turns=2)))
    assert recorded.parent(recorded.one("invoke_workflow inner_team")) == "invoke_workflow RoundRobinGroupChat"
    assert counted(recorded.report, "agent") == {"inner": 1, "writer": 1}


def test_a_team_that_fails(recorded: Recorded) -> None:
    with pytest.raises(RuntimeError, match="No more mock"):
        asyncio.run(run(RoundRobinGroupChat([writer(says())], max_turns=3)))
    assert error_of(recorded, "invoke_workflow RoundRobinGroupChat") == "RuntimeError"
    assert recorded.report.errors("agent") == 1
    assert recorded.report.errors("llm") == 1
    assert all(not span.events or span.parent is None for span in recorded.spans), "no stack trace, no message"


# --- tools and models -----------------------------------------------------------------------------------


def test_a_failing_tool_is_an_error_though_the_model_is_told(recorded: Recorded) -> None:
    asyncio.run(run(planner(asks(("broken", '{"city": "Paris"}')), says(), tools=[broken])))
    assert error_of(recorded, "execute_tool broken") == "LookupError"
    assert recorded.report.errors("tool") == 1
    assert recorded.report.errors("agent", "llm") == 0


class Box(Workbench):
    """A workbench of the user's own, which may use AutoGen's tools."""

    component_config_schema = TextMessage
    component_provider_override = "test"

    def __init__(self) -> None:
        self.tool = FunctionTool(get_weather, description="")

    async def list_tools(self) -> Any:
        return [self.tool.schema, {"name": "other", "description": "", "parameters": {}}]

    async def call_tool(
        self, name: str, arguments: Any = None, cancellation_token: Any = None, call_id: Any = None
    ) -> Any:
        if name == "other":
            return ToolResult(name=name, result=[TextResultContent(content="no")], is_error=True)
        found = await self.tool.run_json(arguments, cancellation_token or CancellationToken(), call_id=call_id)
        return ToolResult(name=name, result=[TextResultContent(content=found)], is_error=False)

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def reset(self) -> None: ...
    async def save_state(self) -> Any: ...
    async def load_state(self, state: Any) -> None: ...


def test_a_workbenchs_tools_count_once(recorded: Recorded) -> None:
    asked = asks(("get_weather", '{"city": "Paris"}'), ("other", "{}"))
    asyncio.run(run(AssistantAgent("planner", replay(asked, says()), workbench=Box(), reflect_on_tool_use=True)))
    assert counted(recorded.report, "tool") == {"get_weather": 1, "other": 1}
    assert error_of(recorded, "execute_tool other") == "tool_error"
    assert recorded.report.errors("tool") == 1


class Own(ChatCompletionClient):
    """A client of the user's own that passes on."""

    def __init__(self, inner: ChatCompletionClient, model: str) -> None:
        self.inner, self.model = inner, model

    async def create(self, messages: Any, **more: Any) -> CreateResult:
        return await self.inner.create(messages, **more)

    async def create_stream(self, messages: Any, **more: Any) -> AsyncGenerator[str | CreateResult, None]:
        async for item in self.inner.create_stream(messages, **more):
            yield item

    async def close(self) -> None: ...
    def actual_usage(self) -> RequestUsage:
        return USAGE

    def total_usage(self) -> RequestUsage:
        return USAGE

    def count_tokens(self, messages: Any, **more: Any) -> int:
        return 0

    def remaining_tokens(self, messages: Any, **more: Any) -> int:
        return 0

    capabilities = model_info = property(lambda self: INFO)  # type: ignore[assignment]


class Fixed(Own):
    """One that answers by itself."""

    async def create(self, messages: Any, **more: Any) -> CreateResult:
        return says()


@pytest.mark.parametrize("streamed", [False, True])
def test_clients_of_the_users_own(recorded: Recorded, streamed: bool) -> None:
    asyncio.run(run(AssistantAgent("planner", Own(replay(says()), "mine"), model_client_stream=streamed)))
    assert sum(counted(recorded.report, "llm").values()) == 1
    assert (recorded.report.tokens.input, recorded.report.tokens.output) == (INPUT, OUTPUT)
    recorded.forget()
    asyncio.run(run(AssistantAgent("planner", Fixed(replay(), "fixed-1"))))
    assert counted(recorded.report, "llm") == {"fixed-1": 1}


def test_an_answer_out_of_the_cache_is_no_call(recorded: Recorded, tmp_path: Path) -> None:
    from autogen_ext.models.cache import ChatCompletionCache
    from diskcache import Cache

    with Cache(str(tmp_path)) as cache:
        client = ChatCompletionCache(replay(says(), says()), DiskCacheStore(cache))

        async def twice() -> None:
            with otel_agentperf.agent("own"):
                for _ in range(2):
                    await client.create([UserMessage(content="hello", source="user")])

        asyncio.run(twice())
    assert counted(recorded.report, "llm") == {REPLAY: 1}
    assert [(one.name, one.hits, one.lookups) for one in recorded.report.caches] == [("ChatCompletionCache", 1, 2)]


def test_a_streamed_answer_out_of_a_cache_in_memory(recorded: Recorded) -> None:
    from autogen_ext.models.cache import ChatCompletionCache

    async def ask(client: Any, question: str) -> None:
        async for _ in client.create_stream([UserMessage(content=question, source="user")]):
            assert get_current_span() is own.span

    with otel_agentperf.agent("own") as own:
        client = ChatCompletionCache(replay(says(), says()))
        for question in ("hello", "hello", "bye"):
            asyncio.run(ask(client, question))
    assert counted(recorded.report, "llm") == {REPLAY: 2}
    assert [(one.name, one.hits, one.lookups) for one in recorded.report.caches] == [("ChatCompletionCache", 1, 3)]


def test_a_refused_request(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        client = OpenAIChatCompletionClient(
            model="gpt-stub", base_url=url, api_key="none", model_info=INFO, max_retries=0
        )
        try:
            await run(AssistantAgent("planner", client))
        finally:
            await client.close()

    with ModelServer(Refusal(400)) as server, pytest.raises(Exception, match="no"):
        asyncio.run(go(server.url))
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.errors("llm", "agent") == 2


# --- ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [False, True])
def test_leaving_a_stream_early_is_no_error(recorded: Recorded, closed: bool) -> None:
    async def leave() -> None:
        stream = planner("one two three", tools=[], reflect_on_tool_use=False, model_client_stream=True).run_stream(
            task="?"
        )
        async for item in stream:
            if isinstance(item, ModelClientStreamingChunkEvent):
                break
        if closed:
            await stream.aclose()

    asyncio.run(leave())
    assert recorded.tree == [("invoke_agent planner", [f"chat {REPLAY}"])]
    assert recorded.report.errors("agent", "llm") == 0
    assert not recorded.report.run.incomplete


def test_leaving_a_teams_stream_early(recorded: Recorded) -> None:
    async def leave() -> None:
        async for _ in RoundRobinGroupChat([writer(says(), says())], max_turns=2).run_stream(task="?"):
            break
        await asyncio.sleep(0.1)

    asyncio.run(leave())
    assert recorded.report.root.name == "invoke_workflow RoundRobinGroupChat"
    assert recorded.report.errors("workflow") == 0


def test_a_cancelled_run(recorded: Recorded) -> None:
    async def wait(city: str) -> str:
        """Waits."""
        await asyncio.sleep(30)
        return city

    async def cancel() -> None:
        agent = planner(asks(("wait", '{"city": "Paris"}')), says(), tools=[wait])
        task = asyncio.create_task(run(agent))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(cancel())
    assert error_of(recorded, "invoke_agent planner") == "CancelledError"
    assert error_of(recorded, "execute_tool wait") == "CancelledError"


def test_suppressed_means_untraced(recorded: Recorded) -> None:
    with suppress_instrumentation():
        asyncio.run(run(planner(*TWO_TURNS)))
        asyncio.run(run(round_robin()))
    assert recorded.spans == []


def test_taking_it_back(instrumented: Callable[..., Recorded]) -> None:
    methods = (AssistantAgent, "on_messages_stream"), (AssistantAgent, "_execute_tool_call"), (Own, "create")
    before = [vars(cls)[name] for cls, name in methods]
    recorded = instrumented()
    assert all(vars(cls)[name] is not was for (cls, name), was in zip(methods, before, strict=True))
    otel_agentperf.uninstrument()
    assert all(vars(cls)[name] is was for (cls, name), was in zip(methods, before, strict=True))
    asyncio.run(run(writer(says())))
    assert recorded.spans == []


PROGRAM = f"""
    import asyncio, sys, time
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from test_autogen import *

    async def main():
        print((await planner(*TWO_TURNS).run(task="hello")).messages[-1].content)
        async for message in round_robin().run_stream(task="write"):
            print(type(message).__name__)
        helper = planner(*TWO_TURNS, name="helper")
        boss = planner(asks(("helper", '{{"task": "?"}}'), ("broken", '{{"city": "x"}}')), says(), name="boss",
                       tools=[AgentTool(helper), broken])
        print((await boss.run(task="hello")).messages[-1].content)
        triage = writer(asks(("transfer_to_refunds", "{{}}")), name="triage", handoffs=["refunds"])
        ends = TextMentionTermination("TERMINATE")
        team = Swarm([triage, writer(says("TERMINATE"), name="refunds")], termination_condition=ends)
        print((await team.run(task="refund")).stop_reason)
        early = planner("one two", tools=[], reflect_on_tool_use=False, model_client_stream=True)
        async for message in early.run_stream(task="?"):
            if isinstance(message, ModelClientStreamingChunkEvent):
                break

    asyncio.run(main())
"""


def test_a_users_program_in_each_way(tmp_path: Path) -> None:
    started = time.perf_counter()
    told = three_ways(PROGRAM, tmp_path, env={"PYTHONPATH": str(Path(__file__).parent.parent)})
    assert time.perf_counter() - started < 100
    assert sorted(told.runs) == ["RoundRobinGroupChat", "Swarm", "boss", "planner", "planner"]
    assert told.agents == {
        "planner": 2, "writer": 2, "critic": 2, "boss": 1, "helper": 1, "triage": 1, "refunds": 1,
    }  # fmt: skip
    assert told.tools == {"get_weather": 3, "get_time": 2, "helper": 1, "broken": 1}
    assert told.llm == {REPLAY: 13}
    assert told.errors == {"broken": 1}
    assert told.tokens["input"] == 12 * INPUT
