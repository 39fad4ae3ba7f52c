"""The OpenAI Agents SDK: agents, tools, model calls once each, tracing on or off, built-in or custom models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import agents
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    Model,
    ModelBehaviorError,
    ModelResponse,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    Usage,
    custom_span,
    function_tool,
    input_guardrail,
    set_trace_processors,
    set_tracing_disabled,
    trace,
)
from agents.tracing import get_trace_provider
from openai import AsyncOpenAI
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseError,
    ResponseFailedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
)
from openai.types.responses.response_output_text import ResponseOutputText
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, Refusal, calls
from _recorded import Recorded, counted

QUIET = RunConfig(trace_include_sensitive_data=False)


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    """Without the exporter to api.openai.com."""
    set_trace_processors([])
    set_tracing_disabled(False)
    yield
    set_trace_processors([])
    set_tracing_disabled(False)


class Custom(Model):
    """A model of the user's own, which emits no span."""

    def __init__(self, *answers: Any, model: str = "custom-1") -> None:
        self.answers = list(answers)
        self.model = model

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        answer = self.answers.pop(0)
        await asyncio.sleep(0.01)
        if isinstance(answer, Exception):
            raise answer
        usage = Usage(requests=1, input_tokens=INPUT, output_tokens=OUTPUT, total_tokens=INPUT + OUTPUT)
        return ModelResponse(output=answer, usage=usage, response_id=None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        answer = await self.get_response()
        yield ResponseCompletedEvent(type="response.completed", sequence_number=0, response=whole(answer.output))


def whole(output: Any) -> Response:
    usage = agents.models.chatcmpl_stream_handler.ResponseUsage(
        input_tokens=INPUT, output_tokens=OUTPUT, total_tokens=INPUT + OUTPUT,
        input_tokens_details=InputTokensDetails(cached_tokens=0, cache_write_tokens=0),
        output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
    )  # fmt: skip
    return Response(id="r", created_at=0, model="custom-1", object="response", output=output, tool_choice="auto",
                    tools=[], parallel_tool_calls=False, usage=usage)  # fmt: skip


def says(text: str = "done") -> Any:
    content = [ResponseOutputText(text=text, type="output_text", annotations=[])]
    return [ResponseOutputMessage(id="m", role="assistant", status="completed", type="message", content=content)]  # type: ignore[arg-type]


def asks(*tools: tuple[str, str]) -> Any:
    return [
        ResponseFunctionToolCall(arguments=arguments, call_id=f"{name}-{place}", name=name, type="function_call")
        for place, (name, arguments) in enumerate(tools)
    ]


@function_tool
def get_weather(city: str) -> str:
    """The weather."""
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


@function_tool
async def get_time(city: str) -> str:
    """The time."""
    with otel_agentperf.retrieval("clock"):
        await asyncio.sleep(0.01)
    return city


TWO_TURNS = (asks(("get_weather", '{"city": "Paris"}'), ("get_time", '{"city":"Rome"}')), says())
SERVED = (calls(("get_weather", {"city": "Paris"}), ("get_time", {"city": "Rome"})), "done")


def planner(*answers: Any, name: str = "planner", **more: Any) -> Agent[Any]:
    return Agent(name, model=Custom(*answers), **{"tools": [get_weather, get_time], **more})


async def run(agent: Agent[Any], **more: Any) -> None:
    await Runner.run(agent, "hello secret", **more)


async def streamed(agent: Agent[Any], **more: Any) -> None:
    async for _ in Runner.run_streamed(agent, "hello secret", **more).stream_events():
        assert not get_current_span().get_span_context().is_valid, "the consumer is not inside the agent"


def expect_two_turns(recorded: Recorded, model: str) -> None:
    report = recorded.report
    assert recorded.traces == 1
    assert report.root.name == "invoke_workflow Agent workflow"
    assert counted(report, "agent") == {"planner": 1}
    assert counted(report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(report, "llm") == {model: 2}
    assert counted(report, "retrieval") == {"almanac": 1, "clock": 1}
    assert (report.tokens.input, report.tokens.output) == (2 * INPUT, 2 * OUTPUT)
    assert report.errors("agent", "tool", "llm", "workflow") == 0
    assert recorded.parent(recorded.one("invoke_agent planner")) == "invoke_workflow Agent workflow"
    assert recorded.parent(recorded.one("execute_tool get_weather")) == "invoke_agent planner"
    assert recorded.parent(recorded.one("retrieval almanac")) == "execute_tool get_weather"
    assert recorded.parent(recorded.one("retrieval clock")) == "execute_tool get_time"
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("way", [run, streamed])
@pytest.mark.parametrize("tracing", ["on", "off for all", "off for this run", "without processors", "without content"])
def test_agents_tools_and_custom_models(recorded: Recorded, way: Any, tracing: str) -> None:
    more = {}
    if tracing == "off for all":
        set_tracing_disabled(True)
    elif tracing == "off for this run":
        more["run_config"] = RunConfig(tracing_disabled=True)
    elif tracing == "without processors":
        set_trace_processors([])
    elif tracing == "without content":
        more["run_config"] = QUIET
    asyncio.run(way(planner(*TWO_TURNS), **more))
    expect_two_turns(recorded, "custom-1")
    tool = recorded.one("execute_tool get_weather").attributes
    assert tool is not None
    assert tool["gen_ai.tool.call.id"] == "get_weather-0"
    assert {"agentperf.args.hash", "agentperf.result.hash"} <= tool.keys()
    assert "Paris" not in str([dict(span.attributes or {}) for span in recorded.spans])


@pytest.mark.parametrize("way", [run, streamed])
@pytest.mark.parametrize("kind", [OpenAIResponsesModel, OpenAIChatCompletionsModel])
@pytest.mark.parametrize("disabled", [False, True])
def test_the_built_in_models_count_once_with_their_client_below(
    recorded: Recorded, way: Any, kind: Any, disabled: bool
) -> None:
    set_tracing_disabled(disabled)

    async def go(url: str) -> None:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            settings = ModelSettings(include_usage=True)
            await way(Agent("planner", model=kind("gpt-stub", openai_client=client), model_settings=settings,
                            tools=[get_weather, get_time]))  # fmt: skip

    with ModelServer(*SERVED) as server:
        asyncio.run(go(server.url))
    expect_two_turns(recorded, "gpt-stub")
    assert recorded.report.tokens.cache_read == 2 * CACHED


def test_sync_runs(recorded: Recorded) -> None:
    Runner.run_sync(planner(*TWO_TURNS), "hello")
    expect_two_turns(recorded, "custom-1")
    asyncio.get_event_loop_policy().get_event_loop().close()


def test_content_where_it_is_wanted(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    asyncio.run(run(planner(*TWO_TURNS)))
    tool = recorded.one("execute_tool get_weather").attributes
    assert tool is not None
    assert tool["gen_ai.tool.call.arguments"] == '{"city":"Paris"}'
    assert tool["gen_ai.tool.call.result"] == "sunny in Paris"


@pytest.mark.parametrize("disabled", [False, True])
def test_a_handoff(recorded: Recorded, disabled: bool) -> None:
    set_tracing_disabled(disabled)
    helper = planner(says(), name="helper", tools=[])
    asyncio.run(run(planner(asks(("transfer_to_helper", "{}")), name="triage", tools=[], handoffs=[helper])))
    assert recorded.tree == [
        ("invoke_workflow Agent workflow", [
            ("invoke_agent triage", ["chat custom-1", "handoff triage to helper"]),
            ("invoke_agent helper", ["chat custom-1"]),
        ])
    ]  # fmt: skip
    assert counted(recorded.report, "agent") == {"triage": 1, "helper": 1}


def test_an_agent_as_a_tool_is_a_sub_agent(recorded: Recorded) -> None:
    helper = planner(*TWO_TURNS, name="helper").as_tool("ask_helper", "Asks.")
    asyncio.run(run(planner(asks(("ask_helper", '{"input": "?"}')), says(), tools=[helper])))
    report = recorded.report
    assert counted(report, "agent") == {"planner": 1, "helper": 1}
    assert counted(report, "tool") == {"ask_helper": 1, "get_weather": 1, "get_time": 1}
    assert counted(report, "llm") == {"custom-1": 4}
    assert recorded.parent(recorded.one("invoke_agent helper")) == "execute_tool ask_helper"


def test_a_users_trace_around_several_runs_is_one_run(recorded: Recorded) -> None:
    async def both() -> None:
        with trace("review"):
            await run(planner(says(), name="first"))
            with custom_span("between"):
                await run(planner(says(), name="second"))

    asyncio.run(both())
    assert recorded.tree == [
        ("invoke_workflow review", [
            ("invoke_agent first", ["chat custom-1"]),
            ("custom between", [("invoke_agent second", ["chat custom-1"])]),
        ])
    ]  # fmt: skip


def test_inside_somebodys_span(recorded: Recorded) -> None:
    async def serve() -> None:
        with recorded.provider.get_tracer("web").start_as_current_span("GET /"):
            await run(planner(says()))
            await streamed_inside()

    async def streamed_inside() -> None:
        async for _ in Runner.run_streamed(planner(says()), "hello").stream_events():
            assert get_current_span().name == "GET /"  # type: ignore[attr-defined]

    asyncio.run(serve())
    assert recorded.traces == 1
    assert len(recorded.reports) == 2
    assert [recorded.parent(span) for span in recorded.named("invoke_workflow Agent workflow")] == ["GET /"] * 2


def test_runs_side_by_side_are_kept_apart(recorded: Recorded) -> None:
    async def both() -> None:
        await asyncio.gather(*(run(planner(*TWO_TURNS, name=name)) for name in ("left", "right")))

    asyncio.run(both())
    assert len(recorded.reports) == 2
    assert [counted(report, "tool") for report in recorded.reports] == [{"get_weather": 1, "get_time": 1}] * 2
    assert [counted(report, "llm") for report in recorded.reports] == [{"custom-1": 2}] * 2


# --- failures -------------------------------------------------------------------------------------------


@function_tool
def broken(city: str) -> str:
    """Fails, and the model is told."""
    raise LookupError(city)


@function_tool(failure_error_function=None)
def fatal(city: str) -> str:
    """Fails the run."""
    raise LookupError(city)


def error_of(recorded: Recorded, name: str) -> Any:
    return dict(recorded.one(name).attributes or {}).get("error.type")


@pytest.mark.parametrize("disabled", [False, True])
def test_a_tool_that_fails_is_an_error_though_the_model_is_told(recorded: Recorded, disabled: bool) -> None:
    set_tracing_disabled(disabled)
    asyncio.run(run(planner(asks(("broken", '{"city": "Paris"}')), says(), tools=[broken])))
    assert error_of(recorded, "execute_tool broken") == "LookupError"
    assert recorded.report.errors("tool") == 1
    assert recorded.report.errors("agent", "workflow", "llm") == 0


@pytest.mark.parametrize("disabled", [False, True])
def test_a_tool_that_fails_the_run(recorded: Recorded, disabled: bool) -> None:
    set_tracing_disabled(disabled)
    with pytest.raises(Exception, match="Paris"):
        asyncio.run(run(planner(asks(("fatal", '{"city": "Paris"}')), says(), tools=[fatal])))
    assert error_of(recorded, "execute_tool fatal") is not None
    assert recorded.report.errors("tool", "agent", "workflow") == 3
    assert all(span.events == () or span.parent is None for span in recorded.spans)
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("way", [run, streamed])
def test_a_model_that_fails(recorded: Recorded, way: Any) -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(way(planner(ConnectionError("gone"))))
    assert counted(recorded.report, "llm") == {"custom-1": 1}
    assert recorded.report.errors("llm") == 1
    for span in recorded.named("chat custom-1"):
        assert dict(span.attributes or {})["error.type"] == "ConnectionError"
    assert error_of(recorded, "invoke_agent planner") is not None


def test_a_refused_request_is_a_failed_model_call(recorded: Recorded) -> None:
    async def go(url: str) -> None:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            await run(Agent("planner", model=OpenAIResponsesModel("gpt-stub", openai_client=client)))

    with ModelServer(Refusal(400)) as server, pytest.raises(Exception, match="no"):
        asyncio.run(go(server.url))
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.errors("llm") == 1


def test_too_many_turns(recorded: Recorded) -> None:
    with pytest.raises(MaxTurnsExceeded):
        asyncio.run(run(planner(*TWO_TURNS), max_turns=1))
    assert "MaxTurnsExceeded" in str(error_of(recorded, "invoke_agent planner"))


def test_a_run_inside_an_exception_handler_is_no_error(recorded: Recorded) -> None:
    try:
        raise KeyError("before")
    except KeyError:
        asyncio.run(run(planner(says())))
    assert recorded.report.errors("agent", "workflow") == 0


def test_a_guardrail_that_trips(recorded: Recorded) -> None:
    @input_guardrail
    async def refuse(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    with pytest.raises(InputGuardrailTripwireTriggered):
        asyncio.run(run(planner(says(), input_guardrails=[refuse])))
    assert recorded.one("guardrail refuse")
    assert not get_current_span().get_span_context().is_valid


def test_a_cancelled_run(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    @function_tool
    async def wait(city: str) -> str:
        """Waits."""
        await asyncio.sleep(30)
        return city

    async def cancel() -> None:
        task = asyncio.create_task(run(planner(asks(("wait", '{"city": "Paris"}')), tools=[wait])))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert error_of(recorded, "invoke_agent planner") == "CancelledError"
    assert error_of(recorded, "execute_tool wait") == "CancelledError"
    assert (counted(recorded.report, "tool"), recorded.report.root.incomplete) == ({"wait": 1}, False)
    assert "detach" not in caplog.text


def test_leaving_a_streamed_run_early(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> None:
        result = Runner.run_streamed(planner(*TWO_TURNS), "hello")
        events = result.stream_events()
        await events.__anext__()
        result.cancel()
        await events.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)

    asyncio.run(leave())
    assert "detach" not in caplog.text
    assert {span.name for span in recorded.spans} >= {"invoke_workflow Agent workflow"}


# --- around it ------------------------------------------------------------------------------------------


def test_a_model_called_alone(recorded: Recorded) -> None:
    async def go() -> None:
        with otel_agentperf.agent("own"):
            await Custom(says()).get_response(None, "hello")

    asyncio.run(go())
    assert counted(recorded.report, "llm") == {"custom-1": 1}


def test_models_that_delegate_count_once(recorded: Recorded) -> None:
    class Careful(Custom):
        async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
            return await super().get_response(*args, **kwargs)

    asyncio.run(run(Agent("planner", model=Careful(says()))))
    assert counted(recorded.report, "llm") == {"custom-1": 1}
    assert recorded.report.tokens.input == INPUT


def test_suppressed_means_untraced(recorded: Recorded) -> None:
    with suppress_instrumentation():
        asyncio.run(run(planner(*TWO_TURNS)))
    assert recorded.spans == []


def test_taking_it_back(instrumented: Callable[..., Recorded]) -> None:
    before = vars(Model).get("__init_subclass__"), Custom.get_response, Custom.stream_response
    processors = get_trace_provider()._multi_processor._processors  # type: ignore[attr-defined]
    recorded = instrumented()
    otel_agentperf.instrument()
    assert Custom.get_response is not before[1]
    otel_agentperf.uninstrument()
    assert (vars(Model).get("__init_subclass__"), Custom.get_response, Custom.stream_response) == before
    assert get_trace_provider()._multi_processor._processors == processors  # type: ignore[attr-defined]
    asyncio.run(run(planner(says())))
    assert recorded.spans == []


@pytest.mark.parametrize("tracing", [True, False])
def test_a_run_under_way_when_it_is_taken_back_is_told_whole(
    instrumented: Callable[..., Recorded], tracing: bool
) -> None:
    set_tracing_disabled(not tracing)
    recorded = instrumented()

    async def main() -> None:
        async for event in Runner.run_streamed(planner(*TWO_TURNS), "hello secret").stream_events():
            if event.type == "raw_response_event":
                otel_agentperf.uninstrument()
        await run(planner(says()))

    asyncio.run(main())
    assert recorded.traces == 1
    assert counted(recorded.report, "agent") == {"planner": 1}
    assert not recorded.report.run.incomplete
    assert not get_current_span().get_span_context().is_valid
    otel_agentperf.instrument()
    otel_agentperf.uninstrument()
    assert get_trace_provider()._multi_processor._processors == ()  # type: ignore[attr-defined]


def test_a_response_that_fails_in_its_stream_is_a_failed_model_call(recorded: Recorded) -> None:
    class Failing(Custom):
        async def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            error = ResponseError(code="rate_limit_exceeded", message="secret")
            failed = whole([]).model_copy(update={"status": "failed", "error": error})
            yield ResponseFailedEvent(response=failed, sequence_number=1, type="response.failed")

    with pytest.raises(ModelBehaviorError):
        asyncio.run(streamed(Agent("planner", model=Failing())))
    assert (recorded.one("chat custom-1").attributes or {})["error.type"] == "rate_limit_exceeded"


def test_spans_of_another_processor_are_inside_ours_however_it_was_registered(recorded: Recorded) -> None:
    told: list[str] = []

    class Other(agents.TracingProcessor):
        def on_trace_start(self, trace: Any) -> None:
            told.append(current_name())

        def on_trace_end(self, trace: Any) -> None:
            told.append(current_name())

        def on_span_start(self, span: Any) -> None: ...
        def on_span_end(self, span: Any) -> None: ...
        def shutdown(self) -> None: ...
        def force_flush(self) -> None: ...

    ways: list[Callable[[Any], None]] = [
        agents.add_trace_processor,
        lambda other: set_trace_processors([other]),
        lambda other: setattr(get_trace_provider()._multi_processor, "_processors", (other,)),  # type: ignore[attr-defined]
    ]
    for register in ways:
        register(Other())
        asyncio.run(run(planner(says())))
        assert told == ["invoke_workflow Agent workflow"] * 2
        told.clear()
        set_trace_processors([])
    assert counted(recorded.reports[0], "agent") == {"planner": 1}


def current_name() -> str:
    return str(getattr(get_current_span(), "name", ""))


def test_what_somebody_around_us_has_restored_stays(recorded: Recorded) -> None:
    """Logfire's span around ours ends first, and makes what was current before it current again."""
    from opentelemetry import context as context_api

    original = get_trace_provider().create_trace
    nothing = context_api.get_current()

    class Ends:
        def __init__(self, trace: Any) -> None:
            self._trace = trace

        def __enter__(self) -> Any:
            self._token = context_api.attach(context_api.set_value("around", True))
            self._trace.start(mark_as_current=True)
            return self._trace

        def __exit__(self, *error: Any) -> None:
            context_api.detach(self._token)
            self._trace.finish(reset_current=True)

    with Ends(original("mine")):
        pass
    assert context_api.get_current() == nothing


def test_a_broken_processor_of_the_users_changes_nothing(recorded: Recorded) -> None:
    class Slow(agents.TracingProcessor):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                time.sleep(0.001)
            return super().__getattribute__(name)

        def on_trace_start(self, trace: Any) -> None:
            raise RuntimeError("no")

        def on_trace_end(self, trace: Any) -> None: ...
        def on_span_start(self, span: Any) -> None: ...
        def on_span_end(self, span: Any) -> None: ...
        def shutdown(self) -> None: ...
        def force_flush(self) -> None: ...

    agents.add_trace_processor(Slow())
    asyncio.run(run(planner(*TWO_TURNS)))
    expect_two_turns(recorded, "custom-1")
