"""Strands Agents: its own spans, each call once, with what they lack."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import get_current_span
from pydantic import BaseModel
from strands import Agent, tool
from strands.models.model import Model
from strands.models.openai import OpenAIModel
from strands.multiagent import GraphBuilder, Swarm
from strands.telemetry.tracer import Tracer, get_tracer

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, calls
from _recorded import Recorded, counted
from _three_ways import three_ways
from otel_agentperf.integrations.strands import _Open

ENVIRONMENTS = ("strands",)
REQUIRES = ("strands-agents[openai]", "opentelemetry-sdk==1.45.1")

pytestmark = pytest.mark.filterwarnings("ignore:graph has no max_node_executions:UserWarning")


@pytest.fixture
def strands(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Strands' tracer goes to the global provider; here there is none."""
    provide(recorded, monkeypatch)
    return recorded


def provide(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_tracer(), "tracer", recorded.provider.get_tracer("strands.telemetry.tracer"))


class Fake(Model):
    """Gives its answers in order: a text, calls of tools, or an error."""

    def __init__(self, name: str | None, *answers: Any) -> None:
        self.answers = list(answers)
        self.config = {"model_id": name} if name else {}

    def update_config(self, **config: Any) -> None:
        self.config.update(config)

    def get_config(self) -> Any:
        return self.config

    async def structured_output(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        yield {}

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield {"messageStart": {"role": "assistant"}}
        for event in text(answer) if isinstance(answer, str) else tool_uses(answer):
            await asyncio.sleep(0.003)
            yield event
        yield {"messageStop": {"stopReason": "end_turn" if isinstance(answer, str) else "tool_use"}}
        usage = {"inputTokens": INPUT, "outputTokens": OUTPUT, "totalTokens": INPUT + OUTPUT}
        metrics = {"latencyMs": 5}
        yield {"metadata": {"usage": {**usage, "cacheReadInputTokens": CACHED}, "metrics": metrics}}


def text(answer: str) -> Any:
    yield {"contentBlockStart": {"start": {}}}
    for word in answer.split():
        yield {"contentBlockDelta": {"delta": {"text": word}}}
    yield {"contentBlockStop": {}}


def tool_uses(answer: Any) -> Any:
    for place, (name, arguments) in enumerate(answer):
        yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": f"{name}-{place}"}}}}
        yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(arguments)}}}}
        yield {"contentBlockStop": {}}


def agent(name: str, *answers: Any, **more: Any) -> Agent:
    return Agent(model=Fake(f"fake-{name}", *answers), name=name, callback_handler=None, **more)


@tool
def get_weather(city: str) -> str:
    """The weather."""
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


@tool
async def get_time(city: str) -> str:
    """The time."""
    with otel_agentperf.retrieval("clock"):
        await asyncio.sleep(0.05)
    return "noon"


@tool
def broken(city: str) -> str:
    """Raises."""
    raise LookupError("no")


@tool
def refuse(city: str) -> dict[str, Any]:
    """Says no, in Strands' own way."""
    return {"status": "error", "content": [{"text": "no"}]}


TURN = [("get_weather", {"city": "Paris"}), ("get_time", {"city": "Rome"})]


def called(planner: Agent) -> None:
    planner("secret question")


def awaited(planner: Agent) -> None:
    asyncio.run(planner.invoke_async("secret question"))


def streamed(planner: Agent) -> None:
    async def read() -> None:
        async for _ in planner.stream_async("secret question"):
            assert not get_current_span().get_span_context().is_valid, "the consumer is not inside the agent"

    asyncio.run(read())


def attributes(recorded: Recorded, name: str) -> dict[str, Any]:
    return dict(recorded.one(name).attributes or {})


@pytest.mark.parametrize("way", [called, awaited, streamed])
@pytest.mark.parametrize("opt_in", ["", "gen_ai_latest_experimental,gen_ai_use_latest_invocation_tokens"])
def test_an_agent_with_tools(recorded: Recorded, way: Any, opt_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", opt_in)
    monkeypatch.setattr("strands.telemetry.tracer._tracer_instance", Tracer())
    provide(recorded, monkeypatch)
    planner = agent("planner", TURN, "all is well", tools=[get_weather, get_time])
    way(planner)
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(report, "llm") == {"fake-planner": 2}
    tokens = report.tokens
    assert (tokens.input, tokens.output, tokens.cache_read) == (2 * INPUT, 2 * OUTPUT, 2 * CACHED)
    assert report.errors("agent", "tool", "llm") == 0
    assert recorded.parent(recorded.one("retrieval almanac")) == "execute_tool get_weather"
    assert recorded.parent(recorded.one("retrieval clock")) == "execute_tool get_time"
    told = attributes(recorded, "execute_tool get_weather")
    assert {"agentperf.args.hash", "agentperf.result.hash", "gen_ai.tool.call.id"} <= told.keys()


def test_the_tokens_of_a_second_question_are_its_own(strands: Recorded) -> None:
    planner = agent("planner", "one", "two")
    planner("a")
    planner("b")
    assert [report.tokens.input for report in strands.reports] == [INPUT, INPUT]


def test_content_where_the_user_wants_it(instrumented: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (False, True):
        recorded = instrumented(content=content)
        provide(recorded, monkeypatch)
        agent("planner", TURN, "done", tools=[get_weather, get_time])("hi")
        assert ("gen_ai.tool.call.result" in attributes(recorded, "execute_tool get_weather")) is content
        otel_agentperf.uninstrument()


def test_a_model_without_a_name(strands: Recorded) -> None:
    Agent(model=Fake(None, "done"), name="planner", callback_handler=None)("hi")
    assert counted(strands.report, "llm") == {"Fake": 1}


@pytest.mark.parametrize("how", ["a tool that asks it", "the agent itself"])
def test_sub_agents(strands: Recorded, how: str) -> None:
    helper = agent("helper", [("get_weather", {"city": "Rome"})], "helped", tools=[get_weather])

    @tool
    def ask(input: str) -> str:
        """Asks the helper."""
        return str(helper(input))

    name = "ask" if how == "a tool that asks it" else "helper"
    planner = agent("planner", [(name, {"input": "hi"})], "done", tools=[ask if name == "ask" else helper])
    planner("hi")
    report = strands.report
    assert strands.traces == 1
    assert counted(report, "agent") == {"planner": 1, "helper": 1}
    assert counted(report, "tool") == {name: 1, "get_weather": 1}
    assert strands.parent(strands.one("invoke_agent helper")) == f"execute_tool {name}"
    assert report.tokens.input == 4 * INPUT


def test_a_swarm_and_its_hand_offs(strands: Recorded) -> None:
    handoff = [("handoff_to_agent", {"agent_name": "writer", "message": "write"})]
    Swarm([agent("researcher", handoff, "found"), agent("writer", "written")])("secret task")
    report = strands.report
    assert (strands.traces, report.root.operation, report.root.kind) == (1, "swarm", "workflow")
    assert counted(report, "agent") == {"researcher": 1, "writer": 1}
    assert counted(report, "tool") == {}
    assert counted(report, "llm") == {"fake-researcher": 2, "fake-writer": 1}


def test_a_graph(strands: Recorded) -> None:
    builder = GraphBuilder()
    builder.add_node(agent("first", "one"), "first")
    builder.add_node(agent("second", [("get_weather", {"city": "Rome"})], "two", tools=[get_weather]), "second")
    builder.add_edge("first", "second")
    builder.set_entry_point("first")
    builder.build()("secret task")
    report = strands.report
    assert (strands.traces, report.root.operation, report.root.kind) == (1, "graph", "workflow")
    assert counted(report, "agent") == {"first": 1, "second": 1}
    assert counted(report, "tool") == {"get_weather": 1}


@pytest.mark.parametrize(("failing", "error"), [(broken, "LookupError"), (refuse, "tool_error")])
def test_failing_tools_whose_error_the_model_is_told(strands: Recorded, failing: Any, error: str) -> None:
    name = failing.tool_name
    agent("planner", [(name, {"city": "Paris"})], "done", tools=[failing])("hi")
    assert counted(strands.report, "tool") == {name: 1}
    assert strands.report.errors("tool") == 1
    assert strands.report.errors("agent", "llm") == 0
    assert attributes(strands, f"execute_tool {name}")["error.type"] == error


def test_a_failing_model(strands: Recorded) -> None:
    with pytest.raises(RuntimeError):
        agent("planner", RuntimeError("down"))("hi")
    assert (strands.report.errors("llm"), strands.report.errors("agent")) == (1, 1)
    assert attributes(strands, "chat")["error.type"] == "RuntimeError"
    assert attributes(strands, "invoke_agent planner")["error.type"] == "RuntimeError"


def test_cancellation(strands: Recorded) -> None:
    async def cancelled() -> None:
        started = asyncio.Event()

        @tool
        async def get_forever(city: str) -> None:
            """Never comes back."""
            started.set()
            await asyncio.sleep(60)

        planner = agent("planner", [("get_forever", {"city": "Paris"})], tools=[get_forever])
        task = asyncio.create_task(planner.invoke_async("hi"))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    for name in ("invoke_agent planner", "execute_tool get_forever"):
        assert attributes(strands, name)["error.type"] == "CancelledError", name


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_tool_that_ends_the_program(strands: Recorded, kind: type[BaseException]) -> None:
    @tool
    def get_lost(city: str) -> None:
        """Ends it all."""
        raise kind("enough")

    with pytest.raises(kind, match="enough"):
        agent("planner", [("get_lost", {"city": "Paris"})], tools=[get_lost])("hi")
    assert attributes(strands, "execute_tool get_lost")["error.type"] == kind.__name__
    assert attributes(strands, "invoke_agent planner")["error.type"] == "CancelledError"


@pytest.mark.parametrize("then", ["more to do", "the end"])
def test_a_stream_that_is_left_early_ended_well(strands: Recorded, then: str) -> None:
    async def leave() -> None:
        planner = agent("planner", [("get_weather", {"city": "Paris"})], "one two three", tools=[get_weather])
        async for event in planner.stream_async("hi"):
            if "data" in event:
                break
        if then == "more to do":
            await asyncio.sleep(0.05)
            with otel_agentperf.tool("afterwards"):
                pass
            await agent("next", "done").invoke_async("hi")

    asyncio.run(leave())
    assert strands.traces == (3 if then == "more to do" else 1)
    report = strands.reports[0]
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "llm") == {"fake-planner": 2}
    assert report.errors("agent", "tool", "llm") == 0


def graph() -> Any:
    builder = GraphBuilder()
    builder.add_node(agent("worker", "one two three four five"), "worker")
    builder.set_entry_point("worker")
    return builder.build()


@pytest.mark.parametrize("several", [graph, lambda: Swarm([agent("worker", "one two three four five")])])
def test_agents_of_a_stream_that_is_left_early_ended_well(strands: Recorded, several: Any) -> None:
    async def leave() -> None:
        async for event in several().stream_async("hi"):
            if "data" in event.get("event", ()):
                break
        await asyncio.sleep(0.1)

    asyncio.run(leave())
    for name in ("invoke_agent worker", "chat"):
        assert "error.type" not in attributes(strands, name), name


def test_structured_output_is_no_tool(strands: Recorded) -> None:
    class Answer(BaseModel):
        """The answer."""

        number: int

    result = agent("planner", [("Answer", {"number": 3})], "done")("hi", structured_output_model=Answer)
    assert result.structured_output == Answer(number=3)
    assert counted(strands.report, "tool") == {}
    assert counted(strands.report, "agent") == {"planner": 1}


def test_tools_that_the_program_calls(strands: Recorded) -> None:
    planner = agent("planner", tools=[get_weather, broken])
    assert planner.tool.get_weather(city="Rome")["content"] == [{"text": "sunny in Rome"}]
    assert planner.tool.broken(city="Rome")["status"] == "error"
    assert {"agentperf.args.hash", "agentperf.result.hash"} <= attributes(strands, "execute_tool get_weather").keys()
    assert attributes(strands, "execute_tool broken")["error.type"] == "LookupError"
    assert strands.parent(strands.one("retrieval almanac")) == "execute_tool get_weather"


def test_agents_in_threads(strands: Recorded) -> None:
    planners = [agent(f"planner_{n}", TURN, "done", tools=[get_weather, get_time]) for n in range(4)]
    threads = [threading.Thread(target=planner, args=("hi",)) for planner in planners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert strands.traces == 4
    assert [counted(report, "tool") for report in strands.reports] == [{"get_weather": 1, "get_time": 1}] * 4


def test_a_client_that_is_traced_too_is_one_call(strands: Recorded) -> None:
    with ModelServer(calls(("get_weather", {"city": "Paris"})), "done") as server:
        model = OpenAIModel(client_args={"api_key": "test", "base_url": server.url}, model_id="gpt-stub")
        Agent(model=model, name="planner", tools=[get_weather], callback_handler=None)("hi")
    assert counted(strands.report, "llm") == {"gpt-stub": 2}
    assert strands.report.tokens.input == 2 * INPUT
    assert attributes(strands, "execute_tool get_weather")["gen_ai.tool.call.id"]


def test_nothing_is_kept_of_runs_that_have_ended(strands: Recorded) -> None:
    planner = agent("planner", TURN, "done", tools=[get_weather, get_time])
    planner("hi")
    strands.forget()
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is _Open]


def test_switched_off(strands: Recorded) -> None:
    otel_agentperf.uninstrument()
    agent("planner", TURN, "done", tools=[get_weather, get_time])("hi")
    assert "agentperf.args.hash" not in attributes(strands, "execute_tool get_weather")


PROGRAM = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from _model_server import ModelServer, calls
from strands import Agent, tool
from strands.models.openai import OpenAIModel
from strands.multiagent import Swarm

@tool
def search(query: str) -> str:
    "Search."
    return query + " found"

@tool
def book(hotel: str) -> str:
    "Book a hotel."
    raise ValueError("sold out")

def make(url, name, *tools):
    model = OpenAIModel(client_args={{"api_key": "test", "base_url": url}}, model_id="gpt-stub")
    return Agent(model=model, name=name, tools=list(tools), callback_handler=None)

async def stream(agent):
    async for event in agent.stream_async("go on"):
        if "data" in event:
            print(event["data"], end="|")

answers = (
    calls(("search", {{"query": "hotels"}}), ("book", {{"hotel": "Ritz"}})), calls(("expert", {{"input": "which"}})),
    "that one", "thank you", "a b c",
    calls(("handoff_to_agent", {{"agent_name": "writer", "message": "write"}})), "over", "written",
)
with ModelServer(*answers) as server:
    expert = make(server.url, "expert")
    travel = make(server.url, "travel", search, book, expert)
    print(travel("a trip"))
    asyncio.run(stream(travel))
    swarm = Swarm([make(server.url, "researcher"), make(server.url, "writer")])
    print(swarm("a report").status)
"""


def test_a_program(tmp_path: Path) -> None:
    told = three_ways(PROGRAM.format(tests=str(Path(__file__).parents[1])), tmp_path)
    assert sorted(told.runs) == ["swarm", "travel", "travel"]
    assert told.agents == {"travel": 2, "expert": 1, "researcher": 1, "writer": 1}
    assert told.tools == {"search": 1, "book": 1, "expert": 1}
    assert told.llm == {"gpt-stub": 8}
    assert told.errors == {"book": 1}
    assert told.tokens["input"] == 8 * INPUT
