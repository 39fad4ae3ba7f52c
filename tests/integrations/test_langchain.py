"""LangChain and LangGraph: every agent, tool and model call once, rightly nested, however it is called."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    FakeMessagesListChatModel,
    GenericFakeChatModel,
)
from langchain_core.messages import AIMessage, AIMessageChunk, ToolCall, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool, InjectedToolArg, ToolException, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from opentelemetry.context import attach, detach, set_value
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span
from pydantic import SecretStr

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, calls
from _recorded import Recorded, counted

USAGE = {"input_tokens": 50, "output_tokens": 7, "total_tokens": 57, "input_token_details": {"cache_read": 32}}


class Model(FakeMessagesListChatModel):
    model_name: str = "fake"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def message(*tools: tuple[str, dict[str, Any]], text: str = "done") -> AIMessage:
    asked = [ToolCall(name=name, args=args, id=f"{name}-{place}") for place, (name, args) in enumerate(tools)]
    return AIMessage(content="" if tools else text, tool_calls=asked, usage_metadata=USAGE)  # type: ignore[arg-type]


def model(*messages: AIMessage) -> Model:
    return Model(responses=list(messages))


@tool
def get_weather(city: str) -> str:
    """The weather."""
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


def planner(*messages: AIMessage, tools: Any = (get_weather,), name: str = "planner", **more: Any) -> Any:
    return create_agent(model(*messages), list(tools), name=name, **more)


ASK = {"messages": [("user", "weather?")]}
TWO_TURNS = (message(("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})), message())


def invoke(graph: Any) -> None:
    graph.invoke(ASK)


def stream(graph: Any) -> None:
    for _ in graph.stream(ASK):
        assert not get_current_span().get_span_context().is_valid, "the consumer is not inside the agent"


def ainvoke(graph: Any) -> None:
    asyncio.run(graph.ainvoke(ASK))


def astream(graph: Any) -> None:
    async def read() -> None:
        async for _ in graph.astream(ASK, stream_mode="messages"):
            assert not get_current_span().get_span_context().is_valid

    asyncio.run(read())


def astream_events(graph: Any) -> None:
    async def read() -> None:
        async for _ in graph.astream_events(ASK, version="v2"):
            pass

    asyncio.run(read())


def batch(graph: Any) -> None:
    graph.batch([ASK])


@pytest.mark.parametrize("run", [invoke, stream, ainvoke, astream, astream_events, batch])
def test_an_agent_its_tools_and_model_calls(recorded: Recorded, run: Callable[[Any], None]) -> None:
    run(planner(*TWO_TURNS))
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 2}
    assert counted(report, "llm") == {"fake": 2}
    assert counted(report, "retrieval") == {"almanac": 2}
    assert (report.tokens.input, report.tokens.output, report.tokens.cache_read) == (100, 14, 64)
    assert report.errors("tool", "agent", "llm") == 0
    for span in recorded.named("execute_tool get_weather"):
        assert recorded.parent(span) == "invoke_agent planner"
        assert span.attributes is not None
        assert str(span.attributes["gen_ai.tool.call.id"]).startswith("get_weather-")
    for span in recorded.named("retrieval almanac"):
        assert recorded.parent(span) == "execute_tool get_weather"


def test_no_content_unless_it_is_wanted(recorded: Recorded) -> None:
    planner(*TWO_TURNS).invoke(ASK)
    shown = str([dict(span.attributes or {}) for span in recorded.spans])
    assert "Paris" not in shown
    assert "weather?" not in shown


def test_content_where_it_is_wanted(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    planner(*TWO_TURNS).invoke(ASK)
    attributes = recorded.named("execute_tool get_weather")[0].attributes
    assert attributes is not None
    assert attributes["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
    assert attributes["gen_ai.tool.call.result"] == "sunny in Paris"


def test_an_agent_inside_a_tool_is_a_sub_agent(recorded: Recorded) -> None:
    helper = planner(*TWO_TURNS, name="helper")

    @tool
    def ask_helper(question: str) -> str:
        """Ask."""
        return str(helper.invoke(ASK)["messages"][-1].content)

    planner(message(("ask_helper", {"question": "?"})), message(), tools=[ask_helper]).invoke(ASK)
    report = recorded.report
    assert counted(report, "agent") == {"planner": 1, "helper": 1}
    assert counted(report, "tool") == {"ask_helper": 1, "get_weather": 2}
    assert counted(report, "llm") == {"fake": 4}
    assert recorded.parent(recorded.one("invoke_agent helper")) == "execute_tool ask_helper"


class State(TypedDict):
    messages: Annotated[list[Any], lambda before, new: before + new]


def test_a_graph_as_a_node_is_an_agent_of_its_parent(recorded: Recorded) -> None:
    inner = StateGraph(State)
    inner.add_node("think", lambda state: {"messages": [model(message()).invoke("think")]})
    inner.add_edge(START, "think")
    outer = StateGraph(State)
    outer.add_node("named", planner(message(), tools=[], name="writer"))
    outer.add_node("research", inner.compile())
    outer.add_edge(START, "research")
    outer.add_edge("research", "named")
    outer.compile().invoke(ASK)
    assert recorded.tree == [
        ("invoke_agent LangGraph", [
            ("invoke_agent research", ["chat fake"]),
            ("invoke_agent writer", ["chat fake"]),
        ])
    ]  # fmt: skip
    assert len(recorded.reports) == 1


def test_a_function_as_a_graph_has_its_name(recorded: Recorded) -> None:
    @entrypoint()
    def flow(question: str) -> Any:
        return model(message()).invoke(question).content

    flow.invoke("think")
    assert recorded.tree == [("invoke_agent flow", ["chat fake"])]


def test_a_handoff_to_the_parent_graph_is_no_error(recorded: Recorded) -> None:
    def hand_over(state: State) -> Command[Any]:
        return Command(goto="second", graph=Command.PARENT)

    first = StateGraph(State)
    first.add_node("decide", hand_over)
    first.add_edge(START, "decide")
    parent = StateGraph(State)
    parent.add_node("first", first.compile(name="first"))
    parent.add_node("second", lambda state: {"messages": []})
    parent.add_edge(START, "first")
    parent.compile(name="team").invoke(ASK)
    assert counted(recorded.report, "agent") == {"team": 1, "first": 1}
    assert recorded.report.errors("agent") == 0


def test_asking_a_human_is_no_error(recorded: Recorded) -> None:
    @tool
    def confirm(what: str) -> str:
        """Ask the human."""
        return str(interrupt(what))

    graph = planner(message(("confirm", {"what": "?"})), message(), tools=[confirm], checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke(ASK, thread)
    graph.invoke(Command(resume="yes"), thread)
    assert [counted(report, "tool") for report in recorded.reports] == [{"confirm": 1}, {"confirm": 1}]
    assert sum(report.errors("tool", "agent") for report in recorded.reports) == 0


@tool
def broken(city: str) -> str:
    """Fails."""
    raise LookupError(city)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failing_tool_fails_the_run_as_without_us(recorded: Recorded, asynchronous: bool) -> None:
    graph = planner(message(("broken", {"city": "Paris"})), tools=[broken])
    with pytest.raises(LookupError, match="Paris"):
        asyncio.run(graph.ainvoke(ASK)) if asynchronous else graph.invoke(ASK)
    span = recorded.one("execute_tool broken")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "LookupError"
    assert span.events == ()
    assert recorded.report.errors("agent") == 1


def refusing(**handled: Any) -> BaseTool:
    @tool
    def refuse(number: int) -> str:
        """Refuses."""
        raise ToolException("no")

    for name, value in handled.items():
        setattr(refuse, name, value)
    return refuse


@pytest.mark.parametrize(
    "given", [{"number": 1}, {"type": "tool_call", "name": "refuse", "args": {"number": 1}, "id": "a"}]
)
def test_a_handled_tool_exception_is_an_error(recorded: Recorded, given: Any) -> None:
    answer = refusing(handle_tool_error=True).invoke(given)
    assert (answer.content if isinstance(answer, ToolMessage) else answer) == "no"
    span = recorded.one("execute_tool refuse")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "langchain_core.tools.base.ToolException"
    assert not span.status.is_ok


def test_a_handled_validation_error_is_an_error_also_async(recorded: Recorded) -> None:
    refuse = refusing(handle_validation_error=True)
    asyncio.run(refuse.ainvoke({"number": "many"}))
    span = recorded.one("execute_tool refuse")
    assert span.attributes is not None
    assert "ValidationError" in str(span.attributes["error.type"])


def test_a_tool_that_answers_with_an_error_message_has_failed(recorded: Recorded) -> None:
    @tool
    def look_up(city: str) -> ToolMessage:
        """Look."""
        return ToolMessage("not found", tool_call_id="look_up-0", status="error")

    planner(message(("look_up", {"city": "Paris"})), message(), tools=[look_up]).invoke(ASK)
    assert recorded.report.errors("tool") == 1


def test_an_error_that_a_tool_handles_elsewhere_is_not_its_own(recorded: Recorded) -> None:
    with otel_agentperf.llm("other"):
        from langchain_core.tools.base import _handle_tool_error

        assert _handle_tool_error(ToolException("no"), flag=True) == "no"
    assert recorded.one("chat other").status.is_ok or recorded.one("chat other").status.status_code.name == "UNSET"


def test_injected_arguments_do_not_make_calls_differ(recorded: Recorded) -> None:
    @tool
    def search(query: str, state: Annotated[Any, InjectedToolArg]) -> str:
        """Search."""
        return query

    for number in range(2):
        search.invoke({"query": "tea", "state": {"turn": number}})
    first, second = recorded.named("execute_tool search")
    assert first.attributes is not None
    assert second.attributes is not None
    assert first.attributes["agentperf.args.hash"] == second.attributes["agentperf.args.hash"]


def test_leaving_a_stream_early_ends_the_agent_well(recorded: Recorded) -> None:
    chunks = planner(*TWO_TURNS).stream(ASK)
    next(chunks)
    assert recorded.named("invoke_agent planner") == []
    chunks.close()
    assert recorded.one("invoke_agent planner").status.status_code.name == "UNSET"
    assert not get_current_span().get_span_context().is_valid


def test_a_cancelled_agent_has_the_type_of_its_cancellation(recorded: Recorded) -> None:
    @tool
    async def wait(city: str) -> str:
        """Waits."""
        await asyncio.sleep(30)
        return city

    async def cancel() -> None:
        task = asyncio.create_task(planner(message(("wait", {"city": "Paris"})), tools=[wait]).ainvoke(ASK))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    for name in ("execute_tool wait", "invoke_agent planner"):
        attributes = recorded.one(name).attributes
        assert attributes is not None
        assert attributes["error.type"] == "CancelledError"


def test_agents_side_by_side_are_runs_of_their_own(recorded: Recorded) -> None:
    async def both() -> None:
        await asyncio.gather(*(planner(*TWO_TURNS, name=name).ainvoke(ASK) for name in ("left", "right")))

    asyncio.run(both())
    assert sorted(report.root.operation for report in recorded.reports) == ["left", "right"]
    assert [counted(report, "tool") for report in recorded.reports] == [{"get_weather": 2}] * 2


def test_a_model_called_alone(recorded: Recorded) -> None:
    with otel_agentperf.agent("outer"):
        model(message()).invoke("hello")
        model(message(), message()).batch(["one", "two"])
        asyncio.run(model(message()).ainvoke("hello"))
    assert counted(recorded.report, "llm") == {"fake": 4}
    assert recorded.report.tokens.input == 200


def test_a_model_that_cannot_stream_is_called_once(recorded: Recorded) -> None:
    class Whole(FakeListChatModel):
        model: str = "whole"
        disable_streaming: Any = True

    async def read() -> None:
        async for _ in Whole(responses=["a b"]).astream("hello"):
            pass

    list(Whole(responses=["a b"]).stream("hello"))
    asyncio.run(read())
    assert [span.name for span in recorded.spans] == ["chat whole", "chat whole"]


class Streaming(GenericFakeChatModel):
    """Tells its tokens piece by piece, as providers do."""

    model_name: str = "streaming"
    fail: bool = False

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for word, told in (("a", (50, 0)), (" b", (0, 3)), (" c", (0, 4))):
            time.sleep(0.01)
            usage = {"input_tokens": told[0], "output_tokens": told[1], "total_tokens": sum(told)}
            yield ChatGenerationChunk(message=AIMessageChunk(content=word, usage_metadata=usage))  # type: ignore[arg-type]
            if self.fail:
                raise ConnectionError("gone")

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream():
            await asyncio.sleep(0)
            yield chunk


def test_a_streamed_answer_has_its_tokens_and_time_to_first_chunk(recorded: Recorded) -> None:
    async def read() -> None:
        async for _ in Streaming(messages=iter(())).astream("hello"):
            pass

    with otel_agentperf.agent("outer"):
        for _ in Streaming(messages=iter(())).stream("hello"):
            assert get_current_span().name == "invoke_agent outer"  # type: ignore[attr-defined]
        asyncio.run(read())
    assert counted(recorded.report, "llm") == {"streaming": 2}
    assert (recorded.report.tokens.input, recorded.report.tokens.output) == (100, 14)
    for span in recorded.named("chat streaming"):
        assert span.attributes is not None
        first = span.attributes["gen_ai.response.time_to_first_chunk"]
        assert isinstance(first, float)
        assert 0.005 < first < (span.end_time or 0) / 1e9 - (span.start_time or 0) / 1e9


def test_a_stream_that_breaks_or_is_left(recorded: Recorded) -> None:
    with pytest.raises(ConnectionError):
        list(Streaming(messages=iter(()), fail=True).stream("hello"))
    left = Streaming(messages=iter(())).stream("hello")
    next(left)
    left.close()  # type: ignore[attr-defined]
    broken, closed = recorded.named("chat streaming")
    assert broken.attributes is not None
    assert closed.attributes is not None
    assert broken.attributes["error.type"] == "ConnectionError"
    assert "error.type" not in closed.attributes
    assert closed.attributes["gen_ai.usage.input_tokens"] == 50


def chat_openai(server: ModelServer, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-stub", base_url=server.url, api_key=SecretStr("none"), max_retries=0, **more)


def test_the_clients_own_span_does_not_count_again(recorded: Recorded) -> None:
    with ModelServer(calls(("get_weather", {"city": "Paris"})), "sunny") as server:
        create_agent(chat_openai(server), [get_weather], name="planner").invoke(ASK)
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "llm") == {"gpt-stub": 2}
    assert counted(report, "tool") == {"get_weather": 1}
    assert (report.tokens.input, report.tokens.output) == (2 * INPUT, 2 * OUTPUT)
    assert report.tokens.cache_read == 2 * CACHED


@pytest.mark.parametrize("stream_usage", [True, False])
def test_a_client_that_streams_counts_once(recorded: Recorded, stream_usage: bool) -> None:
    with ModelServer("one two three") as server, otel_agentperf.agent("outer"):
        text = "".join(str(c.content) for c in chat_openai(server, stream_usage=stream_usage).stream("hi"))
    assert text == "one two three"
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.tokens.input == (INPUT if stream_usage else None)


def test_a_retriever(recorded: Recorded) -> None:
    class Shelf(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
            return [Document(query)]

    with otel_agentperf.agent("outer"):
        assert Shelf().invoke("tea")[0].page_content == "tea"
        asyncio.run(Shelf().ainvoke("tea"))
    assert counted(recorded.report, "retrieval") == {"Shelf": 2}


def test_suppressed_means_untraced(recorded: Recorded) -> None:
    with suppress_instrumentation():
        planner(*TWO_TURNS).invoke(ASK)
    token = attach(set_value("unrelated", True))
    detach(token)
    assert recorded.spans == []


def test_a_tool_is_still_found_by_its_signature(recorded: Recorded) -> None:
    import inspect

    from langgraph.pregel import Pregel

    assert inspect.isgeneratorfunction(Pregel.stream)
    assert inspect.isasyncgenfunction(Pregel.astream)
    assert inspect.iscoroutinefunction(BaseTool.arun)
    assert list(inspect.signature(BaseTool.run).parameters)[:2] == ["self", "tool_input"]
    assert END == "__end__"
