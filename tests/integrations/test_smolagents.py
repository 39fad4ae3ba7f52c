"""smolagents: every agent, tool and model call once, rightly nested, in threads and generated code too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span
from smolagents import CodeAgent, FinalAnswerTool, Model, OpenAIModel, Tool, ToolCallingAgent, tool
from smolagents.models import (
    ChatMessage,
    ChatMessageStreamDelta,
    ChatMessageToolCall,
    ChatMessageToolCallFunction,
    MessageRole,
)
from smolagents.monitoring import TokenUsage
from smolagents.utils import AgentGenerationError

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("modern",)
REQUIRES = ("openai>=3", "langchain-core>=1.4")

Asked = tuple[str, dict[str, Any]]


def message(answer: str | list[Asked]) -> ChatMessage:
    asked = [] if isinstance(answer, str) else answer
    return ChatMessage(
        role=MessageRole.ASSISTANT,
        content=answer if isinstance(answer, str) else None,
        tool_calls=[
            ChatMessageToolCall(ChatMessageToolCallFunction(arguments, name), f"{name}-{place}", "function")
            for place, (name, arguments) in enumerate(asked)
        ]
        or None,
        token_usage=TokenUsage(input_tokens=50, output_tokens=7),
    )


class Fake(Model):
    """Defined before anything is instrumented."""

    def __init__(self, *answers: str | list[Asked] | Exception, model_id: str = "fake-1") -> None:
        super().__init__(model_id=model_id)
        self.answers = list(answers)

    def generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatMessage:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return message(answer)

    def generate_stream(self, messages: Any, *args: Any, **kwargs: Any) -> Iterator[ChatMessageStreamDelta]:
        for word in str(self.answers.pop(0)).split(" "):
            time.sleep(0.005)
            yield ChatMessageStreamDelta(content=f"{word} ")
        yield ChatMessageStreamDelta(content="", token_usage=TokenUsage(input_tokens=50, output_tokens=7))


@tool
def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: which one
    """
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


@tool
def broken(city: str) -> str:
    """Fails.

    Args:
        city: which one
    """
    raise LookupError(city)


def done(answer: str = "done") -> list[Asked]:
    return [("final_answer", {"answer": answer})]


def calling(*answers: Any, tools: Any = (get_weather,), **more: Any) -> ToolCallingAgent:
    return ToolCallingAgent(tools=list(tools), model=Fake(*answers), verbosity_level=-1, **more)


def coding(*answers: Any, tools: Any = (get_weather,), **more: Any) -> CodeAgent:
    blocks = [f"<code>\n{dedent(answer)}\n</code>" for answer in answers]
    return CodeAgent(tools=list(tools), model=Fake(*blocks), verbosity_level=-1, **more)


def tool_agent() -> ToolCallingAgent:
    return calling([("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})], done(), name="planner")


def code_agent() -> CodeAgent:
    return coding(
        "for city in ('Paris', 'Rome'):\n    print(get_weather(city))", "final_answer('done')", name="planner"
    )


def run(agent: Any) -> None:
    assert agent.run("weather?") == "done"


def stream(agent: Any) -> None:
    for _ in agent.run("weather?", stream=True):
        assert not get_current_span().get_span_context().is_valid, "the consumer is not inside the agent"


def thread(agent: Any) -> None:
    started = threading.Thread(target=run, args=(agent,))
    started.start()
    started.join()


@pytest.mark.parametrize("make", [tool_agent, code_agent])
@pytest.mark.parametrize("how", [run, stream, thread])
def test_an_agent_its_tools_and_model_calls(
    recorded: Recorded, make: Callable[[], Any], how: Callable[[Any], None]
) -> None:
    how(make())
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 2}
    assert counted(report, "llm") == {"fake-1": 2}
    assert counted(report, "retrieval") == {"almanac": 2}
    assert (report.tokens.input, report.tokens.output) == (100, 14)
    assert report.errors("tool", "agent", "llm") == 0
    for span in recorded.named("execute_tool get_weather"):
        assert recorded.parent(span) == "invoke_agent planner"
    for span in recorded.named("retrieval almanac"):
        assert recorded.parent(span) == "execute_tool get_weather"


def test_no_content_unless_it_is_wanted(recorded: Recorded) -> None:
    tool_agent().run("weather?")
    shown = str([dict(span.attributes or {}) for span in recorded.spans])
    assert "Paris" not in shown
    assert "weather?" not in shown


def test_content_where_it_is_wanted(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    code_agent().run("weather?")
    attributes = recorded.named("execute_tool get_weather")[0].attributes
    assert attributes is not None
    assert attributes["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
    assert attributes["gen_ai.tool.call.result"] == "sunny in Paris"


def test_arguments_are_the_same_however_they_are_passed(recorded: Recorded) -> None:
    coding("get_weather('Paris')\nget_weather(city='Paris')\nget_weather({'city': 'Paris'})\nfinal_answer(1)").run("?")
    spans = recorded.named("execute_tool get_weather")
    assert len(spans) == 3
    assert len({(span.attributes or {})["agentperf.args.hash"] for span in spans}) == 1


def test_a_managed_agent_is_an_agent_below_its_manager(recorded: Recorded) -> None:
    helper = coding("final_answer(get_weather('Oslo'))", name="helper", description="helps")
    manager = calling([("helper", {"task": "?"})], done(), managed_agents=[helper], name="manager")
    manager.run("weather?")
    report = recorded.report
    assert counted(report, "agent") == {"manager": 1, "helper": 1}
    assert counted(report, "tool") == {"get_weather": 1}
    assert counted(report, "llm") == {"fake-1": 3}
    assert recorded.parent(recorded.one("invoke_agent helper")) == "invoke_agent manager"
    assert recorded.parent(recorded.one("execute_tool get_weather")) == "invoke_agent helper"


def test_a_managed_agent_called_by_generated_code(recorded: Recorded) -> None:
    helper = calling([("get_weather", {"city": "Oslo"})], done("sun"), name="helper", description="helps")
    coding("print(helper(task='?'))\nfinal_answer('done')", managed_agents=[helper], name="manager").run("weather?")
    assert counted(recorded.report, "agent") == {"manager": 1, "helper": 1}
    assert recorded.traces == 1
    assert recorded.parent(recorded.one("invoke_agent helper")) == "invoke_agent manager"


def test_a_failing_tool_is_an_error_although_the_run_goes_on(recorded: Recorded) -> None:
    calling([("broken", {"city": "Paris"})], done(), tools=[broken]).run("?")
    recorded_span = recorded.one("execute_tool broken")
    assert recorded_span.attributes is not None
    assert recorded_span.attributes["error.type"] == "LookupError"
    assert recorded_span.events == ()
    assert (recorded.report.errors("tool"), recorded.report.errors("agent")) == (1, 0)


def test_a_failing_tool_in_generated_code(recorded: Recorded) -> None:
    coding("broken('Paris')", "final_answer('done')", tools=[broken]).run("?")
    assert (recorded.report.errors("tool"), recorded.report.errors("agent")) == (1, 0)


def test_a_failing_model_fails_the_run_as_without_us(recorded: Recorded) -> None:
    with pytest.raises(AgentGenerationError):
        calling(ConnectionError("gone"), name="planner").run("?")
    report = recorded.report
    assert (report.errors("llm"), report.errors("agent")) == (1, 1)
    attributes = recorded.one("chat fake-1").attributes
    assert attributes is not None
    assert attributes["error.type"] == "ConnectionError"


def test_an_agent_that_runs_out_of_steps_answers_all_the_same(recorded: Recorded) -> None:
    agent = calling([("get_weather", {"city": "Paris"})], "I give up", max_steps=1)
    assert agent.run("?", return_full_result=True).output == "I give up"
    assert counted(recorded.report, "llm") == {"fake-1": 2}
    assert recorded.report.errors("agent") == 0


def test_leaving_a_stream_early_ends_the_agent_well(recorded: Recorded) -> None:
    steps = tool_agent().run("?", stream=True)
    next(steps)
    assert recorded.named("invoke_agent planner") == []
    with pytest.raises(RuntimeError, match="ignored GeneratorExit") as refused:  # smolagents yields on its way out
        steps.close()
    assert "otel_agentperf" not in str(refused.traceback)
    steps.close()
    assert recorded.one("invoke_agent planner").status.status_code.name == "UNSET"
    assert not get_current_span().get_span_context().is_valid


def test_a_stream_that_nobody_reads_is_no_run(recorded: Recorded) -> None:
    tool_agent().run("?", stream=True)
    assert recorded.spans == []


def test_the_agents_own_streamed_model_calls(recorded: Recorded) -> None:
    agent = coding("print(get_weather('Paris'))", "final_answer('done')", name="planner", stream_outputs=True)
    assert agent.run("?") == "done"
    assert counted(recorded.report, "llm") == {"fake-1": 2}
    assert (recorded.report.tokens.input, recorded.report.tokens.output) == (100, 14)
    for span in recorded.named("chat fake-1"):
        assert span.attributes is not None
        assert 0 < float(str(span.attributes["gen_ai.response.time_to_first_chunk"])) < 1


def test_planning_is_a_model_call_too(recorded: Recorded) -> None:
    calling("facts and a plan", done(), planning_interval=1).run("?")
    assert counted(recorded.report, "llm") == {"fake-1": 2}
    assert recorded.report.tokens.input == 100


def test_a_model_that_is_defined_later_or_is_no_model_at_all(recorded: Recorded) -> None:
    class Later(Fake):
        def generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatMessage:
            return super().generate(messages, *args, **kwargs)

    class Duck:
        def generate(self, messages: Any, **kwargs: Any) -> ChatMessage:
            return message(done())

    ToolCallingAgent(tools=[], model=Later(done(), model_id="later"), verbosity_level=-1).run("?")
    ToolCallingAgent(tools=[], model=Duck(), verbosity_level=-1).run("?")  # type: ignore[arg-type]
    assert [counted(report, "llm") for report in recorded.reports] == [{"later": 1}, {"Duck": 1}]
    assert [report.tokens.input for report in recorded.reports] == [50, 50]


def test_tools_of_any_class(recorded: Recorded) -> None:
    class Loud(Tool):
        name = "loud"
        description = "Shouts."
        inputs = {"text": {"type": "string", "description": "what"}}  # noqa: RUF012 - as its documentation has it
        output_type = "string"

        def forward(self, text: str) -> str:
            return text.upper()

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    assert calling([("loud", {"text": "hi"})], done(), tools=[Loud()]).run("?") == "done"
    assert counted(recorded.report, "tool") == {"loud": 1}


def test_a_final_answer_of_the_programs_own_is_a_tool(recorded: Recorded) -> None:
    class Signed(FinalAnswerTool):
        def forward(self, answer: Any) -> Any:
            return f"{answer} - yours"

    assert calling(done("bye"), tools=[Signed()]).run("?") == "bye - yours"
    assert counted(recorded.report, "tool") == {"final_answer": 1}


@pytest.mark.parametrize("streamed", [False, True])
def test_the_clients_own_span_does_not_count_again(recorded: Recorded, streamed: bool) -> None:
    with ModelServer(calls(("get_weather", {"city": "Paris"})), calls(("final_answer", {"answer": "sunny"}))) as server:
        model = OpenAIModel("gpt-stub", api_base=server.url, api_key="none")
        agent = ToolCallingAgent(tools=[get_weather], model=model, verbosity_level=-1, stream_outputs=streamed)
        assert agent.run("?") == "sunny"
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "llm") == {"gpt-stub": 2}
    assert counted(report, "tool") == {"get_weather": 1}
    assert (report.tokens.input, report.tokens.output) == (2 * INPUT, 2 * OUTPUT)
    assert report.tokens.cache_read == 2 * CACHED


def test_without_the_clients_instrumentation_the_cached_tokens_are_known(
    instrumented: Callable[..., Recorded],
) -> None:
    recorded = instrumented(disabled_integrations="openai")
    with ModelServer(calls(("final_answer", {"answer": "sunny"}))) as server:
        model = OpenAIModel("gpt-stub", api_base=server.url, api_key="none")
        ToolCallingAgent(tools=[], model=model, verbosity_level=-1).run("?")
    tokens = recorded.report.tokens
    assert (tokens.input, tokens.output, tokens.cache_read) == (INPUT, OUTPUT, CACHED)


def test_agents_side_by_side_are_runs_of_their_own(recorded: Recorded) -> None:
    threads = [threading.Thread(target=tool_agent().run, args=("?",)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [counted(report, "tool") for report in recorded.reports] == [{"get_weather": 2}] * 4


def test_suppressed_means_untraced(recorded: Recorded) -> None:
    with suppress_instrumentation():
        tool_agent().run("?")
        list(tool_agent().run("?", stream=True))
    assert recorded.spans == []


def test_after_uninstrumenting_nothing_is_traced(recorded: Recorded) -> None:
    otel_agentperf.uninstrument()
    tool_agent().run("?")
    assert {span.name for span in recorded.spans} == {"retrieval almanac"}


PROGRAM = """
    import sys
    sys.path.insert(0, {tests!r})
    from _model_server import ModelServer, calls
    from smolagents import CodeAgent, LogLevel, OpenAIServerModel, ToolCallingAgent, tool
    from smolagents.models import ChatMessage, MessageRole, Model
    from smolagents.monitoring import TokenUsage

    ran = []

    @tool
    def search_flights(city: str, day: str) -> list:
        '''Finds flights.

        Args:
            city: where to
            day: when
        '''
        ran.append("search_flights")
        return [city, day]

    @tool
    def book(flight: str) -> str:
        '''Books a flight.

        Args:
            flight: which one
        '''
        ran.append("book")
        raise RuntimeError("sold out")

    class Scripted(Model):
        def __init__(self, *codes):
            super().__init__(model_id="scripted")
            self.codes = list(codes)

        def generate(self, messages, **kwargs):
            usage = TokenUsage(input_tokens=11, output_tokens=3)
            text = f"<code>\\n{{self.codes.pop(0)}}\\n</code>"
            return ChatMessage(role=MessageRole.ASSISTANT, content=text, token_usage=usage)

    quiet = {{"verbosity_level": LogLevel.ERROR}}
    answers = (
        calls(("search_flights", {{"city": "Rome", "day": "1"}}), ("search_flights", {{"city": "Bari", "day": "1"}})),
        calls(("booker", {{"task": "book AZ1"}})),
        calls(("final_answer", {{"answer": "no seat"}})),
    )
    with ModelServer(*answers) as server:
        script = Scripted("print(book('AZ1'))", "print(search_flights('Rome', '2'))\\nfinal_answer('sold out')")
        booker = CodeAgent(tools=[book, search_flights], model=script, name="booker", description="Books.", **quiet)
        model = OpenAIServerModel(model_id="gpt-stub", api_base=server.url, api_key="none")
        planner = ToolCallingAgent(
            tools=[search_flights], model=model, managed_agents=[booker], name="planner", **quiet
        )
        print(planner.run("To Italy."))
    streamed = CodeAgent(tools=[search_flights], model=Scripted("final_answer(search_flights('Oslo', '3'))"), **quiet)
    for step in streamed.run("To Norway.", stream=True):
        print(type(step).__name__)
    print(sorted(ran))
"""


def test_a_program_in_all_three_ways(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    told = three_ways(PROGRAM.format(tests=tests), tmp_path)
    assert told.agents == {"planner": 1, "booker": 1, "CodeAgent": 1}
    assert told.tools == {"search_flights": 4, "book": 1}
    assert told.llm == {"gpt-stub": 3, "scripted": 3}
    assert told.errors == {"book": 1}
    assert told.tokens["input"] == 3 * INPUT + 3 * 11
