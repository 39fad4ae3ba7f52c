"""Microsoft Agent Framework: its own spans completed, ours where it makes none, and never both."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_framework import (
    Agent,
    AgentResponse,
    BaseAgent,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    Message,
    RawAgent,
    ResponseStream,
    WorkflowBuilder,
    observability,
    tool,
    workflow,
)
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient
from agent_framework.orchestrations import HandoffBuilder, SequentialBuilder
from openai import AsyncOpenAI
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, Refusal, Slow, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("modern",)
REQUIRES = ("agent-framework-openai>=1,<2", "agent-framework-orchestrations>=1,<2", "openai>=3")
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    # A stream that nobody reads to its end is closed by the framework twice.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(params=["native", "switched off", "native elsewhere"])
def recorded(
    request: pytest.FixtureRequest, instrumented: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch
) -> Recorded:
    """The framework's spans go our way, there are none, or they go where only others see them."""
    recorded = instrumented()
    if request.param == "native":
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorded.provider)
    if request.param == "switched off":
        monkeypatch.setattr(observability.OBSERVABILITY_SETTINGS, "_enable_instrumentation", False)
    return recorded


@pytest.fixture(autouse=True)
def _nothing_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert "detach" not in caplog.text
    assert "ended span" not in caplog.text
    assert not get_current_span().get_span_context().is_valid


@tool(approval_mode="never_require")
def get_weather(city: str) -> str:
    """The weather SECRETDOC."""
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


@tool(approval_mode="never_require")
async def get_time(city: str) -> str:
    """The time."""
    with otel_agentperf.retrieval("clock"):
        await asyncio.sleep(0.01)
    return city


@tool(approval_mode="never_require")
def broken(city: str) -> str:
    """Fails."""
    raise LookupError(city)


SERVED = (calls(("get_weather", {"city": "Paris"}), ("get_time", {"city": "Rome"})), "done")
Chat = OpenAIChatCompletionClient


_clients: list[AsyncOpenAI] = []


def client(url: str, kind: Any = Chat) -> Any:
    _clients.append(AsyncOpenAI(base_url=url, api_key="none", max_retries=0))
    return kind(model="gpt-stub", async_client=_clients[-1])


def planner(url: str, name: str = "planner", kind: Any = Chat, **more: Any) -> Agent:
    given = {"tools": [get_weather, get_time], "description": "SECRETDOC", "instructions": "SECRETDOC"}
    return Agent(client(url, kind), name=name, **{**given, **more})


async def run(agent: Any) -> Any:
    return await agent.run("hello secret")


async def streamed(agent: Any) -> None:
    async for _ in agent.run("hello secret", stream=True):
        assert not get_current_span().get_span_context().is_valid, "the reader is not inside the agent"


async def final(agent: Any) -> None:
    await agent.run("hello secret", stream=True).get_final_response()


def serve(go: Callable[[str], Any], *served: Any) -> Any:
    async def close_after(url: str) -> Any:
        try:
            return await go(url)
        finally:
            while _clients:
                await _clients.pop().close()

    with ModelServer(*(served or SERVED)) as server:
        return asyncio.run(close_after(server.url))


def error_of(recorded: Recorded, name: str) -> Any:
    return dict(recorded.one(name).attributes or {}).get("error.type")


def expect_two_turns(recorded: Recorded) -> None:
    report = recorded.report
    assert recorded.traces == 1
    assert report.root.name == "invoke_agent planner"
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(report, "llm") == {"gpt-stub": 2}
    assert counted(report, "retrieval") == {"almanac": 1, "clock": 1}
    assert (report.tokens.input, report.tokens.output, report.tokens.cache_read) == (2 * INPUT, 2 * OUTPUT, 2 * CACHED)
    assert report.errors("agent", "tool", "llm") == 0
    assert not report.run.incomplete
    assert recorded.parent(recorded.one("execute_tool get_weather")) == "invoke_agent planner"
    assert recorded.parent(recorded.one("retrieval almanac")) == "execute_tool get_weather"
    assert recorded.parent(recorded.one("retrieval clock")) == "execute_tool get_time"


# --- agents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [run, streamed, final])
def test_an_agent_its_tools_and_its_model(recorded: Recorded, way: Any) -> None:
    serve(lambda url: way(planner(url)))
    expect_two_turns(recorded)
    told = recorded.one("execute_tool get_weather").attributes
    assert told is not None
    assert str(told["gen_ai.tool.call.id"]).startswith("call_")
    assert {"agentperf.args.hash", "agentperf.result.hash"} <= told.keys()
    shown = str([(span.name, dict(span.attributes or {})) for span in recorded.spans])
    assert not any(word in shown for word in ("Paris", "secret", "SECRETDOC"))


def test_the_responses_api(recorded: Recorded) -> None:
    serve(lambda url: run(planner(url, kind=OpenAIChatClient)))
    expect_two_turns(recorded)


@pytest.mark.parametrize("way", [run, streamed])
def test_an_agent_as_a_tool_is_a_sub_agent(recorded: Recorded, way: Any) -> None:
    async def go(url: str) -> None:
        helper = planner(url, "helper").as_tool(name="ask_helper", arg_name="task")
        await way(planner(url, "boss", tools=[helper]))

    serve(go, calls(("ask_helper", {"task": "?"})), *SERVED, "fine")
    assert counted(recorded.report, "agent") == {"boss": 1, "helper": 1}
    assert counted(recorded.report, "tool") == {"ask_helper": 1, "get_weather": 1, "get_time": 1}
    assert counted(recorded.report, "llm") == {"gpt-stub": 4}
    assert recorded.report.tokens.input == 4 * INPUT
    assert recorded.parent(recorded.one("invoke_agent helper")) == "execute_tool ask_helper"


class Echo(BaseAgent):
    """An agent of the user's own, without the framework's telemetry."""

    async def run(self, messages: Any = None, **more: Any) -> Any:  # type: ignore[override]
        with otel_agentperf.tool("look"):
            return AgentResponse(messages=[Message("assistant", ["echo"])])


class Careful(Agent):
    def run(self, *args: Any, **more: Any) -> Any:  # type: ignore[override]
        return super().run(*args, **more)


class Mine(BaseChatClient):
    """A client of the user's own, without the framework's telemetry."""

    model = "mine-1"

    async def _inner_get_response(self, *, messages: Any, stream: bool, options: Any, **more: Any) -> ChatResponse:  # type: ignore[override]
        usage = {"input_token_count": INPUT, "output_token_count": OUTPUT}
        return ChatResponse(messages=[Message("assistant", ["hi"])], usage_details=usage)  # type: ignore[arg-type]


class Streaming(Mine):
    """One whose streams tell their tokens piece by piece."""

    def _inner_get_response(self, *, messages: Any, stream: bool, options: Any, **more: Any) -> Any:
        async def updates() -> AsyncGenerator[ChatResponseUpdate, None]:
            for word, told in (("hi", {"input_token_count": INPUT}), ("there", {"output_token_count": OUTPUT})):
                yield ChatResponseUpdate(contents=[Content.from_text(word), Content.from_usage(told)], role="assistant")  # type: ignore[arg-type]

        return ResponseStream(updates(), finalizer=ChatResponse.from_updates)


@pytest.mark.parametrize("way", [streamed, final])
def test_a_client_of_the_users_own_that_streams(recorded: Recorded, way: Any) -> None:
    asyncio.run(way(Agent(Streaming(), name="planner")))
    assert recorded.tree == [("invoke_agent planner", ["chat mine-1"])]
    assert (recorded.report.tokens.input, recorded.report.tokens.output) == (INPUT, OUTPUT)
    assert not recorded.report.run.incomplete


def test_agents_and_clients_of_the_users_own(recorded: Recorded) -> None:
    asyncio.run(run(Echo(name="echo")))
    assert recorded.tree == [("invoke_agent echo", ["execute_tool look"])]
    recorded.forget()
    asyncio.run(run(Agent(Mine(), name="planner")))
    assert recorded.tree == [("invoke_agent planner", ["chat mine-1"])]
    assert (recorded.report.tokens.input, recorded.report.tokens.output) == (INPUT, OUTPUT)
    recorded.forget()
    asyncio.run(run(RawAgent(Mine(), name="raw")))
    assert recorded.tree == [("invoke_agent raw", ["chat mine-1"])]
    recorded.forget()
    asyncio.run(run(Careful(Mine(), name="careful")))
    assert recorded.tree == [("invoke_agent careful", ["chat mine-1"])]


def test_runs_side_by_side_are_kept_apart(recorded: Recorded) -> None:
    async def both(url: str) -> None:
        await asyncio.gather(run(planner(url, "left")), run(planner(url, "right")))

    serve(both, SERVED[0], SERVED[0], "done", "done")
    assert sorted(report.root.name for report in recorded.reports) == ["invoke_agent left", "invoke_agent right"]
    assert [counted(report, "tool") for report in recorded.reports] == [{"get_weather": 1, "get_time": 1}] * 2


# --- workflows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [run, streamed])
def test_a_workflow_is_one_run(recorded: Recorded, way: Any) -> None:
    async def go(url: str) -> None:
        writer, reviewer = planner(url, "writer"), planner(url, "reviewer", tools=[])
        await way(WorkflowBuilder(start_executor=writer, name="review").add_edge(writer, reviewer).build())

    serve(go, *SERVED, "good")
    assert recorded.traces == 1
    assert [(it.kind, it.operation) for it in (recorded.report.root,)] == [("workflow", "review")]
    assert counted(recorded.report, "agent") == {"writer": 1, "reviewer": 1}
    assert counted(recorded.report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(recorded.report, "llm") == {"gpt-stub": 3}
    assert not any(span.name == "workflow.build" for span in recorded.spans)


def test_a_workflow_without_a_name(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        await run(SequentialBuilder(participants=[planner(url, "a", tools=[]), planner(url, "b", tools=[])]).build())

    serve(go, "one", "two")
    assert (recorded.report.root.kind, counted(recorded.report, "agent")) == ("workflow", {"a": 1, "b": 1})
    assert "-" not in recorded.report.root.operation


def test_a_function_as_a_workflow(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        @workflow
        async def pipeline(topic: str) -> str:
            return str(await run(planner(url)))

        await pipeline.build().run("x")

    serve(go)
    assert (recorded.report.root.kind, recorded.report.root.operation) == ("workflow", "pipeline")
    assert counted(recorded.report, "agent") == {"planner": 1}


def test_a_workflow_as_an_agent(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        inner = planner(url, "inner", tools=[])
        await run(WorkflowBuilder(start_executor=inner, name="steps").build().as_agent(name="outer"))

    serve(go, "done")
    assert counted(recorded.report, "agent") == {"outer": 1, "inner": 1}
    assert counted(recorded.report, "workflow") == {"steps": 1}
    assert recorded.traces == 1


def test_a_hand_off(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        triage = planner(url, "triage", tools=[], require_per_service_call_history_persistence=True)
        refunds = planner(url, "refunds", require_per_service_call_history_persistence=True)
        builder = HandoffBuilder(participants=[triage, refunds], name="desk").with_start_agent(triage)
        await run(builder.add_handoff(triage, [refunds]).build())

    serve(go, calls(("handoff_to_refunds", {})), *SERVED)
    assert counted(recorded.report, "agent") == {"triage": 1, "refunds": 1}
    assert counted(recorded.report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(recorded.report, "llm") == {"gpt-stub": 3}
    assert recorded.report.root.operation == "desk"


# --- failures and ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [run, streamed])
def test_a_failing_tool_is_an_error_though_the_model_is_told(recorded: Recorded, way: Any) -> None:
    serve(lambda url: way(planner(url, tools=[broken])), calls(("broken", {"city": "Paris"})), "sorry")
    assert error_of(recorded, "execute_tool broken") == "LookupError"
    assert recorded.report.errors("tool") == 1
    assert recorded.report.errors("agent", "llm") == 0
    assert "Paris" not in str([(span.events, span.status.description) for span in recorded.spans])


@pytest.mark.parametrize("way", [run, streamed])
def test_a_refused_request(recorded: Recorded, way: Any) -> None:
    with pytest.raises(Exception, match="no"):
        serve(lambda url: way(planner(url)), Refusal(400))
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.errors("llm") == 1
    assert recorded.report.errors("agent") == 1


def test_leaving_a_stream_early_is_no_error(recorded: Recorded) -> None:
    async def leave(url: str) -> None:
        async for _ in planner(url, tools=[]).run("?", stream=True):
            break
        gc.collect()
        await asyncio.sleep(0.1)

    serve(leave, "one two three")
    gc.collect()
    assert counted(recorded.report, "agent") == {"planner": 1}
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.errors("agent", "llm") == 0
    assert not recorded.report.run.incomplete


def test_closing_a_stream(recorded: Recorded) -> None:
    async def close(url: str) -> None:
        async with planner(url, tools=[]).run("?", stream=True) as stream:
            async for _ in stream:
                break

    serve(close, "one two three")
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.errors("agent", "llm") == 0


def test_a_stream_that_nobody_reads(recorded: Recorded) -> None:
    async def forget(url: str) -> None:
        planner(url).run("?", stream=True)

    serve(forget)
    gc.collect()
    assert not counted(recorded.reports[0], "llm") if recorded.reports else True


def test_a_cancelled_run(recorded: Recorded) -> None:
    @tool(approval_mode="never_require")
    async def wait(city: str) -> str:
        """Waits."""
        await asyncio.sleep(30)
        return city

    async def cancel(url: str) -> None:
        task = asyncio.create_task(run(planner(url, tools=[wait])))
        while not any(span.name.startswith("chat") for span in recorded.spans):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    serve(cancel, calls(("wait", {"city": "Paris"})))
    assert error_of(recorded, "execute_tool wait") == "CancelledError"
    assert recorded.report.root.error == "CancelledError"


def test_a_cancelled_workflow(recorded: Recorded) -> None:
    async def cancel(url: str) -> None:
        sequence = SequentialBuilder(participants=[planner(url, "first"), planner(url, "second")]).build()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(sequence.run("?"), 0.5)

    serve(cancel, "done", Slow("never said", 3))
    assert recorded.report.root.error == "CancelledError"
    assert error_of(recorded, "invoke_agent first") is None
    assert error_of(recorded, "invoke_agent second") == "CancelledError"


def test_suppressed_means_untraced(recorded: Recorded) -> None:
    with suppress_instrumentation():
        serve(lambda url: run(planner(url)))
    assert [span for span in recorded.spans if span.instrumentation_scope.name != "agent_framework"] == []  # type: ignore[union-attr]


def test_taking_it_back(instrumented: Callable[..., Recorded]) -> None:
    before = vars(RawAgent)["run"], vars(Mine)["_inner_get_response"], vars(Echo)["run"]
    recorded = instrumented()
    assert vars(RawAgent)["run"] is not before[0]
    otel_agentperf.uninstrument()
    now = vars(RawAgent)["run"], vars(Mine)["_inner_get_response"], vars(Echo)["run"]
    assert all(one is was for one, was in zip(now, before, strict=True))
    asyncio.run(run(Agent(Mine(), name="planner")))
    assert recorded.spans == []


PROGRAM = f"""
    import asyncio, sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from test_agent_framework import *

    async def main(url):
        print((await run(planner(url))).text)
        async for update in planner(url, "streamer").run("hello", stream=True):
            print(update.text, end="|")
        helper = planner(url, "helper").as_tool(name="ask_helper", arg_name="task")
        print((await run(planner(url, "boss", tools=[helper, broken]))).text)
        writer, reviewer = planner(url, "writer", tools=[]), planner(url, "reviewer", tools=[])
        built = WorkflowBuilder(start_executor=writer, name="review").add_edge(writer, reviewer).build()
        print(len((await built.run("write")).get_outputs()))
        try:
            await run(planner(url, "refused"))
        except Exception as error:
            print(type(error).__name__)

    asked = calls(("ask_helper", {{"task": "?"}}), ("broken", {{"city": "x"}}))
    with ModelServer(*SERVED, *SERVED, asked, *SERVED, "fine", "draft", "good", Refusal(400)) as server:
        asyncio.run(main(server.url))
"""


@pytest.mark.parametrize("own", ["true", "false"])
def test_a_users_program_in_each_way(tmp_path: Path, own: str) -> None:
    env = {"PYTHONPATH": str(Path(__file__).parent.parent), "ENABLE_INSTRUMENTATION": own}
    told = three_ways(PROGRAM, tmp_path, env=env)
    assert sorted(told.runs) == ["boss", "planner", "refused", "review", "streamer"]
    assert told.agents == dict.fromkeys(("planner", "streamer", "boss", "helper", "writer", "reviewer", "refused"), 1)
    assert told.tools == {"get_weather": 3, "get_time": 3, "ask_helper": 1, "broken": 1}
    assert told.llm == {"gpt-stub": 11}
    assert told.errors["broken"] == 1
    assert told.tokens["input"] == 10 * INPUT


def test_content_where_it_is_wanted(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    serve(lambda url: run(planner(url)))
    told = recorded.one("execute_tool get_weather").attributes
    assert told is not None
    assert told["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
