"""CrewAI: every crew, agent, tool and model call once, rightly nested, however it is started."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# First, for it silences what importing CrewAI warns of.
from _crewai_crews import (  # isort: split
    ANSWERS,
    FINAL,
    PROGRAM,
    Fake,
    Guide,
    Search,
    act,
    agent,
    crew,
    function,
    get_weather,
    openai,
    task,
)

from crewai import LLM, Crew, Process
from crewai.flow.async_feedback import HumanFeedbackPending
from crewai.flow.flow import Flow, start
from crewai.flow.human_feedback import human_feedback
from crewai.flow.persistence.sqlite import SQLiteFlowPersistence
from crewai.lite_agent import LiteAgent
from crewai.mcp import MCPServerStdio
from crewai.tools import tool
from crewai.tools.tool_failure import ToolFailure
from crewai.utilities.string_utils import sanitize_tool_name
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, Refusal, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("crewai",)
REQUIRES = ("litellm>=1.100",)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """CrewAI's clients are never closed: what the garbage collector says of that is said here, where it is ignored."""
    yield
    gc.collect()


def kickoff(team: Crew) -> Any:
    return team.kickoff()


def akickoff(team: Crew) -> Any:
    return asyncio.run(team.akickoff())


def kickoff_async(team: Crew) -> Any:
    return asyncio.run(team.kickoff_async())


def for_each(team: Crew) -> Any:
    return team.kickoff_for_each([{}])[0]


def streamed(team: Crew) -> Any:
    team.stream = True
    output = team.kickoff()
    for _ in output:
        assert not get_current_span().get_span_context().is_valid, "the reader is not inside the crew"
    return output.result


def astreamed(team: Crew) -> Any:
    async def read() -> Any:
        team.stream = True
        output = await team.akickoff()
        async for _ in output:
            assert not get_current_span().get_span_context().is_valid
        return output.result

    return asyncio.run(read())


WAYS = [kickoff, akickoff, kickoff_async, for_each, streamed, astreamed]


@pytest.mark.parametrize("functions", [True, False])
@pytest.mark.parametrize("run", WAYS)
def test_a_crew_its_agents_tools_and_model_calls(recorded: Recorded, run: Any, functions: bool) -> None:
    ask = function if functions else act
    first = agent(ask("get_weather", city="Paris"), ask("get_weather", city="Rome"), FINAL,
                  role="Researcher\n", tools=[get_weather], functions=functions)  # fmt: skip
    assert "done" in run(crew(first, agent(role="Writer"))).raw
    report = recorded.report
    assert recorded.traces == 1
    assert report.root.name == "invoke_workflow crew"
    assert counted(report, "agent") == {"Researcher": 1, "Writer": 1}
    assert counted(report, "tool") == {"get_weather": 2}
    assert counted(report, "llm") == {"fake": 4}
    assert report.errors("tool", "agent", "llm") == 0
    for span in recorded.named("execute_tool get_weather"):
        assert recorded.parent(span) == "invoke_agent Researcher"
        assert span.attributes is not None
        assert span.attributes.get("gen_ai.tool.call.id") == ("id-get_weather" if functions else None)
    for span in recorded.named("retrieval almanac"):
        assert recorded.parent(span) == "execute_tool get_weather"
    assert "secret" not in str([(span.name, dict(span.attributes or {})) for span in recorded.spans])


def test_the_tree_of_a_crew(recorded: Recorded) -> None:
    worker = agent(act("get_weather", city="Paris"), FINAL, tools=[get_weather])
    Crew(name="team", agents=[worker], tasks=[task(worker, "find")]).kickoff()
    assert recorded.tree == [
        ("invoke_workflow team", [
            ("execute_task find", [
                ("invoke_agent Researcher", [
                    "chat fake", ("execute_tool get_weather", ["retrieval almanac"]), "chat fake",
                ]),
            ]),
        ])
    ]  # fmt: skip


def test_content_where_it_is_wanted(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    crew(agent(act("get_weather", city="Paris"), FINAL, tools=[get_weather])).kickoff()
    attributes = recorded.one("execute_tool get_weather").attributes
    assert attributes is not None
    assert attributes["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
    assert attributes["gen_ai.tool.call.result"] == "sunny in Paris"
    assert "secret request" in str(dict(recorded.one("invoke_agent Researcher").attributes or {}))


def test_several_inputs_are_several_runs(recorded: Recorded) -> None:
    crew(agent()).kickoff_for_each([{}, {}])
    asyncio.run(crew(agent()).kickoff_for_each_async([{}, {}]))
    asyncio.run(crew(agent()).akickoff_for_each([{}, {}]))
    assert [counted(report, "agent") for report in recorded.reports] == [{"Researcher": 1}] * 6


@pytest.mark.parametrize("functions", [True, False])
@pytest.mark.parametrize("run", [kickoff, akickoff])
def test_a_failing_tool_fails_as_often_as_it_ran(recorded: Recorded, run: Any, functions: bool) -> None:
    search = Search()
    ask = function if functions else act
    run(crew(agent(ask("search", query="tea"), FINAL, tools=[search], functions=functions)))
    assert counted(recorded.report, "tool") == {"Search": search.attempts}
    assert recorded.report.errors("tool") == search.attempts > 0
    assert recorded.report.errors("agent") == 0
    for span in recorded.named("execute_tool Search"):
        assert span.attributes is not None
        assert span.attributes["error.type"] == "LookupError"
        assert span.events == ()


def test_a_tool_that_says_it_failed_has_failed(recorded: Recorded) -> None:
    @tool("post")
    def post(text: str) -> Any:
        """Posts."""
        return ToolFailure(message="no channel")

    crew(agent(function("post", text="hi"), FINAL, tools=[post], functions=True)).kickoff()
    attributes = recorded.one("execute_tool post").attributes
    assert attributes is not None
    assert attributes["error.type"] == "tool_reported"


def test_tools_called_by_the_program_and_async_tools(recorded: Recorded) -> None:
    @tool("slow")
    async def slow(city: str, unit: str = "C") -> str:
        """Slow."""
        await asyncio.sleep(0)
        return city

    class Own(Search):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            return super().run(*args, **kwargs)

        def _run(self, query: str) -> str:
            return query

    with otel_agentperf.agent("outer"):
        assert slow.run(city="Paris") == "Paris"
        assert asyncio.run(slow.arun("Paris")) == "Paris"
        assert Own().run(query="tea") == "tea"
    assert counted(recorded.report, "tool") == {"slow": 2, "Search": 1}
    first, second = recorded.named("execute_tool slow")
    assert first.attributes is not None
    assert second.attributes is not None
    assert first.attributes["agentperf.result.hash"] == second.attributes["agentperf.result.hash"]


SERVER = """
from mcp.server.fastmcp import FastMCP
server = FastMCP("shop", log_level="ERROR")
@server.tool()
def price(thing: str) -> str:
    return f"{thing}: 3"
server.run()
"""


@pytest.mark.parametrize("functions", [True, False])
def test_a_tool_over_mcp_has_no_command_line_in_its_name(recorded: Recorded, functions: bool, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SERVER)
    shop = MCPServerStdio(command=sys.executable, args=[str(tmp_path / "shop.py"), "--key=secret"])
    asked = sanitize_tool_name("_".join((shop.command, *shop.args, "price")))
    ask = function if functions else act
    crew(agent(ask(asked, thing="tea"), FINAL, functions=functions, mcps=[shop])).kickoff()
    assert counted(recorded.report, "tool") == {"price": 1}
    assert recorded.report.errors("tool") == 0
    assert not [span.name for span in recorded.spans if "secret" in span.to_json()]


@pytest.mark.parametrize("run", [kickoff, akickoff])
def test_a_coworker_is_an_agent_below_the_tool_that_asked_it(recorded: Recorded, run: Any) -> None:
    ask = function("delegate_work_to_coworker", task="count", context="all", coworker="Researcher")
    writer = agent(ask, FINAL, role="Writer", functions=True, allow_delegation=True)
    researcher = agent()
    run(Crew(agents=[writer, researcher], tasks=[task(writer)]))
    report = recorded.report
    assert counted(report, "agent") == {"Writer": 1, "Researcher": 1}
    assert counted(report, "tool") == {"Delegate work to coworker": 1}
    assert recorded.parent(recorded.one("invoke_agent Researcher")) == "execute_tool Delegate work to coworker"
    assert report.errors("tool", "agent") == 0


@pytest.mark.parametrize("coworker", ["Researcher", "Nobody"])
def test_a_coworker_that_fails_or_is_not_there_is_a_failed_call(recorded: Recorded, coworker: str) -> None:
    ask = function("ask_question_to_coworker", question="count", context="all", coworker=coworker)
    writer = agent(ask, FINAL, role="Writer", functions=True, allow_delegation=True)
    researcher = agent(*[ConnectionError("gone")] * 9, max_retry_limit=0)
    Crew(agents=[writer, researcher], tasks=[task(writer)]).kickoff()
    assert recorded.report.errors("tool") == 1
    assert recorded.report.errors("agent") == (coworker == "Researcher")


def test_a_manager_and_its_workers(recorded: Recorded) -> None:
    ask = function("delegate_work_to_coworker", task="count", context="all", coworker="Researcher")
    manager = Fake(model="boss", answers=[ask, FINAL], functions=True)
    worker = agent()
    Crew(agents=[worker], tasks=[task(None)], process=Process.hierarchical, manager_llm=manager).kickoff()
    assert counted(recorded.report, "agent") == {"Crew Manager": 1, "Researcher": 1}
    assert counted(recorded.report, "llm") == {"boss": 2, "fake": 1}


def test_a_task_that_is_done_again_is_another_run_of_its_agent(recorded: Recorded) -> None:
    answers = iter([(False, "longer"), (True, "fine")])
    worker = agent()
    Crew(agents=[worker], tasks=[task(worker, guardrail=lambda output: next(answers))]).kickoff()
    assert counted(recorded.report, "agent") == {"Researcher": 2}
    assert len(recorded.named("execute_task")) == 1


def test_an_agent_that_tries_again_is_one_run(recorded: Recorded) -> None:
    crew(agent(ValueError("once"), FINAL)).kickoff()
    assert counted(recorded.report, "agent") == {"Researcher": 1}
    assert counted(recorded.report, "llm") == {"fake": 2}
    assert recorded.report.errors("llm") == 1


@pytest.mark.parametrize("run", [kickoff, akickoff, kickoff_async])
def test_a_failing_model_fails_the_crew_as_without_us(recorded: Recorded, run: Any) -> None:
    with pytest.raises(ValueError, match="never"):
        run(crew(agent(*[ValueError("never")] * 9)))
    assert recorded.report.root.error == "ValueError"
    assert recorded.report.errors("llm") == counted(recorded.report, "llm")["fake"] == 3


def test_an_attempt_that_the_provider_refused_is_a_call(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crewai.llms.retry.get_retry_delay_seconds", lambda **kwargs: 0.0)
    model = Fake(model="fake", answers=[RuntimeError("rate limit"), "hello"])
    later = Fake(model="later", answers=[RuntimeError("rate limit"), "hello"])
    with otel_agentperf.agent("outer"):
        assert model.call("hi") == "hello"
        assert asyncio.run(later.acall("hi")) == "hello"
    assert counted(recorded.report, "llm") == {"fake": model.calls, "later": later.calls} == {"fake": 2, "later": 2}
    assert recorded.report.errors("llm") == 2


def test_models_of_any_class_and_their_own_tokens(recorded: Recorded) -> None:
    class Base(Fake):
        def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            self._track_token_usage_internal({"prompt_tokens": 50, "completion_tokens": 7, "cached_tokens": 32})
            return "hello"

    class Derived(Base):
        def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            return super().call(messages, *args, **kwargs)

    with otel_agentperf.agent("outer"):
        assert Derived(model="derived").call("hi") == "hello"
    assert counted(recorded.report, "llm") == {"derived": 1}
    told = recorded.report.tokens
    assert (told.input, told.output, told.cache_read) == (50, 7, 32)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("run", WAYS)
def test_tokens_of_the_provider_count_once(recorded: Recorded, run: Any, stream: bool) -> None:
    with ModelServer(calls(("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})), "ok") as server:
        run(crew(agent(llm=openai(server, stream=stream), tools=[get_weather])))
    report = recorded.report
    assert counted(report, "llm") == {"gpt-4o-mini": len(server.requests)} == {"gpt-4o-mini": 2}
    assert counted(report, "tool") == {"get_weather": 2}
    assert (report.tokens.input, report.tokens.output) == (2 * INPUT, 2 * OUTPUT)
    assert report.tokens.cache_read == 2 * CACHED


@pytest.mark.parametrize("stream", [True, False])
def test_tokens_without_the_clients_own_spans(instrumented: Callable[..., Recorded], stream: bool) -> None:
    recorded = instrumented(disabled_integrations="openai")
    with ModelServer("one two three") as server, otel_agentperf.agent("outer"):
        assert openai(server, stream=stream).call("hi") == "one two three"
    attributes = recorded.one("chat gpt-4o-mini").attributes
    assert attributes is not None
    assert attributes["gen_ai.usage.input_tokens"] == INPUT
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == CACHED
    assert attributes["gen_ai.provider.name"] == "openai"
    assert ("gen_ai.response.time_to_first_chunk" in attributes) == stream


@pytest.mark.parametrize("alone", ["litellm,openai", ""])
def test_litellms_way(instrumented: Callable[..., Recorded], alone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    recorded = instrumented(disabled_integrations=alone)
    with ModelServer("one", "two") as server, otel_agentperf.agent("outer"):
        model = LLM(model="openai/gpt-stub", base_url=server.url, api_key="none", is_litellm=True)
        assert model.call("hi") == "one"
        assert asyncio.run(model.acall("hi")) == "two"
    assert sum(counted(recorded.report, "llm").values()) == 2
    assert (recorded.report.tokens.input, recorded.report.tokens.output) == (2 * INPUT, 2 * OUTPUT)


def test_functions_that_the_model_itself_calls(recorded: Recorded) -> None:
    def double(number: int) -> int:
        return 2 * number

    def broken(number: int) -> int:
        raise LookupError(number)

    for name, known in (("double", {"double": double}), ("broken", {"broken": broken})):
        with ModelServer(calls((name, {"number": 4}))) as server, otel_agentperf.agent("outer"):
            schema: Any = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}]
            answer = openai(server).call("hi", tools=schema, available_functions=known)
            assert name != "double" or str(answer) == "8"
    first, second = recorded.reports
    assert (counted(first, "tool"), first.errors("tool")) == ({"double": 1}, 0)
    assert (counted(second, "tool"), second.errors("tool")) == ({"broken": 1}, 1)


def test_a_refused_request_is_a_failed_call(recorded: Recorded) -> None:
    with ModelServer(Refusal(400)) as server, pytest.raises(Exception, match=r"(?i)refused|no|400"):
        crew(agent(llm=openai(server, max_retries=0), max_retry_limit=0)).kickoff()
    assert recorded.report.errors("llm") == len(server.requests)


def test_the_tool_cache(recorded: Recorded) -> None:
    asked = [function("get_weather", city=city) for city in ("Paris", "Rome")]
    first = agent(*asked, FINAL, tools=[get_weather], functions=True)
    second = agent(*asked, function("get_weather", city="Oslo"), FINAL, role="Checker", tools=[get_weather],
                   functions=True)  # fmt: skip
    crew(first, second, cache=True).kickoff()
    report = recorded.report
    assert counted(report, "tool") == {"get_weather": 3}
    (cache,) = report.caches
    assert (cache.name, cache.lookups, cache.hits) == ("crewai tools", 5, 2)


def test_the_tool_cache_without_spans(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(cache_spans="none")
    crew(agent(act("get_weather", city="Paris"), FINAL, tools=[get_weather]), cache=True).kickoff()
    assert recorded.named("cache get crewai tools") == []


def test_what_projects_keep_in_such_a_cache_is_nobodys_look_up(recorded: Recorded) -> None:
    from crewai.project.utils import memoize

    class Project:
        @memoize
        def make(self) -> int:
            return 1

    with otel_agentperf.tool("outer"):
        assert [Project().make(), Project().make()] == [1, 1]
    assert [span.name for span in recorded.spans] == ["execute_tool outer"]


def test_the_functions_of_crewais_planner_are_no_tools(recorded: Recorded) -> None:
    step = {"step_number": 1, "description": "look", "tool_to_use": "get_weather", "depends_on": []}
    plan = calls(("create_reasoning_plan", {"plan": "look", "steps": [step], "ready": True}))
    with ModelServer(plan, calls(("get_weather", {"city": "Paris"})), "sunny") as server:
        crew(agent(llm=openai(server), tools=[get_weather], planning=True)).kickoff()
    assert counted(recorded.report, "tool") == {"get_weather": 1}
    assert counted(recorded.report, "llm") == {"gpt-4o-mini": len(server.requests)}
    attributes = recorded.one("execute_tool get_weather").attributes
    assert attributes is not None
    assert str(attributes["gen_ai.tool.call.id"]).startswith("call_")


def plain(flow: Any) -> Any:
    return flow.kickoff()


def asynchronous(flow: Any) -> Any:
    return asyncio.run(flow.kickoff_async())


def native(flow: Any) -> Any:
    return asyncio.run(flow.akickoff())


def inside_a_loop(flow: Any) -> Any:
    async def run() -> Any:
        return flow.kickoff()

    return asyncio.run(run())


def events(flow: Any) -> Any:
    return list(flow.stream_events())


@pytest.mark.parametrize("run", [plain, asynchronous, native, inside_a_loop, events])
def test_a_flow_and_what_is_in_it(recorded: Recorded, run: Any) -> None:
    assert run(Guide())
    report = recorded.report
    assert recorded.traces == 1
    assert report.root.name == "invoke_workflow Guide"
    assert counted(report, "workflow") == {"Guide": 1, "crew": 1}
    assert counted(report, "agent") == {"Researcher": 1, "Critic": 1, "Editor": 1}
    assert counted(report, "llm") == {"fake": 3, "plain": 1}
    assert recorded.parent(recorded.one("invoke_workflow crew")) == "flow_method research"
    assert recorded.parent(recorded.one("invoke_agent Critic")) == "flow_method ask"


def test_a_flow_that_fails(recorded: Recorded) -> None:
    class Broken(Flow[dict[str, Any]]):
        @start()
        def begin(self) -> None:
            raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        Broken().kickoff()
    assert recorded.report.root.error == "LookupError"


def test_a_flow_that_waits_for_a_person_has_not_failed(recorded: Recorded, tmp_path: Path) -> None:
    class Later:
        def request_feedback(self, context: Any, flow: Any) -> str:
            raise HumanFeedbackPending(context=context)

    class Draft(Flow[dict[str, Any]]):
        @start()
        @human_feedback(message="good?", provider=Later())
        def write(self) -> str:
            return "text"

    kept = SQLiteFlowPersistence(str(tmp_path / "flows.db"))
    flow = Draft(persistence=kept)
    assert isinstance(flow.kickoff(), HumanFeedbackPending)
    Draft.from_pending(flow.flow_id, kept).resume("yes")
    assert [report.root.error for report in recorded.reports] == [None, None]
    assert [span.name for span in recorded.spans if not span.status.is_unset] == []


def test_an_agent_alone(recorded: Recorded) -> None:
    helper = agent(act("get_weather", city="Paris"), FINAL, tools=[get_weather])
    assert helper.kickoff("weather?").raw == "done"  # type: ignore[union-attr]
    assert asyncio.run(agent(role="Later").kickoff_async("weather?")).raw == "done"
    assert asyncio.run(agent(role="Last").akickoff("weather?")).raw == "done"
    names = [(report.root.name, counted(report, "agent")) for report in recorded.reports]
    assert names == [(f"invoke_agent {name}", {name: 1}) for name in ("Researcher", "Later", "Last")]
    assert counted(recorded.reports[0], "tool") == {"get_weather": 1}


@pytest.mark.filterwarnings("ignore:LiteAgent")
def test_a_lite_agent(recorded: Recorded) -> None:
    model = Fake(model="fake", answers=[act("get_weather", city="Paris"), FINAL])
    LiteAgent(role="Lite", goal="g", backstory="b", llm=model, tools=[get_weather]).kickoff("weather?")
    assert counted(recorded.report, "agent") == {"Lite": 1}
    assert counted(recorded.report, "tool") == {"get_weather": 1}
    assert counted(recorded.report, "llm") == {"fake": 2}


def test_tasks_side_by_side_belong_to_their_crew(recorded: Recorded) -> None:
    left, right, last = agent(role="Left"), agent(role="Right"), agent(role="Last")
    tasks = [task(left, async_execution=True), task(right, async_execution=True), task(last)]
    Crew(agents=[left, right, last], tasks=tasks).kickoff()
    assert recorded.traces == 1
    assert counted(recorded.report, "agent") == {"Left": 1, "Right": 1, "Last": 1}
    assert [recorded.parent(span) for span in recorded.named("execute_task")] == ["invoke_workflow crew"] * 3


def test_crews_side_by_side_are_runs_of_their_own(recorded: Recorded) -> None:
    async def both() -> None:
        teams = [crew(agent(act("get_weather", city="Paris"), FINAL, tools=[get_weather]), name=name)
                 for name in ("left", "right")]  # fmt: skip
        await asyncio.gather(*(team.akickoff() for team in teams))

    asyncio.run(both())
    assert sorted(report.root.operation for report in recorded.reports) == ["left", "right"]
    assert [counted(report, "tool") for report in recorded.reports] == [{"get_weather": 1}] * 2


def test_a_cancelled_crew_has_the_type_of_its_cancellation(recorded: Recorded) -> None:
    class Waiting(Fake):
        async def acall(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(30)

    async def cancel() -> None:
        running = asyncio.create_task(Guide2().kickoff_async())
        await asyncio.sleep(0.5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    class Guide2(Flow[dict[str, Any]]):
        @start()
        async def wait(self) -> Any:
            return await Waiting(model="waiting").acall("hi")

    asyncio.run(cancel())
    for name in ("invoke_workflow Guide2", "chat waiting"):
        attributes = recorded.one(name).attributes
        assert attributes is not None
        assert attributes["error.type"] == "CancelledError"


def test_leaving_a_stream_early_ends_everything(recorded: Recorded) -> None:
    with ModelServer("one two three four") as server:
        output: Any = crew(agent(llm=openai(server)), stream=True).kickoff()
        for _ in output:
            break
        output.close()
    assert {span.name for span in recorded.spans} >= {"invoke_workflow crew", "invoke_agent Researcher"}
    assert not get_current_span().get_span_context().is_valid


def test_suppressed_means_untraced(recorded: Recorded) -> None:
    with suppress_instrumentation():
        crew(agent(act("get_weather", city="Paris"), FINAL, tools=[get_weather])).kickoff()
    assert [span.name for span in recorded.spans] == []


def test_taken_back_nothing_is_traced(recorded: Recorded) -> None:
    otel_agentperf.uninstrument()
    assert Fake(model="fake", answers=[]).call("hi") == FINAL
    crew(agent(act("get_weather", city="Paris"), FINAL, tools=[get_weather])).kickoff()
    assert [span.name for span in recorded.spans] == ["retrieval almanac"], "what the program itself marks"


@pytest.mark.parametrize("stream", [False, True])
def test_a_program(tmp_path: Path, stream: bool) -> None:
    with ModelServer(*ANSWERS * 3) as server:
        env = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none", "CREWAI_DISABLE_TELEMETRY": "true",
               "CREWAI_TRACING_ENABLED": "false", "HOME": str(tmp_path)}  # fmt: skip
        told = three_ways(PROGRAM.replace("STREAM", str(stream)), tmp_path, env=env, noise=r"^[│╭╰]|^$")
    assert told.runs == ["Trip"]
    assert told.agents == {"Researcher": 2, "Writer": 1, "Critic": 1}
    assert told.tools == {"get_weather": 3, "get_price": 1, "Delegate work to coworker": 1}
    assert told.llm == {"gpt-4o-mini": 7}
    assert told.tokens == {"input": 7 * INPUT, "output": 7 * OUTPUT, "cache_read": 7 * CACHED}
    assert told.errors == {"get_price": 1}
