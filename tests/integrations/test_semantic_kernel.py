"""Semantic Kernel: agents, functions, model calls and orchestrations once each, whatever its own spans are set to."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Pydantic's, of Semantic Kernel's own models
    from semantic_kernel import Kernel
    from semantic_kernel.agents import (
        AgentGroupChat,
        ChatCompletionAgent,
        ConcurrentOrchestration,
        GroupChatOrchestration,
        HandoffOrchestration,
        OrchestrationHandoffs,
        RoundRobinGroupChatManager,
        SequentialOrchestration,
    )
    from semantic_kernel.agents.runtime import InProcessRuntime
    from semantic_kernel.agents.strategies import DefaultTerminationStrategy
    from semantic_kernel.connectors.ai import chat_completion_client_base
    from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
    from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
    from semantic_kernel.contents import ChatHistory, ChatMessageContent, StreamingChatMessageContent
    from semantic_kernel.functions import KernelArguments, kernel_function
    from semantic_kernel.utils.telemetry.agent_diagnostics import decorators as agent_decorators
    from semantic_kernel.utils.telemetry.model_diagnostics import decorators as model_decorators

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, Refusal, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

kernel_function_module = sys.modules["semantic_kernel.functions.kernel_function"]
ENVIRONMENTS = ("modern",)
REQUIRES = ("openai>=3",)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(params=["a provider of our own", "the global provider", "diagnostics on"])
def recorded(
    request: pytest.FixtureRequest, instrumented: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch
) -> Recorded:
    """Semantic Kernel's own spans go nowhere, or the way that ours go: those of functions, or all."""
    recorded = instrumented()
    if request.param != "a provider of our own":
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorded.provider)
    for module in (agent_decorators, model_decorators, kernel_function_module, chat_completion_client_base):
        monkeypatch.setattr(module, "tracer", trace.get_tracer(module.__name__))
    if request.param == "diagnostics on":
        for module in (agent_decorators, model_decorators):
            monkeypatch.setattr(module.MODEL_DIAGNOSTICS_SETTINGS, "enable_otel_diagnostics", True)
    return recorded


@pytest.fixture(autouse=True)
def _nothing_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert "detach" not in caplog.text
    assert not get_current_span().get_span_context().is_valid


class Menu:
    @kernel_function(description="The weather SECRETDOC")
    def get_weather(self, city: str) -> str:
        with otel_agentperf.retrieval("almanac"):
            return f"sunny in {city}"

    @kernel_function(description="The time")
    async def get_time(self, city: str) -> str:
        with otel_agentperf.retrieval("clock"):
            await asyncio.sleep(0.01)
        return city

    @kernel_function(description="Fails")
    def broken(self, city: str) -> str:
        raise LookupError(city)

    @kernel_function(description="Waits")
    async def wait(self, city: str) -> str:
        await asyncio.sleep(30)
        return city


SERVED = (calls(("Menu-get_weather", {"city": "Paris"}), ("Menu-get_time", {"city": "Rome"})), "done")
_clients: list[AsyncOpenAI] = []


def service(url: str) -> OpenAIChatCompletion:
    _clients.append(AsyncOpenAI(base_url=url, api_key="none", max_retries=0))
    return OpenAIChatCompletion(ai_model_id="gpt-stub", async_client=_clients[-1])


def planner(url: str, name: str = "planner", plugins: Any = None, **more: Any) -> ChatCompletionAgent:
    own = [Menu()] if plugins is None else plugins
    return ChatCompletionAgent(service=service(url), name=name, description="SECRETDOC", plugins=own, **more)


def serve(go: Callable[[str], Any], *served: Any) -> Any:
    async def close_after(url: str) -> Any:
        try:
            return await go(url)
        finally:
            while _clients:
                await _clients.pop().close()

    with ModelServer(*(served or SERVED)) as server:
        return asyncio.run(close_after(server.url))


async def get_response(agent: Any) -> None:
    await agent.get_response(messages="hello secret")


async def invoke(agent: Any) -> None:
    async for _ in agent.invoke(messages="hello secret"):
        assert not get_current_span().get_span_context().is_valid, "the reader is not inside the agent"


async def invoke_stream(agent: Any) -> None:
    async for _ in agent.invoke_stream(messages="hello secret"):
        assert not get_current_span().get_span_context().is_valid


ways = pytest.mark.parametrize("way", [get_response, invoke, invoke_stream])


def error_of(recorded: Recorded, name: str) -> Any:
    return dict(recorded.one(name).attributes or {}).get("error.type")


# --- agents and functions -------------------------------------------------------------------------------


@ways
def test_an_agent_its_functions_and_its_model(recorded: Recorded, way: Any) -> None:
    serve(lambda url: way(planner(url)))
    report = recorded.report
    assert recorded.traces == 1
    assert report.root.name == "invoke_agent planner"
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"Menu-get_weather": 1, "Menu-get_time": 1}
    assert counted(report, "llm") == {"gpt-stub": 2}
    assert (report.tokens.input, report.tokens.output, report.tokens.cache_read) == (2 * INPUT, 2 * OUTPUT, 2 * CACHED)
    assert report.errors("agent", "tool", "llm") == 0
    assert recorded.parent(recorded.one("execute_tool Menu-get_weather")) == "invoke_agent planner"
    assert recorded.parent(recorded.one("retrieval almanac")) == "execute_tool Menu-get_weather"
    assert recorded.parent(recorded.one("retrieval clock")) == "execute_tool Menu-get_time"
    told = recorded.one("execute_tool Menu-get_weather").attributes
    assert told is not None
    assert str(told["gen_ai.tool.call.id"]).startswith("call_")
    assert {"agentperf.args.hash", "agentperf.result.hash"} <= told.keys()
    shown = str([(span.name, dict(span.attributes or {})) for span in recorded.spans])
    assert not any(word in shown for word in ("Paris", "secret", "SECRETDOC"))
    assert {span.instrumentation_scope.name for span in recorded.spans} == {"otel_agentperf"}  # type: ignore[union-attr]


@ways
def test_an_agent_as_a_plugin_is_a_sub_agent(recorded: Recorded, way: Any) -> None:
    async def go(url: str) -> None:
        await way(planner(url, "boss", [planner(url, "helper")]))

    serve(go, calls(("helper-helper", {"messages": "?"})), *SERVED, "fine")
    assert counted(recorded.report, "agent") == {"boss": 1, "helper": 1}
    assert counted(recorded.report, "tool") == {"helper-helper": 1, "Menu-get_weather": 1, "Menu-get_time": 1}
    assert counted(recorded.report, "llm") == {"gpt-stub": 4}
    assert recorded.parent(recorded.one("invoke_agent helper")) == "execute_tool helper-helper"


def test_what_the_program_calls(recorded: Recorded) -> None:
    """A function is a tool; a prompt is no more than the model call in it."""

    async def go(url: str) -> None:
        kernel = Kernel()
        kernel.add_service(service(url))
        kernel.add_plugin(Menu(), "Menu")
        with otel_agentperf.agent("own"):
            await kernel.invoke(plugin_name="Menu", function_name="get_weather", city="Oslo")
            await kernel.invoke_prompt("Say hello")
            async for _ in kernel.invoke_prompt_stream("Say hello"):
                pass

    serve(go)
    assert counted(recorded.report, "tool") == {"Menu-get_weather": 1}
    assert counted(recorded.report, "llm") == {"gpt-stub": 2}


class Mine(ChatCompletionClientBase):
    """A service of the user's own."""

    async def _inner_get_chat_message_contents(self, chat_history: Any, settings: Any) -> Any:
        return [ChatMessageContent(role="assistant", content="hi")]  # type: ignore[call-overload]

    async def _inner_get_streaming_chat_message_contents(
        self, chat_history: Any, settings: Any, function_invoke_attempt: int = 0
    ) -> AsyncGenerator[Any, Any]:
        for word in ("hi", "there"):
            yield [StreamingChatMessageContent(role="assistant", content=word, choice_index=0, ai_model_id="mine-1")]  # type: ignore[call-overload]


@ways
def test_services_of_the_users_own(recorded: Recorded, way: Any) -> None:
    asyncio.run(way(ChatCompletionAgent(service=Mine(ai_model_id="mine-1"), name="planner")))
    assert recorded.tree == [("invoke_agent planner", ["chat mine-1"])]


async def answered(url: str, kernel: Kernel, settings: Any) -> None:
    await service(url).get_chat_message_content(ChatHistory(system_message="SECRETDOC"), settings, kernel=kernel)


async def streamed(url: str, kernel: Kernel, settings: Any) -> None:
    async for _ in service(url).get_streaming_chat_message_content(
        ChatHistory(system_message="SECRETDOC"), settings, kernel=kernel
    ):
        assert not get_current_span().get_span_context().is_valid


async def prompted(url: str, kernel: Kernel, settings: Any) -> None:
    kernel.add_service(service(url))
    await kernel.invoke_prompt("SECRETDOC", arguments=KernelArguments(settings=settings))


@pytest.mark.parametrize("way", [answered, streamed, prompted])
def test_a_service_that_calls_functions_itself_is_one_run(recorded: Recorded, way: Any) -> None:
    async def go(url: str) -> None:
        kernel = Kernel()
        kernel.add_plugin(Menu(), "Menu")
        await way(
            url, kernel, OpenAIChatPromptExecutionSettings(function_choice_behavior=FunctionChoiceBehavior.Auto())
        )

    serve(go)
    assert recorded.report.root.name == "invoke_workflow AutoFunctionInvocationLoop"
    assert recorded.traces == 1
    assert counted(recorded.report, "llm") == {"gpt-stub": 2}
    assert counted(recorded.report, "tool") == {"Menu-get_weather": 1, "Menu-get_time": 1}
    assert "SECRETDOC" not in str([span.to_json() for span in recorded.spans])


def test_runs_side_by_side_are_kept_apart(recorded: Recorded) -> None:
    async def both(url: str) -> None:
        await asyncio.gather(get_response(planner(url, "left")), get_response(planner(url, "right")))

    serve(both, SERVED[0], SERVED[0], "done", "done")
    assert sorted(report.root.name for report in recorded.reports) == ["invoke_agent left", "invoke_agent right"]


# --- several agents -------------------------------------------------------------------------------------


async def orchestrate(orchestration: Any) -> None:
    runtime = InProcessRuntime()
    runtime.start()
    result = await orchestration.invoke("hello secret", runtime)
    await result.get(timeout=20)
    await runtime.stop_when_idle()


def expect_orchestration(recorded: Recorded, name: str, agents: dict[str, int], llm: int) -> None:
    report = recorded.report
    assert recorded.traces == 1
    assert (report.root.kind, report.root.operation) == ("workflow", name)
    assert counted(report, "agent") == agents
    assert sum(counted(report, "llm").values()) == llm
    assert not report.run.incomplete
    assert report.errors("workflow", "agent", "llm") == 0
    for agent in agents:
        assert {recorded.parent(span) for span in recorded.named(f"invoke_agent {agent}")} == {report.root.name}


def test_a_sequence(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        await orchestrate(SequentialOrchestration(members=[planner(url, "writer"), planner(url, "editor", [])]))

    serve(go, *SERVED, "good")
    expect_orchestration(recorded, "SequentialOrchestration", {"writer": 1, "editor": 1}, 3)
    assert counted(recorded.report, "tool") == {"Menu-get_weather": 1, "Menu-get_time": 1}


def test_agents_at_the_same_time(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        members = [planner(url, "left", []), planner(url, "right", [])]
        await orchestrate(ConcurrentOrchestration(members=members, name="both"))  # type: ignore[arg-type]

    serve(go, "one", "two")
    expect_orchestration(recorded, "both", {"left": 1, "right": 1}, 2)


def test_a_group_chat(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        members = [planner(url, "a", []), planner(url, "b", [])]
        manager = RoundRobinGroupChatManager(max_rounds=3)
        await orchestrate(GroupChatOrchestration(members=members, manager=manager))  # type: ignore[arg-type]

    serve(go, "one", "two", "three")
    expect_orchestration(recorded, "GroupChatOrchestration", {"a": 2, "b": 1}, 3)


def test_a_hand_off_is_a_step(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        triage, refunds = planner(url, "triage", []), planner(url, "refunds")
        handoffs = OrchestrationHandoffs().add(triage, refunds, "refunds")
        await orchestrate(HandoffOrchestration(members=[triage, refunds], handoffs=handoffs))

    done = calls(("Handoff-complete_task", {"task_summary": "done"}))
    serve(go, calls(("Handoff-transfer_to_refunds", {})), SERVED[0], done)
    expect_orchestration(recorded, "HandoffOrchestration", {"triage": 1, "refunds": 1}, 3)
    assert counted(recorded.report, "tool") == {"Menu-get_weather": 1, "Menu-get_time": 1}
    assert recorded.parent(recorded.one("handoff triage to refunds")) == "invoke_agent triage"


def test_an_orchestration_that_fails(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        runtime = InProcessRuntime()
        runtime.start()
        result = await SequentialOrchestration(members=[planner(url, "writer", [])]).invoke("?", runtime)
        with pytest.raises(Exception, match="failed to complete"):
            await result.get(timeout=20)
        await runtime.stop_when_idle()

    serve(go, Refusal(400))
    assert recorded.report.errors("workflow", "agent", "llm") == 3


def test_a_cancelled_orchestration(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        runtime = InProcessRuntime()
        runtime.start()
        result = await SequentialOrchestration(members=[planner(url, "writer", [])]).invoke("?", runtime)
        result.cancel()
        with pytest.raises(RuntimeError, match="canceled"):
            await result.get(timeout=20)
        await runtime.stop_when_idle()

    serve(go)
    assert error_of(recorded, "invoke_workflow SequentialOrchestration") == "CancelledError"


def test_the_older_group_chat(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        ends = DefaultTerminationStrategy(maximum_iterations=3)
        chat = AgentGroupChat(agents=[planner(url, "a", []), planner(url, "b", [])], termination_strategy=ends)
        await chat.add_chat_message("hello secret")
        async for _ in chat.invoke():
            assert not get_current_span().get_span_context().is_valid

    serve(go, "one", "two", "three")
    expect_orchestration(recorded, "AgentGroupChat", {"a": 2, "b": 1}, 3)


# --- failures and ends ----------------------------------------------------------------------------------


@ways
def test_a_failing_function_is_an_error_though_the_model_is_told(recorded: Recorded, way: Any) -> None:
    serve(lambda url: way(planner(url)), calls(("Menu-broken", {"city": "Paris"})), "sorry")
    assert (
        "FunctionExecutionException" in str(error_of(recorded, "execute_tool Menu-broken"))
        or error_of(recorded, "execute_tool Menu-broken") == "LookupError"
    )
    assert recorded.report.errors("tool") == 1
    assert recorded.report.errors("agent", "llm") == 0
    assert "Paris" not in str([(span.events, span.status.description) for span in recorded.spans])


@ways
def test_a_refused_request(recorded: Recorded, way: Any) -> None:
    with pytest.raises(Exception, match="failed to complete"):
        serve(lambda url: way(planner(url)), Refusal(400))
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.errors("llm", "agent") == 2


@pytest.mark.parametrize("closed", [False, True])
def test_leaving_a_stream_early_is_no_error(recorded: Recorded, closed: bool) -> None:
    async def leave(url: str) -> None:
        stream = planner(url, plugins=[]).invoke_stream(messages="?")
        async for _ in stream:
            break
        if closed:
            await stream.aclose()  # type: ignore[attr-defined]

    serve(leave, "one two three")
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.errors("agent", "llm") == 0


def test_a_cancelled_run(recorded: Recorded) -> None:
    async def cancel(url: str) -> None:
        task = asyncio.create_task(get_response(planner(url)))
        while not any(span.name.startswith("chat") for span in recorded.spans):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    serve(cancel, calls(("Menu-wait", {"city": "Paris"})))
    assert error_of(recorded, "execute_tool Menu-wait") == "CancelledError"
    assert error_of(recorded, "invoke_agent planner") == "CancelledError"


def test_suppressed_means_untraced(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        await get_response(planner(url))
        await orchestrate(SequentialOrchestration(members=[planner(url, "writer", [])]))

    with suppress_instrumentation():
        serve(go)
    assert recorded.spans == []


def test_taking_it_back(instrumented: Callable[..., Recorded]) -> None:
    methods = (ChatCompletionAgent, "invoke"), (Mine, "_inner_get_chat_message_contents")
    before = [vars(cls)[name] for cls, name in methods]
    recorded = instrumented()
    assert all(vars(cls)[name] is not was for (cls, name), was in zip(methods, before, strict=True))
    otel_agentperf.uninstrument()
    assert all(vars(cls)[name] is was for (cls, name), was in zip(methods, before, strict=True))
    asyncio.run(get_response(ChatCompletionAgent(service=Mine(ai_model_id="mine-1"), name="planner")))
    assert recorded.spans == []


PROGRAM = f"""
    import asyncio, logging, sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from test_semantic_kernel import *
    logging.getLogger("semantic_kernel").setLevel(logging.CRITICAL)

    async def main(url):
        print((await planner(url).get_response(messages="hello")).message.content)
        async for response in planner(url, "streamer").invoke_stream(messages="hello"):
            print(response.message.content, end="|")
        boss = planner(url, "boss", [planner(url, "helper"), Menu()])
        print((await boss.get_response(messages="hello")).message.content)
        await orchestrate(SequentialOrchestration(members=[planner(url, "writer", []), planner(url, "editor", [])]))
        try:
            await get_response(planner(url, "refused"))
        except Exception as error:
            print(type(error).__name__)

    asked = calls(("helper-helper", {{"messages": "?"}}), ("Menu-broken", {{"city": "x"}}))
    with ModelServer(*SERVED, *SERVED, asked, *SERVED, "fine", "draft", "good", Refusal(400)) as server:
        asyncio.run(main(server.url))
"""


@pytest.mark.parametrize("own", ["true", "false"])
def test_a_users_program_in_each_way(tmp_path: Path, own: str) -> None:
    env = {
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS": own,
    }
    told = three_ways(PROGRAM, tmp_path, env=env)
    assert sorted(told.runs) == ["SequentialOrchestration", "boss", "planner", "refused", "streamer"]
    assert told.agents == dict.fromkeys(("planner", "streamer", "boss", "helper", "writer", "editor", "refused"), 1)
    assert told.tools == {"Menu-get_weather": 3, "Menu-get_time": 3, "helper-helper": 1, "Menu-broken": 1}
    assert told.llm == {"gpt-stub": 11}
    assert told.errors["Menu-broken"] == 1
    assert told.tokens["input"] == 10 * INPUT
