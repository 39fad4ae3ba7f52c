"""LlamaIndex: agents, teams, workflows, tools, models and retrievers once each, whoever else listens."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms import ChatMessage, CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.tools import FunctionTool, QueryEngineTool, ToolMetadata
from llama_index.core.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from llama_index.llms.openai import OpenAI
from opentelemetry import context as context_api
from opentelemetry.trace import get_current_span
from workflows.errors import WorkflowCancelledByUser

import otel_agentperf
from _model_server import INPUT, OUTPUT, ModelServer, Refusal, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("openai2",)
REQUIRES = ("llama-index-llms-openai>=0.8,<0.9", "llama-index-observability-otel>=0.7,<0.8", "openai>=2,<3")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # clients and the database of its memory, left open
]
MODEL = "gpt-4o-mini"
USAGE = {"stream_options": {"include_usage": True}}


@pytest.fixture(autouse=True)
def _left_open() -> Iterator[None]:
    """What the library leaves open is collected while its warnings are ignored."""
    yield
    gc.collect()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def model(server: ModelServer, *answers: Any) -> OpenAI:
    server._answers[:] = answers
    return OpenAI(model=MODEL, api_base=server.url, api_key="none", additional_kwargs=USAGE, max_retries=0)


async def get_weather(city: str) -> str:
    """The weather."""
    with otel_agentperf.retrieval("almanac"):
        await asyncio.sleep(0)
        if city == "Atlantis":
            raise ValueError("sunk")
        return f"sunny in {city}"


def get_time(city: str) -> str:
    """The time."""
    with otel_agentperf.retrieval("clock"):
        return f"noon in {city}"


ASKED = calls(("get_weather", {"city": "Paris"}))
ASKED_AGAIN = calls(("get_time", {"city": "Rome"}))


async def awaited(handler: Any) -> str:
    return str(await handler)


async def streamed(handler: Any) -> str:
    async for _ in handler.stream_events():
        assert not get_current_span().get_span_context().is_valid, "the consumer is not inside the agent"
    return str(await handler)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("way", [awaited, streamed])
def test_an_agent_its_tools_and_model_calls(recorded: Recorded, server: ModelServer, way: Any, streaming: bool) -> None:
    llm = model(server, ASKED, ASKED_AGAIN, "sunny at noon")

    async def main() -> None:
        agent = FunctionAgent(name="planner", tools=[get_weather, get_time], llm=llm, streaming=streaming)
        assert await way(agent.run("the secret question")) == "sunny at noon"
        assert not get_current_span().get_span_context().is_valid
        assert not context_api.get_current()

    asyncio.run(main())
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(report, "llm") == {MODEL: 3}
    assert counted(report, "retrieval") == {"almanac": 1, "clock": 1}
    assert (report.tokens.input, report.tokens.output) == (3 * INPUT, 3 * OUTPUT)
    assert report.errors("agent", "tool", "llm") == 0
    assert recorded.parent(recorded.one("execute_tool get_weather")) == "invoke_agent planner"
    assert recorded.parent(recorded.one("retrieval almanac")) == "execute_tool get_weather"
    assert recorded.parent(recorded.one("retrieval clock")) == "execute_tool get_time"
    attributes = recorded.one("execute_tool get_weather").attributes
    assert attributes is not None
    assert str(attributes["gen_ai.tool.call.id"]).startswith("call_")
    assert "agentperf.result.hash" in attributes
    assert {"Paris", "secret", "sunny"}.isdisjoint(str([dict(s.attributes or {}) for s in recorded.spans]).split())


def test_equal_arguments_are_equal_calls(recorded: Recorded, server: ModelServer) -> None:
    tool = FunctionTool.from_defaults(get_time)
    with otel_agentperf.agent("outer"):
        tool.call(city="Paris")
        tool(city="Paris")
        tool.call(city="Rome")
    first, second, third = (span.attributes["agentperf.args.hash"] for span in recorded.named("execute_tool get_time"))
    assert first == second != third


def test_a_failing_tool_is_a_failed_call(recorded: Recorded, server: ModelServer) -> None:
    llm = model(server, calls(("get_weather", {"city": "Atlantis"})), ASKED, "done")

    async def main() -> None:
        await FunctionAgent(name="planner", tools=[get_weather], llm=llm).run("?")

    asyncio.run(main())
    assert counted(recorded.report, "tool") == {"get_weather": 2}
    assert recorded.report.errors("tool") == 1
    assert recorded.report.errors("agent", "llm") == 0
    failed = recorded.named("execute_tool get_weather")[0]
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ValueError"


def test_a_team_hands_over(recorded: Recorded, server: ModelServer) -> None:
    over = calls(("handoff", {"to_agent": "writer", "reason": "done"}))
    back = calls(("handoff", {"to_agent": "researcher", "reason": "more"}))
    llm = model(server, ASKED, over, back, "found", "the end")

    async def main() -> None:
        researcher = FunctionAgent(name="researcher", description="r", tools=[get_weather], llm=llm)
        writer = FunctionAgent(name="writer", description="w", tools=[], llm=llm)
        team = AgentWorkflow(agents=[researcher, writer], root_agent="researcher")
        assert str(await team.run(user_msg="?")) == "found"

    asyncio.run(main())
    report = recorded.report
    assert report.root.name == "invoke_workflow AgentWorkflow"
    assert counted(report, "agent") == {"researcher": 2, "writer": 1}
    assert counted(report, "tool") == {"get_weather": 1}
    assert counted(report, "llm") == {MODEL: 4}
    handed = [name for name in counted(report, "other") if name.startswith("handoff")]
    assert sorted(handed) == ["handoff researcher to writer", "handoff writer to researcher"]
    assert recorded.parent(recorded.one("execute_tool get_weather")) == "invoke_agent researcher"
    assert recorded.parent(recorded.one("invoke_agent writer")) == "invoke_workflow AgentWorkflow"


def test_an_agent_inside_a_tool_is_a_sub_agent(recorded: Recorded, server: ModelServer) -> None:
    llm = model(server, calls(("ask_helper", {"question": "?"})), ASKED, "sunny", "done")

    async def ask_helper(question: str) -> str:
        """Ask."""
        return str(await FunctionAgent(name="helper", tools=[get_weather], llm=llm).run(question))

    async def main() -> None:
        await FunctionAgent(name="boss", tools=[ask_helper], llm=llm).run("?")

    asyncio.run(main())
    assert counted(recorded.report, "agent") == {"boss": 1, "helper": 1}
    assert counted(recorded.report, "tool") == {"ask_helper": 1, "get_weather": 1}
    assert counted(recorded.report, "llm") == {MODEL: 4}
    assert recorded.parent(recorded.one("invoke_agent helper")) == "execute_tool ask_helper"
    assert recorded.parent(recorded.one("execute_tool get_weather")) == "invoke_agent helper"


def test_two_agents_at_once_are_two_runs(recorded: Recorded, server: ModelServer) -> None:
    llm = model(server, *["done"] * 4)

    async def main() -> None:
        agents = [FunctionAgent(name=f"agent-{number}", llm=llm) for number in range(4)]
        await asyncio.gather(*[agent.run("?") for agent in agents])

    asyncio.run(main())
    assert sorted(report.root.operation for report in recorded.reports) == [f"agent-{number}" for number in range(4)]
    assert [counted(report, "llm") for report in recorded.reports] == [{MODEL: 1}] * 4


def test_a_refused_model_call_fails_the_agent(recorded: Recorded, server: ModelServer) -> None:
    llm = model(server, Refusal(400))

    async def main() -> None:
        with pytest.raises(Exception, match="400"):
            await FunctionAgent(name="planner", llm=llm).run("?")

    asyncio.run(main())
    assert recorded.report.errors("agent") == 1
    assert recorded.report.errors("llm") == 1


def test_a_cancelled_run(recorded: Recorded, server: ModelServer) -> None:
    async def wait(city: str) -> str:
        """Wait."""
        await asyncio.sleep(10)
        return city

    llm = model(server, calls(("wait", {"city": "Paris"})))

    async def main() -> None:
        handler = FunctionAgent(name="planner", tools=[wait], llm=llm).run("?")
        await asyncio.sleep(0.5)
        await handler.cancel_run()
        with pytest.raises(WorkflowCancelledByUser):
            await handler

    asyncio.run(main())
    gc.collect()
    assert counted(recorded.report, "agent") == {"planner": 1}
    assert counted(recorded.report, "tool") == {"wait": 1}
    assert recorded.report.root.error is None


class Asked(Event):
    topic: str


class Flow(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Asked:
        return Asked(topic=ev.topic)

    @step
    async def write(self, ctx: Context, ev: Asked) -> StopEvent:
        if ev.topic == "bad":
            raise KeyError("bad")
        return StopEvent(result=FunctionTool.from_defaults(get_time).call(city=ev.topic).content)


def test_a_workflow_of_the_users_own(recorded: Recorded) -> None:
    async def main() -> None:
        assert await Flow().run(topic="Paris") == "noon in Paris"

    asyncio.run(main())
    assert recorded.tree == [
        ("invoke_workflow Flow", ["begin", ("write", [("execute_tool get_time", ["retrieval clock"])])])
    ]


def test_a_workflow_that_fails(recorded: Recorded) -> None:
    async def main() -> None:
        with pytest.raises(Exception, match="bad"):
            await Flow().run(topic="bad")

    asyncio.run(main())
    assert recorded.report.root.error == "KeyError"


def test_asking_a_human_is_no_error(recorded: Recorded, server: ModelServer) -> None:
    async def confirm(ctx: Context, what: str) -> str:
        """Ask the human."""
        answer = await ctx.wait_for_event(
            HumanResponseEvent, waiter_id="w", waiter_event=InputRequiredEvent(prefix=what)
        )
        return str(answer.response)

    confirm.__annotations__.update(ctx=Context, what=str)
    llm = model(server, calls(("confirm", {"what": "sure?"})), "done")

    async def main() -> None:
        handler = FunctionAgent(name="planner", tools=[confirm], llm=llm).run("?")
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                handler.ctx.send_event(HumanResponseEvent(response="yes"))
        await handler

    asyncio.run(main())
    assert recorded.report.errors("tool", "agent") == 0
    assert set(counted(recorded.report, "tool")) == {"confirm"}


class Own(CustomLLM):
    """A model of the user's own."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="own-1")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        usage = {"prompt_tokens": 11, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}
        return CompletionResponse(text="hey", raw={"usage": usage})

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        def chunks() -> Iterator[CompletionResponse]:
            for word in "one", "two", "three":
                with otel_agentperf.retrieval("words"):
                    yield CompletionResponse(text=word, delta=word)

        return chunks()


def test_models_of_the_users_own_however_they_are_called(recorded: Recorded) -> None:
    own, messages = Own(), [ChatMessage(content="hi")]

    async def main() -> None:
        await own.acomplete("hi")
        await own.achat(messages)
        assert [one.delta async for one in await own.astream_chat(messages)] == ["one", "two", "three"]

    with otel_agentperf.agent("outer"):
        assert own.complete("hi").text == "hey"
        assert own.chat(messages).message.content == "hey"
        assert [one.delta for one in own.stream_complete("hi")] == ["one", "two", "three"]
        assert [one.delta for one in own.stream_chat(messages)] == ["one", "two", "three"]
        asyncio.run(main())
    assert counted(recorded.report, "llm") == {"own-1": 7}
    tokens = recorded.report.tokens
    assert (tokens.input, tokens.output, tokens.cache_read) == (44, 12, 20)


def test_a_stream_left_early(recorded: Recorded, server: ModelServer) -> None:
    llm = model(server, "one two three", "four five six")
    with otel_agentperf.agent("outer"):
        for chunk in llm.stream_complete("hi"):
            assert chunk.delta == "one"
            break

        async def main() -> None:
            chunks = await llm.astream_chat([ChatMessage(content="hi")])
            async for chunk in chunks:
                assert chunk.delta == "four"
                break
            await asyncio.create_task(chunks.aclose())  # from another task

        asyncio.run(main())
        gc.collect()
    assert counted(recorded.report, "llm") == {MODEL: 2}
    assert recorded.report.errors("llm") == 0
    assert not get_current_span().get_span_context().is_valid


def test_the_reader_of_a_stream_is_not_inside_the_call(recorded: Recorded) -> None:
    with otel_agentperf.agent("outer"):
        for _ in Own().stream_complete("hi"):
            with otel_agentperf.tool("mine"):
                pass
    for span in recorded.named("execute_tool mine"):
        assert recorded.parent(span) == "invoke_agent outer"
    for span in recorded.named("retrieval words"):
        assert recorded.parent(span) == "chat own-1"


def index() -> Any:
    return VectorStoreIndex.from_documents([Document(text="hello")], embed_model=MockEmbedding(embed_dim=3))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_query_engine_is_a_run(recorded: Recorded, streaming: bool) -> None:
    engine = index().as_query_engine(llm=Own(), streaming=streaming)
    recorded.forget()
    answer = engine.query("hi")
    if streaming:
        assert "".join(answer.response_gen) == "onetwothree"
    assert recorded.report.root.name == "invoke_workflow RetrieverQueryEngine"
    assert counted(recorded.report, "llm") == {"own-1": 1}
    assert counted(recorded.report, "embedding") == {"MockEmbedding": 1}
    assert counted(recorded.report, "retrieval")["VectorIndexRetriever"] == 1


def test_a_query_engine_as_a_tool_is_a_step(recorded: Recorded, server: ModelServer) -> None:
    tool = QueryEngineTool(index().as_query_engine(llm=Own()), ToolMetadata(name="docs", description="d"))
    llm = model(server, calls(("docs", {"input": "hi"})), "done")
    recorded.forget()

    async def main() -> None:
        await FunctionAgent(name="planner", tools=[tool], llm=llm).run("?")

    asyncio.run(main())
    assert counted(recorded.report, "agent") == {"planner": 1}
    assert counted(recorded.report, "workflow") == {}
    assert counted(recorded.report, "tool") == {"docs": 1}
    assert counted(recorded.report, "llm") == {MODEL: 2, "own-1": 1}
    assert recorded.parent(recorded.one("retrieval VectorIndexRetriever")) == "RetrieverQueryEngine"


def test_a_chat_engine(recorded: Recorded) -> None:
    engine = index().as_chat_engine(chat_mode="context", llm=Own())
    recorded.forget()
    engine.chat("hi")
    assert recorded.report.root.name == "invoke_workflow ContextChatEngine"
    assert counted(recorded.report, "llm") == {"own-1": 1}


def test_an_agent_that_reasons_in_text(recorded: Recorded, server: ModelServer) -> None:
    thought = 'Thought: time\nAction: get_time\nAction Input: {"city": "Rome"}'
    llm = model(server, thought, "Thought: done\nAnswer: noon")

    async def main() -> None:
        assert str(await ReActAgent(name="reasoner", tools=[get_time], llm=llm).run("?")) == "noon"

    asyncio.run(main())
    assert counted(recorded.report, "agent") == {"reasoner": 1}
    assert counted(recorded.report, "tool") == {"get_time": 1}
    assert recorded.parent(recorded.one("retrieval clock")) == "execute_tool get_time"


@pytest.mark.parametrize("is_first", [True, False])
def test_beside_its_own_opentelemetry(
    instrumented: Callable[..., Recorded], server: ModelServer, is_first: bool
) -> None:
    from llama_index.observability.otel import LlamaIndexOpenTelemetry

    before = get_dispatcher().model_copy()
    recorded = instrumented() if not is_first else None
    theirs = LlamaIndexOpenTelemetry(tracer_provider=recorded.provider if recorded else None)
    if recorded is None:
        recorded = instrumented()
        theirs._tracer_provider = recorded.provider
        theirs.tracer_provider = recorded.provider
    theirs.start_registering()
    try:
        llm = model(server, ASKED, "done")

        async def main() -> None:
            await FunctionAgent(name="planner", tools=[get_weather], llm=llm).run("?")
            assert not get_current_span().get_span_context().is_valid

        asyncio.run(main())
        FunctionTool.from_defaults(get_time).call(city="Paris")
        Own().complete("hi")
        assert not context_api.get_current(), "nothing stays attached"
    finally:
        dispatcher = get_dispatcher()
        dispatcher.event_handlers = before.event_handlers
        dispatcher.span_handlers = [one for one in dispatcher.span_handlers if one in before.span_handlers]
    report = next(report for report in recorded.reports if report.root.operation == "planner")
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 1}
    assert counted(report, "llm") == {MODEL: 2}
    assert report.tokens.input == 2 * INPUT


def test_nothing_once_it_is_taken_back(recorded: Recorded, server: ModelServer) -> None:
    llm = model(server, "done")
    otel_agentperf.uninstrument()

    async def main() -> AsyncIterator[Any] | None:
        await FunctionAgent(name="planner", llm=llm).run("?")
        return None

    asyncio.run(main())
    assert recorded.spans == []


PROGRAM = """
    import asyncio, sys
    sys.path.insert(0, {tests!r})
    from _model_server import ModelServer, Refusal, calls
    from llama_index.core import Document, MockEmbedding, VectorStoreIndex
    from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, AgentStream, ToolCallResult
    from llama_index.core.tools import QueryEngineTool
    from llama_index.llms.openai import OpenAI

    async def search(query: str) -> str:
        "Search the web."
        if query == "bad":
            raise RuntimeError("offline")
        return f"found {{query}}"

    def add(a: int, b: int) -> int:
        "Add."
        return a + b

    async def main(server):
        llm = OpenAI(model="gpt-4o-mini", api_base=server.url, api_key="none", max_retries=0)
        docs = VectorStoreIndex.from_documents([Document(text="hello")], embed_model=MockEmbedding(embed_dim=3))
        notes = QueryEngineTool.from_defaults(docs.as_query_engine(llm=llm), name="notes", description="Notes.")
        researcher = FunctionAgent(name="researcher", description="r", tools=[search, notes], llm=llm,
                                   can_handoff_to=["writer"])
        writer = FunctionAgent(name="writer", description="w", tools=[add], llm=llm, streaming=False)
        team = AgentWorkflow(agents=[researcher, writer], root_agent="researcher")
        handler = team.run(user_msg="write")
        async for event in handler.stream_events():
            if isinstance(event, AgentStream):
                print("delta", event.delta)
            elif isinstance(event, ToolCallResult):
                print("tool", event.tool_name, event.tool_output.is_error)
        print(await handler)
        try:
            await FunctionAgent(name="unlucky", llm=llm).run("hi")
        except Exception as error:
            print(type(error).__name__)

    with ModelServer(
        calls(("search", {{"query": "cats"}})), calls(("search", {{"query": "bad"}})),
        calls(("notes", {{"input": "x"}})), "from the notes",
        calls(("handoff", {{"to_agent": "writer", "reason": ""}})),
        calls(("add", {{"a": 1, "b": 2}})), "the end", Refusal(400),
    ) as server:
        asyncio.run(main(server))
"""


def test_a_users_program_three_ways(tmp_path: Path) -> None:
    told = three_ways(PROGRAM.format(tests=str(Path(__file__).parents[1])), tmp_path)
    assert told.agents == {"researcher": 1, "writer": 1, "unlucky": 1}
    assert told.tools == {"search": 2, "notes": 1, "add": 1}
    assert told.llm == {MODEL: 8}
    assert told.errors["search"] == 1
    assert told.errors["unlucky"] == 1
