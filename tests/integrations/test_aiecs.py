"""AIECS: every agent, tool and model call once, rightly nested, however it is called."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENAI_API_KEY", "none")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import pytest

with warnings.catch_warnings():  # importing it warns of what it imports
    warnings.simplefilter("ignore")
    import aiecs  # noqa: F401

from aiecs.domain.agent import AgentConfiguration, HybridAgent, LLMAgent, ToolAgent
from aiecs.domain.agent.base_agent import CacheConfig
from aiecs.llm import BaseLLMClient, LLMClientFactory, LLMClientManager, LLMResponse, OpenAIClient
from aiecs.llm.clients import StreamChunk
from aiecs.tools.base_tool import BaseTool
from aiecs.tools.tool_executor.tool_executor import ToolExecutor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("openai2",)
REQUIRES = ()
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def ask(*tools: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What a model answers that calls functions."""
    return [
        {"id": f"call-{place}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for place, (name, arguments) in enumerate(tools)
    ]


class Answers:
    """A client of the program's own that inherits nothing, as AIECS's documentation shows them."""

    provider_name = "fake"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls = 0

    def _next(self) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if self.answers else "done"
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def generate_text(self, messages: Any, model: Any = None, tools: Any = None, **kwargs: Any) -> LLMResponse:
        answer = self._next()
        text = answer if isinstance(answer, str) else ""
        response = LLMResponse(content=text, provider="fake", model=model or "fake-1", prompt_tokens=50,
                               completion_tokens=7, cache_read_tokens=32)  # fmt: skip
        if not isinstance(answer, str):
            response.tool_calls = answer  # type: ignore[attr-defined]
        return response

    async def stream_text(
        self, messages: Any, model: Any = None, tools: Any = None, return_chunks: bool = False, **kwargs: Any
    ) -> AsyncIterator[Any]:
        answer = self._next()
        for word in answer.split() if isinstance(answer, str) else ():
            yield StreamChunk(type="token", content=word) if return_chunks else word
        if not isinstance(answer, str):
            yield StreamChunk(type="tool_calls", tool_calls=answer)
        if return_chunks:
            usage = {"prompt_tokens": 50, "completion_tokens": 7, "total_tokens": 57, "cache_read_tokens": 32}
            yield StreamChunk(type="usage", usage=usage)

    async def close(self) -> None:
        pass


class Client(Answers, BaseLLMClient):
    """The same, as a subclass, whose methods call its base's."""

    async def generate_text(self, messages: Any, model: Any = None, tools: Any = None, **kwargs: Any) -> LLMResponse:
        return await super().generate_text(messages, model, tools, **kwargs)

    async def stream_text(self, messages: Any, model: Any = None, tools: Any = None, **kwargs: Any) -> Any:
        async for piece in super().stream_text(messages, model, tools, **kwargs):
            yield piece


class Weather(BaseTool):
    """Synchronous and asynchronous operations."""

    def __init__(self, **config: Any) -> None:
        super().__init__({"retry_attempts": 1, **config})
        self.threads: set[str] = set()

    def get_weather(self, city: str) -> str:
        """The weather."""
        self.threads.add(threading.current_thread().name)
        with otel_agentperf.retrieval("almanac"):
            return f"sunny in {city}"

    async def forecast(self, city: str) -> str:
        """The forecast."""
        with otel_agentperf.retrieval("almanac"):
            await asyncio.sleep(0)
            return f"rain in {city}"

    def broken(self, city: str) -> str:
        """Fails."""
        raise LookupError(city)


CONFIG = {"llm_model": "fake-1"}
TASK = {"description": "secret request"}
TURNS = (
    ask(("weather_get_weather", {"city": "Paris"}), ("weather_forecast", {"city": "Rome"})),
    "all done",
)


def planner(*answers: Any, kind: Any = HybridAgent, client: Any = None, name: str = "Planner", **more: Any) -> Any:
    more.setdefault("tools", {"weather": Weather()})
    if kind is LLMAgent:
        more.pop("tools")
    model = client or Client(*answers)
    return kind(agent_id=name.lower(), name=name, llm_client=model, config=AgentConfiguration(**CONFIG), **more)


async def ready(agent: Any) -> Any:
    await agent.initialize()
    await agent.activate()
    return agent


async def execute(agent: Any, task: Any = TASK) -> Any:
    return await (await ready(agent)).execute_task(dict(task), {})


async def stream(agent: Any, task: Any = TASK) -> Any:
    events = []
    async for event in (await ready(agent)).execute_task_streaming(dict(task), {}):
        assert not get_current_span().get_span_context().is_valid, "the reader is not inside the agent"
        events.append(event)
    return events


async def message(agent: Any) -> Any:
    return await (await ready(agent)).process_message("secret request")


async def message_streaming(agent: Any) -> Any:
    return [text async for text in (await ready(agent)).process_message_streaming("secret request")]


WAYS = [execute, stream, message, message_streaming]


@pytest.mark.parametrize("client", [Answers, Client])
@pytest.mark.parametrize("run", WAYS)
def test_an_agent_its_tools_and_model_calls(recorded: Recorded, run: Callable[[Any], Any], client: Any) -> None:
    tool = Weather()
    asyncio.run(run(planner(client=client(*TURNS), tools={"weather": tool})))
    report = recorded.report
    assert recorded.traces == 1
    assert report.root.name == "invoke_agent Planner"
    assert counted(report, "agent") == {"Planner": 1}
    assert counted(report, "tool") == {"weather": 2}
    assert counted(report, "llm") == {"fake-1": 2}
    assert counted(report, "retrieval") == {"almanac": 2}
    assert (report.tokens.input, report.tokens.output, report.tokens.cache_read) == (100, 14, 64)
    assert report.errors("tool", "agent", "llm") == 0
    for place, span in enumerate(recorded.named("execute_tool weather")):
        assert recorded.parent(span) == "invoke_agent Planner"
        assert span.attributes is not None
        assert span.attributes["gen_ai.tool.call.id"] == f"call-{place}"
    for span in recorded.named("retrieval almanac"):
        assert recorded.parent(span) == "execute_tool weather"
    assert "MainThread" not in tool.threads
    assert "secret" not in str([(span.name, dict(span.attributes or {})) for span in recorded.spans])


def test_content_where_it_is_wanted(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    asyncio.run(execute(planner(*TURNS)))
    attributes = recorded.named("execute_tool weather")[0].attributes
    assert attributes is not None
    assert '"city":"Paris"' in str(attributes["gen_ai.tool.call.arguments"])
    assert attributes["gen_ai.tool.call.result"] == "sunny in Paris"


@pytest.mark.parametrize("run", [execute, stream])
def test_a_tool_agent_and_an_agent_without_tools(recorded: Recorded, run: Callable[..., Any]) -> None:
    asyncio.run(run(planner(ask(("weather_get_weather", {"city": "Oslo"})), kind=ToolAgent)))
    direct = {"tool": "weather", "operation": "forecast", "parameters": {"city": "Rome"}}
    asyncio.run(run(planner(kind=ToolAgent, name="Direct"), direct))
    asyncio.run(run(planner(kind=LLMAgent, name="Writer")))
    first, second, third = recorded.reports
    assert (counted(first, "agent"), counted(first, "tool")) == ({"Planner": 1}, {"weather": 1})
    assert (counted(second, "agent"), counted(second, "tool")) == ({"Direct": 1}, {"weather": 1})
    assert (counted(third, "agent"), counted(third, "llm")) == ({"Writer": 1}, {"fake-1": 1})
    assert sum(report.errors("tool", "agent", "llm") for report in recorded.reports) == 0


@pytest.mark.parametrize("run", [execute, stream])
def test_a_failing_tool_is_a_failed_call(recorded: Recorded, run: Callable[..., Any]) -> None:
    asyncio.run(run(planner(ask(("weather_broken", {"city": "Paris"})), "sorry")))
    assert counted(recorded.report, "tool") == {"weather": 1}
    assert recorded.report.errors("tool") == 1
    assert recorded.report.errors("agent") == 0
    attributes = recorded.one("execute_tool weather").attributes
    assert attributes is not None
    assert attributes["error.type"] == "LookupError"


def test_a_failing_model_fails_the_task(recorded: Recorded) -> None:
    with pytest.raises(Exception, match="never"):
        asyncio.run(execute(planner(*[ValueError("never")] * 9)))
    events = asyncio.run(stream(planner(*[ValueError("never")] * 9)))
    assert events[-1]["type"] == "error"
    first, second = recorded.reports
    assert first.errors("agent") == second.errors("agent") == 1
    assert first.errors("llm") == counted(first, "llm")["fake-1"]
    assert second.root.error == "task_error"


async def recover(agent: Any) -> Any:
    return await (await ready(agent)).execute_with_recovery(dict(TASK), {}, structured=True)


async def recover_streaming(agent: Any) -> Any:
    return [event async for event in (await ready(agent)).execute_with_recovery_streaming(dict(TASK), {})]


@pytest.mark.parametrize("run", [recover, recover_streaming])
@pytest.mark.parametrize("failures", [1, 9])
def test_an_agent_that_recovers_is_one_run(recorded: Recorded, run: Callable[[Any], Any], failures: int) -> None:
    model = Answers(*[ValueError("never")] * failures, "done")
    asyncio.run(run(planner(kind=LLMAgent, client=model)))
    assert counted(recorded.report, "agent") == {"Planner": 1}
    assert counted(recorded.report, "llm") == {"fake-1": model.calls}
    assert recorded.report.errors("agent") == (0 if model.calls > failures else 1)


@pytest.mark.parametrize("strategy", ["parallel", "sequential", "consensus"])
def test_agents_that_work_together_are_one_run(recorded: Recorded, strategy: str) -> None:
    async def run() -> None:
        others = {name: await ready(planner(kind=LLMAgent, name=name)) for name in ("Ann", "Bob")}
        lead = planner(kind=LLMAgent, name="Lead", collaboration_enabled=True, agent_registry=others)
        await (await ready(lead)).collaborate_on_task(dict(TASK), ["Ann", "Bob"], strategy)

    asyncio.run(run())
    assert counted(recorded.report, "workflow") == {"Lead": 1}
    assert counted(recorded.report, "agent") == {"Ann": 1, "Bob": 1}
    assert recorded.parent(recorded.one("invoke_agent Bob")) == "invoke_workflow Lead"


def test_an_agent_inside_a_tool_is_a_sub_agent(recorded: Recorded) -> None:
    helper = planner(*TURNS, name="Helper")

    class Ask(BaseTool):
        async def helper(self, question: str) -> str:
            """Ask."""
            return str((await execute(helper))["output"])

    asyncio.run(execute(planner(ask(("ask_helper", {"question": "?"})), "ok", tools={"ask": Ask()})))
    assert counted(recorded.report, "agent") == {"Planner": 1, "Helper": 1}
    assert counted(recorded.report, "tool") == {"ask": 1, "weather": 2}
    assert recorded.parent(recorded.one("invoke_agent Helper")) == "execute_tool ask"


def test_an_agent_of_a_class_of_ones_own(recorded: Recorded) -> None:
    class Own(HybridAgent):
        async def execute_task(self, task: Any, context: Any) -> Any:
            return await super().execute_task(task, context)

    asyncio.run(execute(planner(*TURNS, kind=Own)))
    assert len(recorded.named("invoke_agent Planner")) == 1
    assert counted(recorded.report, "agent") == {"Planner": 1}
    assert counted(recorded.report, "tool") == {"weather": 2}


def test_tools_called_by_the_program(recorded: Recorded) -> None:
    tool, executor = Weather(enable_cache=False), ToolExecutor({"enable_cache": False})
    with otel_agentperf.agent("outer"):
        tool.run("get_weather", city="Paris")
        asyncio.run(tool.run_async("get_weather", city="Paris"))
        executor.execute(tool, "get_weather", city="Paris")
        asyncio.run(executor.execute_async(tool, "forecast", city="Paris"))
        batch = [{"op": "get_weather", "kwargs": {"city": city}} for city in ("Oslo", "Rome")]
        asyncio.run(tool.run_batch(batch))
        with pytest.raises(Exception, match="broken"):
            tool.run("broken", city="Paris")
    assert counted(recorded.report, "tool") == {"Weather": 7}
    assert recorded.report.errors("tool") == 1
    assert counted(recorded.report, "retrieval") == {"almanac": 6}
    assert recorded.traces == 1


def test_tools_that_an_agent_is_told_to_call(recorded: Recorded) -> None:
    class Plain:
        """Inherits nothing."""

        async def run_async(self, operation: str, **kwargs: Any) -> str:
            return operation

    async def run() -> None:
        agent = await ready(planner(tools={"weather": Weather(enable_cache=False)}))
        agent._tool_instances["plain"] = Plain()
        paris = {"tool_name": "weather", "parameters": {"operation": "get_weather", "city": "Paris"}}
        plain = {"tool_name": "plain", "parameters": {"operation": "look"}}
        with otel_agentperf.agent("outer"):
            await agent.execute_tools_parallel([paris, paris, plain])

    asyncio.run(run())
    assert counted(recorded.report, "tool") == {"weather": 2, "plain": 1}
    assert [recorded.parent(span) for span in recorded.named("execute_tool weather")] == ["invoke_agent outer"] * 2


def test_the_executors_cache(recorded: Recorded) -> None:
    paris = ("weather_get_weather", {"city": "Paris"})
    asyncio.run(execute(planner(ask(paris, paris), ask(paris, ("weather_forecast", {"city": "Rome"})), "ok")))
    assert counted(recorded.report, "tool") == {"weather": 4}
    assert counted(recorded.report, "retrieval") == {"almanac": 2}
    (cache,) = recorded.report.caches
    assert (cache.name, cache.lookups, cache.hits) == ("aiecs tools", 4, 2)


def test_an_agents_own_cache(recorded: Recorded) -> None:
    async def run() -> None:
        agent = await ready(planner(tools={"weather": Weather(enable_cache=False)}))
        agent._cache_config = CacheConfig(enabled=True, default_ttl=300)
        with otel_agentperf.agent("outer"):
            for city in ("Paris", "Paris", "Rome"):
                await agent.execute_tool_with_cache("weather", {"operation": "get_weather", "city": city})
            given = {"operation": "get_weather", "city": "Rome"}
            await agent.execute_tool_with_cache(parameters=given, tool_name="weather")

    asyncio.run(run())
    assert counted(recorded.report, "tool") == {"weather": 2}
    (cache,) = recorded.report.caches
    assert (cache.name, cache.lookups, cache.hits) == ("aiecs agent tools", 4, 2)


def test_look_ups_without_spans_or_without_a_run(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented()
    Weather()._executor._get_from_cache("key")
    assert [span.name for span in recorded.spans] == []
    otel_agentperf.uninstrument()
    recorded = instrumented(cache_spans="none")
    asyncio.run(execute(planner(*TURNS)))
    assert recorded.named("cache get aiecs tools") == []


@pytest.mark.parametrize("chunks", [True, False])
def test_clients_called_by_the_program(recorded: Recorded, chunks: bool) -> None:
    async def run() -> None:
        assert (await Client().generate_text([])).content == "done"
        assert [piece async for piece in Client("a b").stream_text([], return_chunks=chunks)]

    with otel_agentperf.agent("outer"):
        asyncio.run(run())
    assert counted(recorded.report, "llm") == {"fake-1": 1, "fake": 1}
    assert recorded.report.tokens.input == (100 if chunks else 50)


def test_a_client_of_any_class_that_the_program_registered(recorded: Recorded) -> None:
    class Registered(Answers):
        async def get_embeddings(self, texts: Any, model: Any = None, **kwargs: Any) -> list[list[float]]:
            return []

    async def run() -> None:
        manager = LLMClientManager()
        assert (await manager.generate_text("hi", provider="ours")).content == "done"
        assert [piece async for piece in manager.stream_text("hi", provider="ours")] == ["done"]

    LLMClientFactory.register_custom_provider("ours", Registered())
    with otel_agentperf.agent("outer"):
        asyncio.run(run())
    assert counted(recorded.report, "llm") == {"fake": 1, "fake-1": 1}


def test_input_that_leaves_out_the_prompt_cache(recorded: Recorded) -> None:
    class Vertex(Client):
        provider_name = "AnthropicVertex"

        async def generate_text(self, messages: Any, model: Any = None, tools: Any = None, **kwargs: Any) -> Any:
            return LLMResponse(content="hi", provider="AnthropicVertex", model="m", prompt_tokens=18,
                               completion_tokens=7, cache_read_tokens=32, cache_creation_tokens=4)  # fmt: skip

    with otel_agentperf.agent("outer"):
        asyncio.run(Vertex().generate_text([], "m"))
    assert (recorded.report.tokens.input, recorded.report.tokens.cache_read) == (54, 32)


@pytest.mark.parametrize("run", [execute, stream])
def test_tokens_of_the_provider_count_once(recorded: Recorded, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_and_close() -> None:
        client = OpenAIClient()
        await run(planner(client=client))
        await client.close()

    with ModelServer(calls(("weather_get_weather", {"city": "Paris"})), "sunny") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        asyncio.run(run_and_close())
    report = recorded.report
    assert counted(report, "llm") == {"fake-1": len(server.requests)} == {"fake-1": 2}
    assert counted(report, "tool") == {"weather": 1}
    assert (report.tokens.input, report.tokens.output) == (2 * INPUT, 2 * OUTPUT)
    assert report.tokens.cache_read == 2 * CACHED


def test_leaving_a_stream_early_ends_the_agent_well(recorded: Recorded) -> None:
    async def run() -> None:
        agent = await ready(planner("one two three"))
        events = agent.execute_task_streaming(dict(TASK), {})
        async for event in events:
            if event["type"] == "token":
                break
        await asyncio.create_task(events.aclose())

    asyncio.run(run())
    assert recorded.one("invoke_agent Planner").status.status_code.name == "UNSET"
    assert not get_current_span().get_span_context().is_valid


def test_a_cancelled_agent_has_the_type_of_its_cancellation(recorded: Recorded) -> None:
    class Waiting(Client):
        async def generate_text(self, messages: Any, model: Any = None, tools: Any = None, **kwargs: Any) -> Any:
            await asyncio.sleep(30)

    async def cancel() -> None:
        running = asyncio.create_task(execute(planner(client=Waiting())))
        await asyncio.sleep(0.3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cancel())
    for name in ("invoke_agent Planner", "chat fake-1"):
        attributes = recorded.one(name).attributes
        assert attributes is not None
        assert attributes["error.type"] == "CancelledError"


def test_agents_side_by_side_are_runs_of_their_own(recorded: Recorded) -> None:
    async def both() -> None:
        await asyncio.gather(execute(planner(*TURNS, name="Left")), execute(planner(*TURNS, name="Right")))

    asyncio.run(both())
    assert sorted(report.root.operation for report in recorded.reports) == ["Left", "Right"]
    assert [counted(report, "tool") for report in recorded.reports] == [{"weather": 2}] * 2


def test_suppressed_or_taken_back_means_untraced(recorded: Recorded) -> None:
    with suppress_instrumentation():
        asyncio.run(execute(planner(*TURNS)))
    otel_agentperf.uninstrument()
    asyncio.run(execute(planner("done", kind=LLMAgent)))
    assert [span.name for span in recorded.spans] == []


PROGRAM = """
import asyncio
from aiecs.domain.agent import AgentConfiguration, HybridAgent
from aiecs.llm import OpenAIClient
from aiecs.tools.base_tool import BaseTool

class Weather(BaseTool):
    def get_weather(self, city: str) -> str:
        "The weather in a city."
        return f"sunny in {city}"

    async def price(self, thing: str) -> str:
        "The price of a thing."
        raise ConnectionError("no prices today")

def make(name, tools):
    config = AgentConfiguration(llm_model="gpt-4o-mini")
    return HybridAgent(agent_id=name, name=name, llm_client=OpenAIClient(), tools=tools, config=config)

class Ask(BaseTool):
    async def helper(self, question: str) -> str:
        "Ask the helper."
        helper = make("Helper", {"weather": Weather({"retry_attempts": 1})})
        await helper.initialize()
        await helper.activate()
        return (await helper.execute_task({"description": question}, {}))["output"]

async def main():
    agent = make("Planner", {"ask": Ask(), "weather": Weather({"retry_attempts": 1})})
    await agent.initialize()
    await agent.activate()
    if STREAM:
        async for event in agent.execute_task_streaming({"description": "plan"}, {}):
            if event["type"] in ("tool_result", "tool_error", "result"):
                print(event["type"], event.get("output"))
    else:
        result = await agent.execute_task({"description": "plan"}, {})
        print(result["output"], result["tool_calls_count"])

asyncio.run(main())
"""
ANSWERS = (
    calls(("weather_get_weather", {"city": "Paris"}), ("weather_get_weather", {"city": "Paris"})),
    calls(("ask_helper", {"question": "how much?"})),
    calls(("weather_price", {"thing": "tea"})),
    "Nobody knows.",
    "It is sunny.",
)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_program(tmp_path: Path, streamed: bool) -> None:
    with ModelServer(*ANSWERS * 3) as server:
        env = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none"}
        told = three_ways(PROGRAM.replace("STREAM", str(streamed)), tmp_path, env=env)
    assert told.agents == {"Planner": 1, "Helper": 1}
    assert told.tools == {"weather": 3, "ask": 1}
    assert told.llm == {"gpt-4o-mini": 5}
    assert told.tokens == {"input": 5 * INPUT, "output": 5 * OUTPUT, "cache_read": 5 * CACHED}
    assert told.errors == {"weather": 1}
    assert told.caches == {"aiecs tools": (1, 4)}
