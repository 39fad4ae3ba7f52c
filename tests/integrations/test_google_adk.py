"""Google ADK: its own spans, each call once, with what they lack."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from google.adk.agents import LlmAgent, LoopAgent, ParallelAgent, SequentialAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.base_llm import BaseLlm
from google.adk.models.google_llm import Gemini
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner
from google.adk.telemetry import tracing
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.exit_loop_tool import exit_loop
from google.genai import types
from opentelemetry.trace import get_current_span

import otel_agentperf
from _gemini_server import CACHED, INPUT, OUTPUT, THOUGHTS, GeminiServer
from _model_server import calls
from _recorded import Recorded, counted
from _recording import everything
from _three_ways import three_ways

ENVIRONMENTS = ("adk",)
REQUIRES = ("opentelemetry-sdk==1.44.*",)

pytestmark = [
    pytest.mark.filterwarnings("ignore:(Sequential|Parallel|Loop)Agent is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The `plugins` argument is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*EXPERIMENTAL.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
SSE = RunConfig(streaming_mode=StreamingMode.SSE)


@pytest.fixture
def adk(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """ADK's tracer goes to the global provider; here there is none."""
    monkeypatch.delenv("ADK_TELEMETRY_SCHEMA_VERSION_OPT_IN", raising=False)
    monkeypatch.setattr(tracing.tracer, "_real_tracer", recorded.provider.get_tracer("gcp.vertex.agent"))
    return recorded


class Fake(BaseLlm):
    """Gives its answers in order: a text, calls of functions, or an error; no finish reason, as many write it."""

    answers: list[Any]

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> AsyncGenerator[LlmResponse, None]:
        answer = self.answers.pop(0)
        await asyncio.sleep(0.005)
        if isinstance(answer, Exception):
            raise answer
        if stream and isinstance(answer, str):
            for word in answer.split():
                await asyncio.sleep(0.005)
                yield LlmResponse(content=said(types.Part(text=word)), partial=True)
        parts = [types.Part(text=answer)] if isinstance(answer, str) else [asked(*call) for call in answer]
        yield LlmResponse(content=said(*parts), usage_metadata=USAGE)


USAGE = types.GenerateContentResponseUsageMetadata(
    prompt_token_count=INPUT, candidates_token_count=OUTPUT, cached_content_token_count=CACHED,
    thoughts_token_count=THOUGHTS,
)  # fmt: skip


def said(*parts: types.Part) -> types.Content:
    return types.Content(role="model", parts=list(parts))


def asked(name: str, arguments: dict[str, Any]) -> types.Part:
    return types.Part(function_call=types.FunctionCall(name=name, args=arguments))


def llm_agent(name: str, *answers: Any, **more: Any) -> LlmAgent:
    return LlmAgent(name=name, model=Fake(model=f"fake-{name}", answers=list(answers)), **more)


def get_weather(city: str) -> dict[str, str]:
    """The weather."""
    with otel_agentperf.retrieval("almanac"):
        return {"status": "success", "report": f"secret sun in {city}"}


async def get_time(city: str) -> str:
    """The time."""
    await asyncio.sleep(0.05)
    return city


def refuse(city: str) -> dict[str, str]:
    """Says no, in the form of ADK's documentation."""
    return {"status": "error", "error_message": "secret"}


def broken(city: str) -> str:
    """Raises."""
    raise LookupError("secret")


MESSAGE = types.Content(role="user", parts=[types.Part(text="secret question")])
TURN = [("get_weather", {"city": "Paris"}), ("get_time", {"city": "Rome"})]


async def run(root: Any, leave_after: int | None = None, **more: Any) -> int:
    runner = InMemoryRunner(root, app_name="app")
    await runner.session_service.create_session(app_name="app", user_id="u", session_id="s")
    events = 0
    async for _ in runner.run_async(user_id="u", session_id="s", new_message=MESSAGE, **more):
        assert not get_current_span().get_span_context().is_valid
        events += 1
        if events == leave_after:
            break
    return events


def attributes(recorded: Recorded, name: str) -> dict[str, Any]:
    return dict(recorded.one(name).attributes or {})


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("schema", ["1", "2"])
def test_an_agent_with_tools(adk: Recorded, streamed: bool, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if schema == "1":
        monkeypatch.setenv("ADK_TELEMETRY_SCHEMA_VERSION_OPT_IN", "1")
        monkeypatch.setenv("ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS", "false")
    more = {"run_config": SSE} if streamed else {}
    asyncio.run(run(llm_agent("planner", TURN, "all is well", tools=[get_weather, get_time]), **more))
    report = adk.report
    assert adk.traces == 1
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(report, "llm") == {"fake-planner": 2}
    tokens = report.tokens
    assert (tokens.input, tokens.output, tokens.cache_read) == (2 * INPUT, 2 * (OUTPUT + THOUGHTS), 2 * CACHED)
    assert report.errors("agent", "tool", "llm", "workflow") == 0
    assert adk.parent(adk.one("execute_tool get_weather")) == "invoke_agent planner"
    assert adk.parent(adk.one("retrieval almanac")) == "execute_tool get_weather"
    tool = attributes(adk, "execute_tool get_weather")
    assert {"agentperf.args.hash", "agentperf.result.hash", "gen_ai.tool.call.id"} <= tool.keys()
    assert "secret" not in everything(adk.spans)


def test_the_first_chunk_of_a_stream(adk: Recorded) -> None:
    asyncio.run(run(llm_agent("planner", "all is well"), run_config=SSE))
    assert attributes(adk, "generate_content fake-planner")["gen_ai.response.time_to_first_chunk"] > 0


def test_a_model_call_ends_before_the_tools_it_asked_for(adk: Recorded) -> None:
    asyncio.run(run(llm_agent("planner", TURN, "done", tools=[get_weather, get_time])))
    model = adk.named("generate_content fake-planner")[0]
    assert (model.end_time or 0) <= (adk.one("execute_tool get_time").start_time or 0)


def test_content_where_the_user_wants_it(instrumented: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = instrumented(content=True)
    monkeypatch.setattr(tracing.tracer, "_real_tracer", recorded.provider.get_tracer("gcp.vertex.agent"))
    asyncio.run(run(llm_agent("planner", TURN, "done", tools=[get_weather, get_time])))
    assert "secret sun in Paris" in attributes(recorded, "execute_tool get_weather")["gen_ai.tool.call.result"]


def test_sub_agents_as_tools_and_hand_offs(adk: Recorded) -> None:
    helper = llm_agent("helper", "helped")
    clerk = llm_agent("clerk", [("get_weather", {"city": "Rome"})], "done", tools=[get_weather])
    asks = ([("helper", {"request": "hi"})], [("transfer_to_agent", {"agent_name": "clerk"})])
    asyncio.run(run(llm_agent("triage", *asks, tools=[AgentTool(helper)], sub_agents=[clerk])))
    report = adk.report
    assert adk.traces == 1
    assert counted(report, "agent") == {"triage": 1, "helper": 1, "clerk": 1}
    assert counted(report, "tool") == {"helper": 1, "get_weather": 1}
    assert counted(report, "llm") == {"fake-triage": 2, "fake-helper": 1, "fake-clerk": 2}
    assert adk.parent(adk.one("invoke_agent helper")) == "invoke_workflow helper"
    assert adk.parent(adk.one("invoke_workflow helper")) == "execute_tool helper"
    assert adk.one("execute_tool transfer_to_agent")


def test_a_sub_agent_that_runs_as_a_tool_is_below_it(adk: Recorded) -> None:
    helper = llm_agent("helper", "short", description="helps", mode="single_turn")
    asyncio.run(run(llm_agent("boss", [("helper", {"request": "secret"})], "done", sub_agents=[helper])))
    assert adk.traces == 1
    assert counted(adk.report, "agent") == {"boss": 1, "helper": 1}
    assert counted(adk.report, "tool") == {"helper": 1}
    assert adk.parent(adk.one("invoke_agent helper")) == "execute_tool helper"
    assert adk.parent(adk.one("generate_content fake-helper")) == "invoke_agent helper"


def test_workflow_agents(adk: Recorded) -> None:
    asks = [("get_time", {"city": "Rome"})]
    both = [llm_agent(name, asks, "y", tools=[get_time]) for name in ("left", "right")]
    turns = llm_agent("reviewer", "again", [("exit_loop", {})], tools=[exit_loop])
    pair = ParallelAgent(name="pair", sub_agents=list(both))
    loop = LoopAgent(name="loop", max_iterations=5, sub_agents=[turns])
    asyncio.run(run(SequentialAgent(name="pipeline", sub_agents=[pair, loop])))
    report = adk.report
    assert adk.traces == 1
    assert counted(report, "agent") == {"pipeline": 1, "pair": 1, "left": 1, "right": 1, "loop": 1, "reviewer": 2}
    assert counted(report, "tool") == {"get_time": 2, "exit_loop": 1}
    assert sum(counted(report, "llm").values()) == 6


class Lookup(BaseTool):
    """A tool as a class; ADK looks for no error in its answers."""

    __name__ = "lookup"

    def __init__(self) -> None:
        super().__init__(name="lookup", description="Looks something up.")

    def _get_declaration(self) -> types.FunctionDeclaration:
        return types.FunctionDeclaration(name="lookup", description="Looks something up.")

    async def run_async(self, *, args: dict[str, Any], tool_context: Any) -> dict[str, str]:
        return {"error": "secret"}


@pytest.mark.parametrize(
    ("tool", "error"),
    [(refuse, "tool_error"), (Lookup(), "tool_error"), (broken, "LookupError"), ("nothing", "ValueError")],
)
def test_failing_tools_whose_error_the_model_is_told(adk: Recorded, tool: Any, error: str) -> None:
    name = tool if isinstance(tool, str) else tool.__name__
    more: dict[str, Any] = {"on_tool_error_callback": lambda **_: {"sorry": "no"}} if tool is broken else {}
    tools = [get_weather] if isinstance(tool, str) else [tool]
    asyncio.run(run(llm_agent("planner", [(name, {"city": "Paris"})], "done", tools=tools, **more)))
    assert counted(adk.report, "tool") == {name: 1}
    assert adk.report.errors("tool") == 1
    assert adk.report.errors("agent", "workflow", "llm") == 0
    assert attributes(adk, f"execute_tool {name}")["error.type"] == error


def test_a_tool_that_is_called_wrongly(adk: Recorded) -> None:
    asyncio.run(run(llm_agent("planner", [("get_weather", {})], "done", tools=[get_weather])))
    assert adk.report.errors("tool") == 1


def test_errors_that_reach_the_program(adk: Recorded) -> None:
    with pytest.raises(LookupError):
        asyncio.run(run(llm_agent("planner", [("broken", {"city": "Paris"})], tools=[broken])))
    assert {name for name in ("agent", "tool", "workflow") if adk.report.errors(name)} == {"agent", "tool", "workflow"}
    adk.forget()
    with pytest.raises(RuntimeError):
        asyncio.run(run(llm_agent("planner", RuntimeError("secret"))))
    assert adk.report.errors("llm") == 1
    assert attributes(adk, "generate_content fake-planner")["error.type"] == "RuntimeError"


def test_cancellation(adk: Recorded) -> None:
    async def cancelled() -> None:
        started = asyncio.Event()

        async def get_forever(city: str) -> None:
            """Never comes back."""
            started.set()
            await asyncio.sleep(60)

        agent = llm_agent("planner", [("get_forever", {"city": "Paris"})], tools=[get_forever])
        task = asyncio.create_task(run(agent))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    for name in ("invoke_workflow planner", "invoke_agent planner", "execute_tool get_forever"):
        assert attributes(adk, name)["error.type"] == "CancelledError", name


@pytest.mark.parametrize("then", ["more to do", "the end"])
def test_a_run_that_is_left_early_ended_well(adk: Recorded, then: str) -> None:
    async def leave() -> None:
        agent = llm_agent("planner", TURN, "one two three", tools=[get_weather, get_time])
        await run(agent, leave_after=3, run_config=SSE)
        if then == "more to do":
            await asyncio.sleep(0.05)
            await run(llm_agent("next", "done"))

    asyncio.run(leave())
    assert adk.traces == (2 if then == "more to do" else 1)
    report = adk.reports[0]
    assert counted(report, "llm") == {"fake-planner": 2}
    assert report.errors("agent", "tool", "llm", "workflow") == 0


@pytest.mark.parametrize("leave", [False, True])
def test_the_runner_that_reads_in_a_thread(adk: Recorded, leave: bool) -> None:
    runner = InMemoryRunner(llm_agent("planner", TURN, "done", tools=[get_weather, get_time]), app_name="app")
    asyncio.run(runner.session_service.create_session(app_name="app", user_id="u", session_id="s"))
    for _ in runner.run(user_id="u", session_id="s", new_message=MESSAGE):
        if leave:
            break
    assert adk.traces == 1
    assert adk.report.errors("agent", "tool", "llm", "workflow") == 0


def test_runs_at_the_same_time(adk: Recorded) -> None:
    async def both() -> None:
        turn = [("get_time", {"city": "Rome"})]
        await asyncio.gather(*(run(llm_agent(f"agent_{n}", turn, "done", tools=[get_time])) for n in range(4)))

    asyncio.run(both())
    assert adk.traces == 4
    assert [counted(report, "tool") for report in adk.reports] == [{"get_time": 1}] * 4


@pytest.mark.parametrize("streamed", [False, True])
def test_gemini_is_one_call_though_its_client_is_traced_too(
    adk: Recorded, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "test")
    with GeminiServer(calls(("get_weather", {"city": "Paris"})), "a b c") as server:
        model = Gemini(model="gemini-2.5-flash", base_url=server.url)
        agent = LlmAgent(name="planner", model=model, tools=[get_weather])
        asyncio.run(run(agent, **({"run_config": SSE} if streamed else {})))
    report = adk.report
    assert counted(report, "llm") == {"gemini-2.5-flash": 2}
    assert counted(report, "tool") == {"get_weather": 1}
    assert (report.tokens.input, report.tokens.output) == (2 * INPUT, 2 * (OUTPUT + THOUGHTS))
    assert len(adk.named("chat gemini-2.5-flash")) == 2
    del agent, model
    gc.collect()  # the client's open connections are told here, where that is ignored


def test_switched_off(adk: Recorded) -> None:
    otel_agentperf.uninstrument()
    asyncio.run(run(llm_agent("planner", TURN, "done", tools=[get_weather, get_time])))
    assert adk.one("execute_tool get_weather")
    assert "agentperf.args.hash" not in attributes(adk, "execute_tool get_weather")


PROGRAM = """
import asyncio, os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {tests!r})
os.environ["GOOGLE_API_KEY"] = "test"
from _gemini_server import GeminiServer
from _model_server import calls
from google.adk.agents import LlmAgent, SequentialAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.google_llm import Gemini
from google.adk.runners import InMemoryRunner
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.genai import types

def search(query: str) -> dict:
    "Search."
    return {{"status": "success", "found": [query]}}

def book(hotel: str) -> dict:
    "Book a hotel."
    return {{"status": "error", "error_message": "sold out"}}

async def main(url):
    def gemini():
        return Gemini(model="gemini-2.5-flash", base_url=url)

    expert = LlmAgent(name="expert", model=gemini(), instruction="Help.")
    billing = LlmAgent(name="billing", model=gemini(), description="Bills.")
    root = LlmAgent(name="travel", model=gemini(), tools=[search, book, AgentTool(expert)], sub_agents=[billing])
    runner = InMemoryRunner(root, app_name="trips")
    await runner.session_service.create_session(app_name="trips", user_id="u", session_id="s")
    for config in (RunConfig(), RunConfig(streaming_mode=StreamingMode.SSE)):
        message = types.Content(role="user", parts=[types.Part(text="a trip to Paris")])
        async for event in runner.run_async(user_id="u", session_id="s", new_message=message, run_config=config):
            for part in event.content.parts if event.content else ():
                print(event.author, part.text or (part.function_call and part.function_call.name) or "result")

answers = (
    calls(("search", {{"query": "hotels"}}), ("book", {{"hotel": "Ritz"}})),
    calls(("expert", {{"request": "which one?"}})), "the other one",
    calls(("transfer_to_agent", {{"agent_name": "billing"}})), "paid",
    "in a stream",
)
with GeminiServer(*answers) as server:
    asyncio.run(main(server.url))
"""


def test_a_program(tmp_path: Path) -> None:
    told = three_ways(PROGRAM.format(tests=str(Path(__file__).parents[1])), tmp_path)
    assert sorted(told.runs) == ["billing", "travel"]
    assert told.agents == {"travel": 1, "expert": 1, "billing": 2}
    assert told.tools == {"search": 1, "book": 1, "expert": 1}
    assert told.llm == {"gemini-2.5-flash": 6}
    assert told.errors == {"book": 1}
    assert told.tokens["input"] == 6 * INPUT
