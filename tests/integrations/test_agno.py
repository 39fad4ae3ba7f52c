"""agno: every agent, member, tool and model call once, however a run is called, and whatever its status hides."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agno.agent import Agent
from agno.knowledge.document import Document
from agno.knowledge.knowledge import Knowledge
from agno.metrics import MessageMetrics
from agno.models.base import Model
from agno.models.openai import OpenAIChat
from agno.models.response import ModelResponse
from agno.run.base import RunStatus
from agno.team import Team
from agno.workflow import Step, Workflow
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, Refusal, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("modern",)
REQUIRES = ("openai>=3", "langchain-core>=1.4")

Asked = tuple[str, dict[str, Any]]
Answer = str | list[Asked] | Exception


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """agno logs every tool that fails, with its stack, and does not close the clients it makes."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@dataclass
class Fake(Model):
    """Defined before anything is instrumented."""

    id: str = "fake-1"
    provider: str = "Fake"
    answers: list[Answer] = field(default_factory=list)

    def _next(self) -> ModelResponse:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return response(answer)

    def invoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return self._next()

    async def ainvoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
        await asyncio.sleep(0)
        return self._next()

    def invoke_stream(self, *args: Any, **kwargs: Any) -> Iterator[ModelResponse]:
        yield from self._pieces()

    async def ainvoke_stream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ModelResponse]:
        for piece in self._pieces():
            await asyncio.sleep(0)
            yield piece

    def _pieces(self) -> Iterator[ModelResponse]:
        whole = self._next()
        usage, whole.response_usage = whole.response_usage, None
        yield whole
        yield ModelResponse(response_usage=usage)

    def _parse_provider_response(self, response: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse()

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        return ModelResponse()


def response(answer: str | list[Asked]) -> ModelResponse:
    asked = [] if isinstance(answer, str) else answer
    told = ModelResponse(role="assistant", content=answer if isinstance(answer, str) else None)
    told.tool_calls = [
        {"id": f"{name}-{place}", "type": "function", "function": {"name": name, "arguments": json.dumps(args)}}
        for place, (name, args) in enumerate(asked)
    ]
    told.response_usage = MessageMetrics(input_tokens=50, output_tokens=7, total_tokens=57, cache_read_tokens=32)
    return told


def get_weather(city: str) -> str:
    """The weather of a city."""
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


async def get_time(city: str) -> str:
    """The time in a city."""
    await asyncio.sleep(0.01)
    return f"noon in {city}"


def broken(city: str) -> str:
    """Fails."""
    raise LookupError(city)


async def abroken(city: str) -> str:
    """Fails."""
    raise LookupError(city)


def planner(*answers: Answer, tools: Any = (get_weather,), name: str = "planner", **more: Any) -> Agent:
    return Agent(name=name, model=Fake(answers=list(answers)), tools=list(tools), telemetry=False, **more)


WEATHER: Answer = [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]


def run(agent: Any) -> None:
    assert agent.run("weather?").content == "done"


def stream(agent: Any) -> None:
    for _ in agent.run("weather?", stream=True):
        assert not get_current_span().get_span_context().is_valid, "the consumer is not inside the agent"


def arun(agent: Any) -> None:
    assert asyncio.run(agent.arun("weather?")).content == "done"


def astream(agent: Any) -> None:
    async def read() -> None:
        async for _ in agent.arun("weather?", stream=True, stream_events=True):
            assert not get_current_span().get_span_context().is_valid

    asyncio.run(read())


def by_default(agent: Any) -> None:
    agent.stream = True
    for _ in agent.run("weather?"):
        pass


@pytest.mark.parametrize("how", [run, stream, arun, astream, by_default])
def test_an_agent_its_tools_and_model_calls(recorded: Recorded, how: Callable[[Any], None]) -> None:
    how(planner(WEATHER, "done"))
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 2}
    assert counted(report, "llm") == {"fake-1": 2}
    assert counted(report, "retrieval") == {"almanac": 2}
    assert (report.tokens.input, report.tokens.output, report.tokens.cache_read) == (100, 14, 64)
    assert report.errors("tool", "agent", "llm") == 0
    for span in recorded.named("execute_tool get_weather"):
        assert recorded.parent(span) == "invoke_agent planner"
        assert span.attributes is not None
        assert str(span.attributes["gen_ai.tool.call.id"]).startswith("get_weather-")
    for span in recorded.named("retrieval almanac"):
        assert recorded.parent(span) == "execute_tool get_weather"
    assert (recorded.named("chat fake-1")[0].attributes or {})["gen_ai.provider.name"] == "fake"


def test_no_content_unless_it_is_wanted(recorded: Recorded) -> None:
    planner(WEATHER, "done").run("weather?")
    shown = str([dict(span.attributes or {}) for span in recorded.spans])
    assert "Paris" not in shown
    assert "weather?" not in shown


def test_content_where_it_is_wanted(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    planner(WEATHER, "done").run("weather?")
    attributes = recorded.named("execute_tool get_weather")[0].attributes
    assert attributes is not None
    assert attributes["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
    assert attributes["gen_ai.tool.call.result"] == "sunny in Paris"


@pytest.mark.parametrize("how", [run, arun, stream, astream])
def test_a_failing_tool_is_an_error_although_the_run_goes_on(recorded: Recorded, how: Callable[[Any], None]) -> None:
    how(planner([("broken", {"city": "Paris"}), ("abroken", {"city": "Rome"})], "done", tools=[broken, abroken])
        if how in (arun, astream) else planner([("broken", {"city": "Paris"})], "done", tools=[broken]))  # fmt: skip
    for span in recorded.spans:
        if span.name.startswith("execute_tool"):
            assert span.attributes is not None
            assert span.attributes["error.type"] == "LookupError"
            assert span.events == ()
    report = recorded.report
    assert report.errors("tool") == sum(counted(report, "tool").values())
    assert report.errors("agent") == 0


def test_async_and_sync_tools_together(recorded: Recorded) -> None:
    arun(
        planner(
            [("get_weather", {"city": "Paris"}), ("get_time", {"city": "Rome"})], "done", tools=[get_weather, get_time]
        )
    )
    assert counted(recorded.report, "tool") == {"get_weather": 1, "get_time": 1}
    assert recorded.traces == 1


@pytest.mark.parametrize("how", [lambda a: a.run("?"), lambda a: asyncio.run(a.arun("?")),
                                 lambda a: list(a.run("?", stream=True))])  # fmt: skip
def test_a_failing_model_fails_the_run_that_does_not_raise(recorded: Recorded, how: Callable[[Any], Any]) -> None:
    how(planner(ConnectionError("gone")))
    report = recorded.report
    assert (report.errors("llm"), report.errors("agent")) == (1, 1)
    attributes = recorded.one("chat fake-1").attributes
    assert attributes is not None
    assert attributes["error.type"] == "ConnectionError"
    assert (recorded.one("invoke_agent planner").attributes or {})["error.type"] == "agent_error"


def test_a_tool_that_is_a_generator_works_while_it_is_read(recorded: Recorded) -> None:
    def pages(topic: str) -> Iterator[str]:
        """Page by page."""
        with otel_agentperf.retrieval("first"):
            yield "one"
        with otel_agentperf.retrieval("second"):
            yield "two"

    planner([("pages", {"topic": "tea"})], "done", tools=[pages]).run("?")
    assert counted(recorded.report, "tool") == {"pages": 1}
    assert [recorded.parent(recorded.one(f"retrieval {name}")) for name in ("first", "second")] == [
        "execute_tool pages"
    ] * 2


def test_an_agent_inside_a_tool_is_a_sub_agent(recorded: Recorded) -> None:
    helper = planner(WEATHER, "sun", name="helper")

    def ask_helper(question: str) -> str:
        """Asks."""
        return str(helper.run(question).content)

    planner([("ask_helper", {"question": "?"})], "done", tools=[ask_helper]).run("?")
    assert counted(recorded.report, "agent") == {"planner": 1, "helper": 1}
    assert counted(recorded.report, "tool") == {"ask_helper": 1, "get_weather": 2}
    assert recorded.parent(recorded.one("invoke_agent helper")) == "execute_tool ask_helper"


def team(*answers: Answer, **more: Any) -> Team:
    helper = planner([("get_weather", {"city": "Oslo"})], "sun", name="helper")
    idle = planner(name="idle")
    return Team(name="crew", members=[helper, idle], model=Fake(answers=list(answers)), telemetry=False, **more)


@pytest.mark.parametrize("how", [run, stream, arun, astream])
def test_a_member_is_an_agent_below_its_team(recorded: Recorded, how: Callable[[Any], None]) -> None:
    how(team([("delegate_task_to_member", {"member_id": "helper", "task": "secret"})], "done"))
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "agent") == {"crew": 1, "helper": 1}
    assert counted(report, "tool") == {"get_weather": 1}
    assert counted(report, "llm") == {"fake-1": 4}
    assert recorded.parent(recorded.one("invoke_agent helper")) == "handoff crew to helper"
    assert recorded.parent(recorded.one("handoff crew to helper")) == "invoke_agent crew"
    assert recorded.parent(recorded.one("execute_tool get_weather")) == "invoke_agent helper"


def test_what_the_model_wrote_is_no_name(recorded: Recorded) -> None:
    team([("delegate_task_to_member", {"member_id": "nobody", "task": "secret"})], "done").run("?")
    assert recorded.named("handoff crew to a member")
    assert counted(recorded.report, "agent") == {"crew": 1}


@pytest.mark.parametrize("how", [run, arun])
def test_all_members_at_once(recorded: Recorded, how: Callable[[Any], None]) -> None:
    members = [planner("one", name="left"), planner("two", name="right")]
    model = Fake(answers=[[("delegate_task_to_members", {"task": "?"})], "done"])
    how(Team(name="crew", members=members, model=model, delegate_to_all_members=True, telemetry=False))
    assert counted(recorded.report, "agent") == {"crew": 1, "left": 1, "right": 1}
    assert recorded.traces == 1
    assert recorded.parent(recorded.one("invoke_agent left")) == "handoff crew to its members"


@pytest.mark.parametrize("how", [run, stream, arun, astream])
def test_a_workflow_of_agents(recorded: Recorded, how: Callable[[Any], None]) -> None:
    steps = [Step(name=name, agent=planner("done", name=name)) for name in ("first", "second")]
    how(Workflow(name="flow", steps=steps, telemetry=False))
    assert counted(recorded.report, "workflow") == {"flow": 1}
    assert counted(recorded.report, "agent") == {"first": 1, "second": 1}
    assert recorded.traces == 1
    assert not recorded.report.run.incomplete


def test_an_error_of_an_agent_below_is_not_the_workflows(recorded: Recorded) -> None:
    steps = [Step(name="first", agent=planner(ConnectionError("gone"), name="first"), max_retries=0)]
    stream(Workflow(name="flow", steps=steps, telemetry=False))
    assert (recorded.report.errors("agent"), recorded.report.errors("workflow")) == (1, 0)


def test_leaving_a_stream_early_ends_the_agent_well(recorded: Recorded) -> None:
    events = planner(WEATHER, "done").run("?", stream=True, stream_events=True)
    next(events)
    next(events)
    assert recorded.named("invoke_agent planner") == []
    events.close()  # type: ignore[attr-defined]
    assert recorded.one("invoke_agent planner").status.status_code.name == "UNSET"
    assert not get_current_span().get_span_context().is_valid


def test_what_nobody_reads_is_no_run(recorded: Recorded) -> None:
    planner("done").run("?", stream=True)
    coroutine: Any = planner("done").arun("?")
    coroutine.close()
    assert recorded.spans == []


def test_a_cancelled_run_has_the_type_of_its_cancellation(recorded: Recorded) -> None:
    async def wait(city: str) -> str:
        """Waits."""
        await asyncio.sleep(30)
        return city

    async def cancel() -> None:
        task = asyncio.ensure_future(planner([("wait", {"city": "Paris"})], tools=[wait]).arun("?"))
        await asyncio.sleep(0.2)
        task.cancel()
        try:
            output = await task
        except asyncio.CancelledError:
            return
        assert output.status is RunStatus.cancelled

    asyncio.run(cancel())
    tool = recorded.one("execute_tool wait").attributes
    agent = recorded.one("invoke_agent planner").attributes
    assert (tool or {})["error.type"] == "CancelledError"
    assert "Cancelled" in str((agent or {})["error.type"])


def test_agents_side_by_side_are_runs_of_their_own(recorded: Recorded) -> None:
    async def both() -> None:
        await asyncio.gather(*(planner(WEATHER, "done", name=name).arun("?") for name in ("left", "right")))

    asyncio.run(both())
    assert sorted(report.root.operation for report in recorded.reports) == ["left", "right"]
    assert [counted(report, "tool") for report in recorded.reports] == [{"get_weather": 2}] * 2


def test_a_model_that_is_defined_later_and_calls_its_base(recorded: Recorded) -> None:
    @dataclass
    class Later(Fake):
        def invoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
            return super().invoke(*args, **kwargs)

    Agent(name="planner", model=Later(id="later", answers=["done"]), telemetry=False).run("?")
    assert counted(recorded.report, "llm") == {"later": 1}
    assert recorded.report.tokens.input == 50


def chat(server: ModelServer, **more: Any) -> OpenAIChat:
    return OpenAIChat(id="gpt-stub", base_url=server.url, api_key="none", max_retries=0, **more)


@pytest.mark.parametrize("how", [run, stream, arun, astream])
def test_the_clients_own_span_does_not_count_again(recorded: Recorded, how: Callable[[Any], None]) -> None:
    with ModelServer(calls(("get_weather", {"city": "Paris"})), "done") as server:
        how(Agent(name="planner", model=chat(server), tools=[get_weather], telemetry=False))
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "llm") == {"gpt-stub": 2}
    assert (report.tokens.input, report.tokens.output) == (2 * INPUT, 2 * OUTPUT)
    assert report.tokens.cache_read == 2 * CACHED


def test_a_refused_call_that_agno_tries_again_is_a_call_that_failed(recorded: Recorded) -> None:
    with ModelServer(Refusal(500), "done") as server:
        run(Agent(name="planner", model=chat(server, retries=1, delay_between_retries=0), telemetry=False))
    assert counted(recorded.report, "llm") == {"gpt-stub": 2}
    assert (recorded.report.errors("llm"), recorded.report.errors("agent")) == (1, 0)


def test_knowledge_is_a_retrieval(recorded: Recorded) -> None:
    class Shelf:
        def search(self, *, query: str, **more: Any) -> list[Document]:
            return [Document(content=query)]

        def exists(self) -> bool:
            return True

    shelf = Knowledge(name="shelf", vector_db=Shelf())
    asked: Answer = [("search_knowledge_base", {"query": "tea"})]
    run(planner(asked, "done", tools=[], knowledge=shelf, search_knowledge=True))
    assert counted(recorded.report, "retrieval") == {"shelf": 1}
    assert recorded.parent(recorded.one("retrieval shelf")) == "execute_tool search_knowledge_base"


def test_suppressed_means_untraced(recorded: Recorded) -> None:
    with suppress_instrumentation():
        run(planner(WEATHER, "done"))
        stream(planner(WEATHER, "done"))
    assert recorded.spans == []


def test_after_uninstrumenting_nothing_is_traced(recorded: Recorded) -> None:
    otel_agentperf.uninstrument()
    run(planner("done"))
    assert recorded.spans == []


PROGRAM = """
    import asyncio, os, sys
    os.environ["AGNO_TELEMETRY"] = "false"
    sys.path.insert(0, {tests!r})
    from _model_server import ModelServer, calls
    from agno.agent import Agent
    from agno.models.openai import OpenAIChat
    from agno.team import Team
    from agno.tools import Toolkit, tool

    ran = []

    class Flights(Toolkit):
        def __init__(self):
            super().__init__(name="flights", tools=[self.search_flights, self.book])

        def search_flights(self, city: str) -> str:
            '''Finds flights.'''
            ran.append("search_flights")
            return city

        def book(self, flight: str) -> str:
            '''Books a flight.'''
            ran.append("book")
            raise RuntimeError("sold out")

    @tool
    async def get_time(city: str) -> str:
        '''The time in a city.'''
        await asyncio.sleep(0.01)
        ran.append("get_time")
        return "noon"

    answers = (
        calls(("delegate_task_to_member", {{"member_id": "booker", "task": "book"}})),
        calls(("search_flights", {{"city": "Rome"}}), ("book", {{"flight": "AZ1"}})), "sold out",
        calls(("get_time", {{"city": "Rome"}})), "no seat", "one two three",
    )
    with ModelServer(*answers) as server:
        def model():
            return OpenAIChat(id="gpt-stub", base_url=server.url, api_key="none")

        booker = Agent(name="booker", role="Books.", model=model(), tools=[Flights()])
        team = Team(name="travel", members=[booker], model=model(), tools=[get_time])

        async def main():
            output = await team.arun("To Italy.")
            print(output.content, output.status)
            async for event in Agent(name="writer", model=model()).arun("Count.", stream=True):
                print(event.event, event.content)

        asyncio.run(main())
    print(sorted(ran))
"""


def test_a_program_in_all_three_ways(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    told = three_ways(PROGRAM.format(tests=tests), tmp_path)
    assert told.agents == {"travel": 1, "booker": 1, "writer": 1}
    assert told.tools == {"search_flights": 1, "book": 1, "get_time": 1}
    assert told.llm == {"gpt-stub": 6}
    assert told.errors == {"book": 1}
    assert told.tokens["input"] == 6 * INPUT
