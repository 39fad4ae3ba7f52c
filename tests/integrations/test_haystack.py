"""Haystack: agents, pipelines, tools and components once each, whatever their class, beside a tracer of the user's."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from haystack import Document, Pipeline, SuperComponent, component, tracing
from haystack.components.agents import Agent, State
from haystack.components.builders import ChatPromptBuilder
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import LLM, FallbackChatGenerator, OpenAIChatGenerator
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.core.errors import PipelineRuntimeError
from haystack.dataclasses import ChatMessage, ToolCall
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import ComponentTool, Tool, create_tool_from_function, tool
from haystack.tools.errors import ToolInvocationError
from haystack.utils import Secret
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span

import otel_agentperf
from _model_server import CACHED, EMBEDDING_INPUT, INPUT, OUTPUT, ModelServer, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("modern",)
REQUIRES = ("openai>=3", "langchain-core>=1.4")

Asked = tuple[str, dict[str, Any]]
USAGE = {"prompt_tokens": 50, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 32}}
ASK = [ChatMessage.from_user("weather?")]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Haystack logs every tool that fails, and does not close the clients it makes."""
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def message(answer: str | list[Asked]) -> ChatMessage:
    asked = [] if isinstance(answer, str) else answer
    tool_calls = [ToolCall(name, args, id=f"{name}-{place}") for place, (name, args) in enumerate(asked)]
    text = answer if isinstance(answer, str) else None
    return ChatMessage.from_assistant(text, tool_calls=tool_calls or None, meta={"usage": USAGE, "model": "fake-1a"})


@component
class Fake:
    """Defined, and perhaps made, before anything is instrumented."""

    def __init__(self, *answers: str | list[Asked] | Exception) -> None:
        self.answers = list(answers)
        self.model = "fake-1"

    def _next(self) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"replies": [message(answer)]}

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage], tools: Any = None, **more: Any) -> dict[str, Any]:
        return self._next()

    @component.output_types(replies=list[ChatMessage])
    async def run_async(self, messages: list[ChatMessage], tools: Any = None, **more: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return self._next()


MADE_BEFORE = Fake("early")


@tool
def get_weather(city: Annotated[str, "which one"]) -> str:
    """The weather of a city."""
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


@tool
def broken(city: Annotated[str, "which one"]) -> str:
    """Fails."""
    raise LookupError(city)


WEATHER: list[Asked] = [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]


def agent(*answers: Any, tools: Any = (get_weather,), **more: Any) -> Agent:
    return Agent(chat_generator=Fake(*answers), tools=list(tools), **more)


def run(it: Agent) -> None:
    assert it.run(messages=ASK)["last_message"].text == "done"


def arun(it: Agent) -> None:
    assert asyncio.run(it.run_async(messages=ASK))["last_message"].text == "done"


@pytest.mark.parametrize("how", [run, arun])
def test_an_agent_its_tools_and_model_calls(recorded: Recorded, how: Callable[[Agent], None]) -> None:
    how(agent(WEATHER, "done"))
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "agent") == {"Agent": 1}
    assert counted(report, "tool") == {"get_weather": 2}
    assert counted(report, "llm") == {"fake-1": 2}
    assert counted(report, "retrieval") == {"almanac": 2}
    assert (report.tokens.input, report.tokens.output, report.tokens.cache_read) == (100, 14, 64)
    assert report.errors("tool", "agent", "llm") == 0
    spans = recorded.named("execute_tool get_weather")
    assert {(span.attributes or {})["gen_ai.tool.call.id"] for span in spans} == {"get_weather-0", "get_weather-1"}
    for span in spans:
        assert recorded.parent(span) == "invoke_agent Agent"
    for span in recorded.named("retrieval almanac"):
        assert recorded.parent(span) == "execute_tool get_weather"


def test_no_content_unless_it_is_wanted(recorded: Recorded) -> None:
    run(agent(WEATHER, "done"))
    shown = str([dict(span.attributes or {}) for span in recorded.spans])
    assert "Paris" not in shown
    assert "weather?" not in shown


def test_content_where_it_is_wanted(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    run(agent([("get_weather", {"city": "Paris"})], "done"))
    attributes = recorded.one("execute_tool get_weather").attributes
    assert attributes is not None
    assert attributes["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
    assert attributes["gen_ai.tool.call.result"] == "sunny in Paris"


@pytest.mark.parametrize("how", [run, arun])
def test_a_failing_tool_is_an_error_although_the_run_goes_on(recorded: Recorded, how: Callable[[Agent], None]) -> None:
    how(agent([("broken", {"city": "Paris"})], "done", tools=[broken]))
    span = recorded.one("execute_tool broken")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "LookupError"
    assert span.events == ()
    assert (recorded.report.errors("tool"), recorded.report.errors("agent")) == (1, 0)


def test_a_failing_tool_fails_the_run_as_without_us(recorded: Recorded) -> None:
    with pytest.raises(ToolInvocationError):
        run(agent([("broken", {"city": "Paris"})], tools=[broken], raise_on_tool_invocation_failure=True))
    assert (recorded.report.errors("tool"), recorded.report.errors("agent")) == (1, 1)


@pytest.mark.parametrize("how", [run, arun])
def test_a_failing_model_fails_the_run_as_without_us(recorded: Recorded, how: Callable[[Agent], None]) -> None:
    with pytest.raises(ConnectionError):
        how(agent(ConnectionError("gone")))
    assert (recorded.report.errors("llm"), recorded.report.errors("agent")) == (1, 1)


def test_async_tools(recorded: Recorded) -> None:
    async def get_time(city: Annotated[str, "which one"]) -> str:
        """The time."""
        await asyncio.sleep(0.01)
        return "noon"

    clock = create_tool_from_function(get_time)
    arun(agent([("get_time", {"city": "Rome"}), ("get_weather", {"city": "Rome"})], "done", tools=[clock, get_weather]))
    assert counted(recorded.report, "tool") == {"get_time": 1, "get_weather": 1}


def test_what_the_framework_injects_does_not_make_calls_differ(recorded: Recorded) -> None:
    @tool
    def look(city: Annotated[str, "which one"], state: State) -> str:
        """Looks."""
        return city

    run(agent([("look", {"city": "Rome"})], [("look", {"city": "Rome"})], "done", tools=[look]))
    first, second = (span.attributes or {} for span in recorded.named("execute_tool look"))
    assert first["agentperf.args.hash"] == second["agentperf.args.hash"]


def test_an_agent_that_is_a_tool_is_a_sub_agent_of_its_name(recorded: Recorded) -> None:
    helper = agent([("get_weather", {"city": "Oslo"})], "sun")
    asking: Any = {"messages": [ChatMessage.from_user("?").to_dict()]}
    ask = ComponentTool(component=helper, name="helper", description="Helps.")
    run(agent([("helper", asking)], "done", tools=[ask]))
    assert counted(recorded.report, "agent") == {"Agent": 1, "helper": 1}
    assert counted(recorded.report, "tool") == {"helper": 1, "get_weather": 1}
    assert recorded.parent(recorded.one("invoke_agent helper")) == "execute_tool helper"
    assert recorded.parent(recorded.one("execute_tool get_weather")) == "invoke_agent helper"


def shelf() -> InMemoryBM25Retriever:
    store = InMemoryDocumentStore()
    store.write_documents([Document(content="Jean lives in Paris")])
    return InMemoryBM25Retriever(store)


def rag(generator: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("shelf", shelf())
    pipeline.add_component("prompt", ChatPromptBuilder(template=[ChatMessage.from_user("{{documents}} {{question}}")]))
    pipeline.add_component("llm", generator)
    pipeline.connect("shelf", "prompt.documents")
    pipeline.connect("prompt.prompt", "llm.messages")
    return pipeline


GIVEN: Any = {"shelf": {"query": "Paris"}, "prompt": {"question": "Who?"}}


def pipeline_run(pipeline: Pipeline) -> None:
    assert pipeline.run(GIVEN)["llm"]["replies"][0].text == "done"


def pipeline_arun(pipeline: Pipeline) -> None:
    assert asyncio.run(pipeline.run_async(GIVEN))["llm"]["replies"][0].text == "done"


@pytest.mark.parametrize("how", [pipeline_run, pipeline_arun])
def test_a_pipeline_is_a_workflow(recorded: Recorded, how: Callable[[Pipeline], None]) -> None:
    how(rag(Fake("done")))
    assert recorded.tree == [("invoke_workflow Pipeline", ["retrieval shelf", "chat fake-1"])]
    assert recorded.report.tokens.input == 50


def test_a_pipeline_with_an_agent_and_a_name(recorded: Recorded) -> None:
    pipeline = Pipeline(metadata={"name": "travel"})
    pipeline.add_component("planner", agent(WEATHER, "done"))
    pipeline.run({"planner": {"messages": ASK}})
    assert counted(recorded.report, "workflow") == {"travel": 1}
    assert counted(recorded.report, "agent") == {"planner": 1}
    assert counted(recorded.report, "tool") == {"get_weather": 2}


def test_a_pipeline_inside_a_component(recorded: Recorded) -> None:
    outer = Pipeline(metadata={"name": "outer"})
    outer.add_component("inner", SuperComponent(rag(Fake("done"))))
    outer.run({"inner": {"query": "Paris", "question": "Who?"}})
    assert counted(recorded.report, "workflow") == {"outer": 1, "Pipeline": 1}
    assert recorded.traces == 1


def test_a_failing_pipeline_fails_as_without_us(recorded: Recorded) -> None:
    with pytest.raises(PipelineRuntimeError):
        pipeline_run(rag(Fake(ConnectionError("gone"))))
    assert (recorded.report.errors("llm"), recorded.report.errors("workflow")) == (1, 1)


def test_leaving_an_async_pipeline_early_ends_it_well(recorded: Recorded) -> None:
    async def read() -> None:
        partials = rag(Fake("done")).run_async_generator(GIVEN)
        await anext(partials)
        assert not get_current_span().get_span_context().is_valid
        await partials.aclose()

    asyncio.run(read())
    assert recorded.one("invoke_workflow Pipeline").status.status_code.name == "UNSET"


def test_a_model_made_before_later_or_no_component_at_all(recorded: Recorded) -> None:
    class Duck:
        def run(self, messages: Any, **more: Any) -> dict[str, Any]:
            return {"replies": [message("done")]}

    class Later(Fake):
        def run(self, messages: list[ChatMessage], tools: Any = None, **more: Any) -> dict[str, Any]:
            answer: dict[str, Any] = super().run(messages)
            return answer

        async def run_async(self, messages: list[ChatMessage], tools: Any = None, **more: Any) -> dict[str, Any]:
            return self.run(messages)

    with otel_agentperf.agent("outer"):
        MADE_BEFORE.run(messages=ASK)
        Later("done").run(ASK)
        Agent(chat_generator=Duck()).run(messages=ASK)  # type: ignore[arg-type]
    MADE_BEFORE.answers.append("early")
    assert counted(recorded.report, "llm") == {"fake-1": 2, "Duck": 1}
    assert recorded.report.tokens.input == 150


def test_a_model_behind_another_is_the_one_that_counts(recorded: Recorded) -> None:
    with otel_agentperf.agent("outer"):
        FallbackChatGenerator([Fake(ConnectionError("gone")), Fake("done")]).run(messages=ASK)
        LLM(chat_generator=Fake("done")).run(messages=ASK)
    assert counted(recorded.report, "llm") == {"fake-1": 3}
    assert counted(recorded.report, "agent") == {"outer": 1}
    assert recorded.report.errors("llm") == 1


def test_a_retriever_of_the_users_own(recorded: Recorded) -> None:
    @component
    class Library:
        @component.output_types(documents=list[Document])
        def run(self, query: str) -> dict[str, Any]:
            return {"documents": [Document(content=query)]}

    with otel_agentperf.agent("outer"):
        Library().run(query="tea")
        asyncio.run(shelf().run_async(query="tea"))
    assert counted(recorded.report, "retrieval") == {"Library": 1, "InMemoryBM25Retriever": 1}


def test_a_tool_whose_class_is_the_users_own(recorded: Recorded) -> None:
    class Loud(Tool):
        def invoke(self, **kwargs: Any) -> Any:
            return str(super().invoke(**kwargs)).upper()

    loud = Loud(name="loud", description="Shouts.", parameters={"type": "object"}, function=lambda: "hi")
    run(agent([("loud", {})], "done", tools=[loud]))
    assert counted(recorded.report, "tool") == {"loud": 1}


def chat(server: ModelServer) -> OpenAIChatGenerator:
    return OpenAIChatGenerator(model="gpt-stub", api_base_url=server.url, api_key=Secret.from_token("none"))


@pytest.mark.parametrize("how", [run, arun])
def test_the_clients_own_span_does_not_count_again(recorded: Recorded, how: Callable[[Agent], None]) -> None:
    with ModelServer(calls(("get_weather", {"city": "Paris"})), "done") as server:
        how(Agent(chat_generator=chat(server), tools=[get_weather]))
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "llm") == {"gpt-stub": 2}
    assert (report.tokens.input, report.tokens.output) == (2 * INPUT, 2 * OUTPUT)
    assert report.tokens.cache_read == 2 * CACHED


def test_without_the_clients_instrumentation_all_tokens_are_known(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(disabled_integrations="openai")
    with ModelServer("done") as server:
        run(Agent(chat_generator=chat(server)))
    tokens = recorded.report.tokens
    assert (tokens.input, tokens.output, tokens.cache_read) == (INPUT, OUTPUT, CACHED)


@pytest.mark.parametrize("asked", [True, False])
def test_a_streamed_answer_counts_once(recorded: Recorded, asked: bool) -> None:
    words: list[str] = []
    more = {"stream_options": {"include_usage": True}} if asked else {}
    with ModelServer("one two three") as server:
        Agent(chat_generator=chat(server)).run(
            messages=ASK, streaming_callback=lambda chunk: words.append(chunk.content), generation_kwargs=more
        )
    assert "".join(words) == "one two three"
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.tokens.input == (INPUT if asked else None)


def test_an_embedder_counts_once(recorded: Recorded) -> None:
    with ModelServer() as server, otel_agentperf.agent("outer"):
        embedder = OpenAITextEmbedder(model="embed-1", api_base_url=server.url, api_key=Secret.from_token("none"))
        assert embedder.run("tea")["embedding"] == [0.1, 0.2]
    assert counted(recorded.report, "embedding") == {"embed-1": 1}
    assert recorded.report.tokens.input == EMBEDDING_INPUT


class Seen(tracing.Tracer):
    """A tracer of the user's own."""

    def __init__(self) -> None:
        self.operations: list[str] = []

    @contextlib.contextmanager
    def trace(self, operation_name: str, tags: Any = None, parent_span: Any = None) -> Iterator[tracing.Span]:
        self.operations.append(operation_name)
        yield _Span()

    def current_span(self) -> tracing.Span | None:
        return None


class _Span(tracing.Span):
    def set_tag(self, key: str, value: Any) -> None:
        pass


def test_a_tracer_of_the_users_own_stays(recorded: Recorded) -> None:
    seen = Seen()
    assert not tracing.is_tracing_enabled()
    tracing.enable_tracing(seen)
    try:
        run(agent(WEATHER, "done"))
    finally:
        tracing.disable_tracing()
    assert seen.operations.count("haystack.agent.step.tool") == 2
    assert counted(recorded.report, "tool") == {"get_weather": 2}


def test_a_cancelled_agent_has_the_type_of_its_cancellation(recorded: Recorded) -> None:
    async def wait(city: Annotated[str, "which one"]) -> str:
        """Waits."""
        await asyncio.sleep(30)
        return city

    async def cancel() -> None:
        waiting = agent([("wait", {"city": "Rome"})], tools=[create_tool_from_function(wait)])
        task = asyncio.ensure_future(waiting.run_async(messages=ASK))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    for name in ("execute_tool wait", "invoke_agent Agent"):
        assert (recorded.one(name).attributes or {})["error.type"] == "CancelledError"


def test_agents_side_by_side_are_runs_of_their_own(recorded: Recorded) -> None:
    async def both() -> None:
        await asyncio.gather(*(agent(WEATHER, "done").run_async(messages=ASK) for _ in range(3)))

    asyncio.run(both())
    assert [counted(report, "tool") for report in recorded.reports] == [{"get_weather": 2}] * 3


def test_suppressed_means_untraced(recorded: Recorded) -> None:
    with suppress_instrumentation():
        run(agent(WEATHER, "done"))
        pipeline_run(rag(Fake("done")))
    assert recorded.spans == []


def test_after_uninstrumenting_nothing_is_traced(recorded: Recorded) -> None:
    otel_agentperf.uninstrument()
    run(agent("done"))
    assert recorded.spans == []


PROGRAM = """
    import asyncio, os, sys
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    sys.path.insert(0, {tests!r})
    from typing import Annotated
    from _model_server import ModelServer, calls
    from haystack import Document, Pipeline
    from haystack.components.agents import Agent
    from haystack.components.builders import ChatPromptBuilder
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.components.generators.utils import print_streaming_chunk
    from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
    from haystack.dataclasses import ChatMessage
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from haystack.tools import ComponentTool, tool
    from haystack.utils import Secret

    ran = []

    @tool
    def search_flights(city: Annotated[str, "where to"]) -> str:
        '''Finds flights.'''
        ran.append("search_flights")
        return city

    @tool
    def book(flight: Annotated[str, "which one"]) -> str:
        '''Books a flight.'''
        ran.append("book")
        raise RuntimeError("sold out")

    question = ChatMessage.from_user("To Italy.")
    answers = (
        calls(("search_flights", {{"city": "Rome"}}), ("search_flights", {{"city": "Bari"}})),
        calls(("booker", {{"messages": [question.to_dict()]}})),
        calls(("book", {{"flight": "AZ1"}})), "sold out", "no seat",
        calls(("search_flights", {{"city": "Oslo"}})), "found one",
        "a b c",
    )
    with ModelServer(*answers) as server:
        def chat():
            return OpenAIChatGenerator(model="gpt-stub", api_base_url=server.url, api_key=Secret.from_token("none"))

        helper = Agent(chat_generator=chat(), tools=[book])
        booker = ComponentTool(component=helper, name="booker", description="Books.")
        planner = Agent(chat_generator=chat(), tools=[search_flights, booker])
        print(planner.run(messages=[question])["last_message"].text)

        async def main():
            agent = Agent(chat_generator=chat(), tools=[search_flights])
            print((await agent.run_async(messages=[question]))["last_message"].text)

        asyncio.run(main())
        store = InMemoryDocumentStore()
        store.write_documents([Document(content="Jean lives in Paris")])
        pipeline = Pipeline()
        pipeline.add_component("retriever", InMemoryBM25Retriever(store))
        template = [ChatMessage.from_user("{{{{documents}}}} Who lives in Paris?")]
        pipeline.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
        pipeline.add_component("llm", chat())
        pipeline.connect("retriever", "prompt.documents")
        pipeline.connect("prompt.prompt", "llm.messages")
        pipeline.run({{"retriever": {{"query": "Paris"}}, "llm": {{"streaming_callback": print_streaming_chunk}}}})
    print(sorted(ran))
"""


def test_a_program_in_all_three_ways(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    told = three_ways(PROGRAM.format(tests=tests), tmp_path)
    assert told.agents == {"Agent": 2, "booker": 1}
    assert told.tools == {"search_flights": 3, "booker": 1, "book": 1}
    assert told.llm == {"gpt-stub": 8}
    assert told.calls("retrieval") == {"retriever": 1}
    assert told.errors == {"book": 1}
    assert told.tokens["input"] == 7 * INPUT
