"""Pydantic AI: agents, tools and model calls once each, with its own instrumentation on or off, whatever the model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span
from pydantic import BaseModel
from pydantic_ai import Agent, ApprovalRequired, DeferredToolRequests, ModelRetry, RunContext, UnexpectedModelBehavior
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.direct import model_request_stream, model_request_sync
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.instrumented import InstrumentationSettings, InstrumentedModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel

from _model_server import CACHED, INPUT, OUTPUT
from _pydantic_ai_agents import (
    IN,
    OUT,
    STREAMED,
    TWO_TURNS,
    WAYS,
    Said,
    get_time,
    get_weather,
    planner,
    run,
    scripted,
)
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("modern",)
REQUIRES = ("anthropic>=2,<3", "openai>=3,<4")

TestModel.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _default() -> Iterator[None]:
    """Off as it is by default, and a loop for `run_sync`, which would leave its own open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)
    Agent.instrument_all(False)


def off(recorded: Recorded) -> dict[str, Any]:
    return {}


def for_all(recorded: Recorded) -> dict[str, Any]:
    Agent.instrument_all(settings(recorded))
    return {}


def by_attribute(recorded: Recorded) -> dict[str, Any]:
    return {"instrument": settings(recorded)}


def by_capability(recorded: Recorded) -> dict[str, Any]:
    return {"capabilities": [Instrumentation(settings=settings(recorded))]}


def elsewhere(recorded: Recorded) -> dict[str, Any]:
    """The program traces with a provider that we do not see."""
    Agent.instrument_all(InstrumentationSettings(tracer_provider=TracerProvider()))
    return {}


def settings(recorded: Recorded) -> InstrumentationSettings:
    return InstrumentationSettings(tracer_provider=recorded.provider, include_content=False)


NATIVE = [for_all, by_attribute, by_capability]
SET = [off, elsewhere, *NATIVE]


def instrumented_agent(
    recorded: Recorded, how: Callable[[Recorded], dict[str, Any]], *answers: Said, **more: Any
) -> Any:
    given = how(recorded)
    instrument = given.pop("instrument", None)
    agent = planner(*answers, **{**given, **more})
    if instrument is not None:
        agent.instrument = instrument
    return agent


@pytest.mark.parametrize("how", SET)
@pytest.mark.parametrize("way", WAYS)
def test_agents_tools_and_model_calls(recorded: Recorded, way: Any, how: Any) -> None:
    asyncio.run(way(instrumented_agent(recorded, how, *TWO_TURNS)))
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(report, "llm") == {"script-1": 2}
    assert counted(report, "retrieval") == {"almanac": 1, "clock": 1}
    if way is run:
        assert (report.tokens.input, report.tokens.output) == (2 * IN, 2 * OUT)
    assert report.errors("agent", "tool", "llm") == 0
    # One span a call, whoever makes it. Those that go elsewhere are our spans' parents.
    assert len(recorded.spans) == 7
    assert how is elsewhere or recorded.tree == [
        ("invoke_agent planner", [
            "chat script-1",
            ("execute_tool get_weather", ["retrieval almanac"]),
            ("execute_tool get_time", ["retrieval clock"]),
            "chat script-1",
        ])
    ]  # fmt: skip
    tool = recorded.one("execute_tool get_weather").attributes or {}
    assert {"agentperf.args.hash", "agentperf.result.hash", "gen_ai.tool.call.id"} <= tool.keys()
    chats = [dict(span.attributes or {}) for span in recorded.named("chat script-1")]
    assert all("agentperf.args.hash" in chat for chat in chats)
    if way in STREAMED and how not in NATIVE:
        assert all("gen_ai.response.time_to_first_chunk" in chat for chat in chats)
    told = str([dict(span.attributes or {}) for span in recorded.spans])
    assert "secret" not in told
    assert "Paris" not in told
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("how", SET)
def test_sync_runs(recorded: Recorded, how: Any) -> None:
    instrumented_agent(recorded, how, *TWO_TURNS).run_sync("hello")
    assert counted(recorded.report, "agent") == {"planner": 1}
    assert counted(recorded.report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(recorded.report, "llm") == {"script-1": 2}


@pytest.mark.parametrize("how", [off, for_all])
def test_sync_streams(recorded: Recorded, how: Any) -> None:
    with instrumented_agent(recorded, how, *TWO_TURNS).run_stream_sync("hello") as result:
        assert "".join(result.stream_text(delta=True)) == "alldone"
    assert counted(recorded.report, "agent") == {"planner": 1}
    assert counted(recorded.report, "llm") == {"script-1": 2}
    assert recorded.traces == 1


def test_an_instrumented_model(recorded: Recorded) -> None:
    model = InstrumentedModel(scripted(*TWO_TURNS), settings(recorded))
    Agent(model, name="planner", tools=[get_weather, get_time]).run_sync("hello")
    assert counted(recorded.report, "agent") == {"planner": 1}
    assert counted(recorded.report, "llm") == {"script-1": 2}
    assert len(recorded.named("chat script-1")) == 2
    assert len(recorded.named("invoke_agent planner")) == 1


def test_content_where_it_is_wanted(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    planner(*TWO_TURNS).run_sync("hello")
    tool = recorded.one("execute_tool get_weather").attributes or {}
    assert tool["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
    assert tool["gen_ai.tool.call.result"] == "sunny in Paris"


def test_the_same_history_has_the_same_hash(recorded: Recorded) -> None:
    for question in ("a", "a", "b"):
        planner("yes").run_sync(question)
    first, second, other = [(span.attributes or {})["agentperf.args.hash"] for span in recorded.named("chat script-1")]
    assert first == second != other


# --- several agents -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [off, for_all])
def test_a_sub_agent_nests_below_the_tool_that_asks_it(recorded: Recorded, how: Any) -> None:
    how(recorded)
    helper = planner(*TWO_TURNS, name="helper")
    boss = Agent(scripted([("ask", {"question": "?"}), ("get_weather", {"city": "Rome"})]), name="boss",
                 tools=[get_weather])  # fmt: skip

    @boss.tool
    async def ask(context: RunContext[None], question: str) -> str:
        """Asks."""
        return str((await helper.run(question, usage=context.usage)).output)

    boss.run_sync("hello")
    report = recorded.report
    assert counted(report, "agent") == {"boss": 1, "helper": 1}
    assert counted(report, "tool") == {"ask": 1, "get_weather": 2, "get_time": 1}
    assert counted(report, "llm") == {"script-1": 4}
    assert (report.tokens.input, report.tokens.output) == (4 * IN, 4 * OUT)
    assert recorded.parent(recorded.one("invoke_agent helper")) == "execute_tool ask"


@pytest.mark.parametrize("how", [off, for_all])
def test_an_output_function_that_hands_over_is_no_tool(recorded: Recorded, how: Any) -> None:
    how(recorded)
    writer = planner("written", name="writer")

    async def hand_over(subject: str) -> str:
        """Hands over."""
        return str((await writer.run(subject)).output)

    router = Agent(scripted([("final_result", {"subject": "x"})]), name="router", output_type=hand_over)
    assert router.run_sync("hello").output == "written"
    report = recorded.report
    assert counted(report, "agent") == {"router": 1, "writer": 1}
    assert counted(report, "tool") == {}
    assert recorded.traces == 1


@pytest.mark.parametrize("how", [off, for_all])
def test_structured_output_is_no_tool(recorded: Recorded, how: Any) -> None:
    class City(BaseModel):
        name: str

    how(recorded)
    agent = Agent(scripted([("get_weather", {"city": "x"})], [("final_result", {"name": "Paris"})]), name="planner",
                  output_type=City, tools=[get_weather])  # fmt: skip
    assert agent.run_sync("hello").output.name == "Paris"
    assert counted(recorded.report, "tool") == {"get_weather": 1}


@pytest.mark.parametrize("how", [off, for_all])
def test_runs_side_by_side_are_kept_apart(recorded: Recorded, how: Any) -> None:
    how(recorded)

    async def both() -> None:
        await asyncio.gather(*(run(planner(*TWO_TURNS, name=name)) for name in ("left", "right")))

    asyncio.run(both())
    assert [counted(report, "tool") for report in recorded.reports] == [{"get_weather": 1, "get_time": 1}] * 2
    assert sorted(name for report in recorded.reports for name in counted(report, "agent")) == ["left", "right"]


def test_inside_somebodys_span(recorded: Recorded) -> None:
    with recorded.provider.get_tracer("web").start_as_current_span("GET /"):
        planner("yes").run_sync("hello")
    assert recorded.parent(recorded.one("invoke_agent planner")) == "GET /"


# --- failures -------------------------------------------------------------------------------------------


def error_of(recorded: Recorded, name: str) -> list[Any]:
    return [dict(span.attributes or {}).get("error.type") for span in recorded.named(name)]


def agent_with(tool: Callable[..., Any], *answers: Said, **more: Any) -> Agent[Any, Any]:
    return Agent(scripted(*(answers or ([("act", {"number": 1})],))), name="planner", tools=[tool], **more)


@pytest.mark.parametrize("how", [off, for_all])
def test_a_tool_that_asks_for_another_try_has_failed(recorded: Recorded, how: Any) -> None:
    tries = iter([ModelRetry("again"), None])

    def act(number: int) -> str:
        if error := next(tries):
            raise error
        return "ok"

    how(recorded)
    asked: Said = [("act", {"number": 1})]
    agent_with(act, asked, asked).run_sync("hello")
    assert counted(recorded.report, "tool") == {"act": 2}
    assert error_of(recorded, "execute_tool act") == ["pydantic_ai.exceptions.ModelRetry", None]
    assert recorded.report.errors("tool") == 1
    assert recorded.report.errors("agent", "llm") == 0


@pytest.mark.parametrize("how", [off, for_all])
def test_arguments_that_are_not_valid_are_a_failed_call(recorded: Recorded, how: Any) -> None:
    def act(number: int) -> str:
        return "ok"

    how(recorded)
    agent_with(act, [("act", {"number": "many"})], [("act", {"number": 1})]).run_sync("hello")
    assert counted(recorded.report, "tool") == {"act": 2}
    assert recorded.report.errors("tool") == 1


@pytest.mark.parametrize("how", [off, for_all])
def test_a_tool_that_fails_fails_the_run(recorded: Recorded, how: Any) -> None:
    def act(number: int) -> str:
        raise LookupError("secret")

    how(recorded)
    with pytest.raises(LookupError, match="secret"):
        agent_with(act).run_sync("hello")
    assert error_of(recorded, "execute_tool act") == ["LookupError"]
    assert recorded.report.errors("tool", "agent") == 2
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("how", [off, for_all])
def test_a_tool_that_never_works(recorded: Recorded, how: Any) -> None:
    def act(number: int) -> str:
        raise ModelRetry("again")

    how(recorded)
    asked: Said = [("act", {"number": 1})]
    with pytest.raises(UnexpectedModelBehavior):
        agent_with(act, asked, asked, asked).run_sync("hello")
    assert recorded.report.errors("tool") == 2
    assert error_of(recorded, "execute_tool act") == ["pydantic_ai.exceptions.ModelRetry"] * 2


@pytest.mark.parametrize("how", [off, for_all])
def test_a_tool_that_waits_for_approval_has_not_failed(recorded: Recorded, how: Any) -> None:
    def act(number: int) -> str:
        raise ApprovalRequired

    how(recorded)
    agent_with(act, output_type=[str, DeferredToolRequests]).run_sync("hello")
    assert recorded.report.errors("tool", "agent") == 0


def test_a_tool_that_there_is_not(recorded: Recorded) -> None:
    planner([("nothing", {})], "sorry").run_sync("hello")
    assert counted(recorded.report, "tool") == {}
    assert counted(recorded.report, "llm") == {"script-1": 2}


@pytest.mark.parametrize("how", [off, for_all])
@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_fails(recorded: Recorded, way: Any, how: Any) -> None:
    how(recorded)
    with pytest.raises(ConnectionError):
        asyncio.run(way(planner(ConnectionError("secret"))))
    assert counted(recorded.report, "llm") == {"script-1": 1}
    assert error_of(recorded, "chat script-1") == ["ConnectionError"]
    assert recorded.report.errors("agent") == 1


@pytest.mark.parametrize("how", [off, for_all])
def test_a_cancelled_run(recorded: Recorded, caplog: pytest.LogCaptureFixture, how: Any) -> None:
    async def act(number: int) -> str:
        await asyncio.sleep(30)
        return ""

    async def cancel() -> None:
        task = asyncio.create_task(agent_with(act).run("hello"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    how(recorded)
    asyncio.run(cancel())
    assert error_of(recorded, "execute_tool act") == ["CancelledError"]
    assert not caplog.records


@pytest.mark.parametrize("how", [off, for_all])
def test_a_stream_that_is_left_early_ends_well(recorded: Recorded, how: Any) -> None:
    async def leave() -> None:
        async with planner("many words that nobody reads").run_stream("hello") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                break

    how(recorded)
    asyncio.run(leave())
    assert recorded.report.errors("agent", "llm") == 0
    assert counted(recorded.report, "llm") == {"script-1": 1}


@pytest.mark.parametrize("how", [off, for_all])
def test_a_generator_that_is_closed_early_ends_well(recorded: Recorded, how: Any) -> None:
    async def nodes() -> AsyncIterator[Any]:
        async with planner(*TWO_TURNS).iter("hello") as run:
            async for node in run:
                yield node

    async def leave() -> None:
        stream = nodes()
        await anext(stream)
        await stream.aclose()

    how(recorded)
    asyncio.run(leave())
    assert recorded.report.errors("agent") == 0


def test_a_generator_that_is_closed_from_another_task(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    async def words() -> AsyncIterator[str]:
        async with planner("many words").run_stream("hello") as result:
            async for word in result.stream_text(delta=True, debounce_by=None):
                yield word

    async def leave() -> None:
        stream = words()
        await anext(stream)
        await asyncio.create_task(closed(stream))

    async def closed(stream: Any) -> None:
        with suppress(ValueError):  # the framework's own: "was created in a different Context"
            await stream.aclose()

    asyncio.run(leave())
    assert not [entry for entry in caplog.records if "detach" in entry.message]
    assert [span.name for span in recorded.spans] == ["invoke_agent planner", "chat script-1"]


def test_a_loop_over_nodes_that_is_left_early(recorded: Recorded) -> None:
    async def leave() -> None:
        async with planner(*TWO_TURNS).iter("hello") as nodes:
            async for _ in nodes:
                break
        assert not get_current_span().get_span_context().is_valid

    asyncio.run(leave())
    assert error_of(recorded, "invoke_agent planner") == [None]


def test_suppressed(recorded: Recorded) -> None:
    with suppress_instrumentation():
        planner(*TWO_TURNS).run_sync("hello")
    assert [span.name for span in recorded.spans if "agent" in span.name or "chat" in span.name] == []


# --- models ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [off, for_all])
def test_each_attempt_of_a_fallback_is_a_call(recorded: Recorded, how: Any) -> None:
    how(recorded)
    first, second = scripted(ConnectionError("gone"), name="first"), scripted(name="second")
    model = FallbackModel(first, second, fallback_on=(ConnectionError,))
    Agent(model, name="planner").run_sync("hello")
    assert counted(recorded.report, "llm") == {"first": 1, "second": 1}
    assert recorded.report.errors("llm") == 1
    assert recorded.report.tokens.input == IN


def test_a_model_around_a_model_is_one_call(recorded: Recorded) -> None:
    class Around(WrapperModel):
        async def request(self, *args: Any) -> Any:
            return await super().request(*args)

    Agent(Around(scripted()), name="planner").run_sync("hello")
    assert len(recorded.named("chat script-1")) == 1


def test_a_class_that_calls_its_base_is_one_call(recorded: Recorded) -> None:
    class Mine(TestModel):
        async def request(self, *args: Any) -> Any:
            return await super().request(*args)

    Agent(Mine(model_name="mine"), name="planner").run_sync("hello")
    assert len(recorded.named("chat mine")) == 1


def test_a_model_that_cannot_stream_is_still_known_not_to(recorded: Recorded) -> None:
    assert recorded.spans == []
    first, second = Model.request_stream, Model.request_stream
    assert first is second, "what the framework compares"


def test_direct_requests(recorded: Recorded) -> None:
    model_request_sync(scripted("yes"), [ModelRequest.user_text_prompt("hello")])

    async def stream() -> None:
        async with model_request_stream(scripted("yes"), [ModelRequest.user_text_prompt("hello")]) as events:
            async for _ in events:
                assert not get_current_span().get_span_context().is_valid

    asyncio.run(stream())
    assert len(recorded.named("chat script-1")) == 2


@pytest.mark.parametrize("native", ["", "all", "private"])
def test_a_program_with_real_clients_three_ways(tmp_path: Path, native: str) -> None:
    program = Path(__file__).parents[1] / "_pydantic_ai_program.py"
    told = three_ways(program, tmp_path, env={"NATIVE": native})
    assert told.agents == {"support": 6, "helper": 3}
    assert told.tools == {"get_weather": 6, "ask_helper": 3}
    assert told.llm == {"stub-1": 18}
    assert told.errors == {"get_weather": 3}
    assert told.tokens == {"input": 18 * INPUT, "output": 18 * OUTPUT, "cache_read": 18 * CACHED}
