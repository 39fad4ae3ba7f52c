"""The Anthropic client: one span a call, the client's own or ours, with tokens that include the cache exactly once."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_tool
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span

import otel_agentperf
from _anthropic_server import WRITTEN, AnthropicServer
from _model_server import CACHED, INPUT, OUTPUT, Refusal, Slow, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("modern",)

NATIVE = hasattr(anthropic, "_tracing")
ASKED: dict[str, Any] = {
    "model": "claude-stub", "max_tokens": 100, "messages": [{"role": "user", "content": "hello secret"}],
}  # fmt: skip
SPAN = "anthropic.messages.create"
TOKENS = {
    "gen_ai.usage.input_tokens": INPUT,
    "gen_ai.usage.output_tokens": OUTPUT,
    "gen_ai.usage.cache_read.input_tokens": CACHED,
}


@pytest.fixture(params=["the client's own", "ours"] if NATIVE else ["ours"])
def spans(request: pytest.FixtureRequest) -> str:
    """Who makes the spans."""
    return str(request.param)


@pytest.fixture
def client(recorded: Recorded, spans: str) -> Iterator[Callable[..., Any]]:
    """Makes clients whose spans reach the recorded provider, or that make none."""
    opened: list[Any] = []

    def make(kind: Any, server: AnthropicServer, **more: Any) -> Any:
        if NATIVE:
            more["open_telemetry"] = {
                "tracer_provider": recorded.provider, "traces": {"enabled": spans == "the client's own"},
            }  # fmt: skip
        made = kind(base_url=server.url, api_key="none", **{"max_retries": 0, **more})
        opened.append(made)
        return made

    yield make
    for one in opened:
        if isinstance(one, Anthropic):
            one.close()


def only(recorded: Recorded) -> dict[str, Any]:
    """The attributes of the only model call, whoever made its span."""
    (span,) = [span for span in recorded.spans if (span.attributes or {}).get("gen_ai.operation.name") == "chat"]
    assert not get_current_span().get_span_context().is_valid
    assert "secret" not in str(dict(span.attributes or {}))
    return dict(span.attributes or {})


def read(stream: Any) -> list[Any]:
    with stream as events:
        return list(events)


async def aread(stream: Any) -> list[Any]:
    async with await stream as events:
        return [event async for event in events]


SYNC: dict[str, Callable[[Any], Any]] = {
    "create": lambda messages: messages.create(**ASKED).content[0].text,
    "raw": lambda messages: messages.with_raw_response.create(**ASKED).parse().content[0].text,
    "create streamed": lambda messages: len(read(messages.create(stream=True, **ASKED))),
    "stream": lambda messages: messages.stream(**ASKED).__enter__().get_final_text(),
}


async def _acreate(messages: Any) -> None:
    await messages.create(**ASKED)


async def _araw(messages: Any) -> None:
    answer = (await messages.with_raw_response.create(**ASKED)).parse()
    await answer if asyncio.iscoroutine(answer) else answer


async def _acreate_streamed(messages: Any) -> None:
    await aread(messages.create(stream=True, **ASKED))


async def _astream(messages: Any) -> None:
    async with messages.stream(**ASKED) as stream:
        await stream.get_final_message()


ASYNC = [_acreate, _araw, _acreate_streamed, _astream]


@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("way", SYNC)
def test_each_way_of_asking(recorded: Recorded, client: Any, spans: str, way: str, beta: bool) -> None:
    with AnthropicServer("two words") as server:
        asking = client(Anthropic, server)
        SYNC[way](asking.beta.messages if beta else asking.messages)
    attributes = only(recorded)
    assert {**attributes, **TOKENS} == attributes
    assert attributes["gen_ai.request.model"] == "claude-stub"
    assert attributes["gen_ai.provider.name"] == "anthropic"
    assert "agentperf.args.hash" in attributes
    assert ("agentperf.result.hash" in attributes) is ("stream" not in way)
    assert ("gen_ai.response.time_to_first_chunk" in attributes) is ("stream" in way)
    assert recorded.report.tokens.cache_read == CACHED
    assert counted(recorded.report, "llm") == {"claude-stub": 1}


@pytest.mark.parametrize("way", ASYNC)
def test_each_way_of_asking_async(recorded: Recorded, client: Any, way: Any) -> None:
    async def go(server: AnthropicServer) -> None:
        async with client(AsyncAnthropic, server) as asking:
            await way(asking.messages)

    with AnthropicServer("two words") as server:
        asyncio.run(go(server))
    attributes = only(recorded)
    assert {**attributes, **TOKENS} == attributes


def test_the_same_question_has_the_same_hash_and_another_has_not(recorded: Recorded, client: Any) -> None:
    with AnthropicServer("one", "one", "two") as server:
        asking = client(Anthropic, server)
        for question in ("a", "a", "b"):
            asking.messages.create(**{**ASKED, "messages": [{"role": "user", "content": question}]})
    first, second, other = [dict(span.attributes or {}) for span in recorded.spans]
    for key in ("agentperf.args.hash", "agentperf.result.hash"):
        assert first[key] == second[key] != other[key]


def test_what_is_no_message_is_none(recorded: Recorded, client: Any) -> None:
    with AnthropicServer() as server:
        client(Anthropic, server).messages.count_tokens(model="claude-stub", messages=ASKED["messages"])
    assert all("gen_ai.operation.name" not in (span.attributes or {}) for span in recorded.spans)
    assert counted(recorded.report, "llm") == {} if recorded.reports else True


# --- streams --------------------------------------------------------------------------------------------


def test_a_stream_that_is_left_early_ends_well(recorded: Recorded, client: Any) -> None:
    with (
        AnthropicServer(Slow("many words that nobody reads", 0.01)) as server,
        client(Anthropic, server).messages.stream(**ASKED) as stream,
    ):
        for text in stream.text_stream:
            assert text
            break
    attributes = only(recorded)
    assert "error.type" not in attributes
    assert attributes["gen_ai.usage.input_tokens"] == INPUT
    assert "gen_ai.usage.output_tokens" not in attributes


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_is_given_out_unread(recorded: Recorded, client: Any, spans: str, streamed: bool) -> None:
    """The client's own span of one that is parsed later has no tokens."""
    with AnthropicServer("two words") as server:
        create = client(Anthropic, server).messages.with_streaming_response.create
        with create(**ASKED, **({"stream": True} if streamed else {})) as response:
            parsed = response.parse()
            assert len(list(parsed)) > 3 if streamed else parsed.content[0].text == "two words"
    attributes = only(recorded)
    if streamed or spans == "ours":
        assert {**attributes, **TOKENS} == attributes


def test_a_stream_that_nobody_reads_or_closes(recorded: Recorded, client: Any) -> None:
    with AnthropicServer("two words") as server:
        stream = client(Anthropic, server).messages.create(stream=True, **ASKED)
        next(iter(stream))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del stream
            gc.collect()
    assert "error.type" not in only(recorded)


def test_nobody_is_inside_a_stream_that_is_read(recorded: Recorded, client: Any) -> None:
    with AnthropicServer("two words") as server:
        for _ in client(Anthropic, server).messages.create(stream=True, **ASKED):
            assert not get_current_span().get_span_context().is_valid
    only(recorded)


# --- failures -------------------------------------------------------------------------------------------


def test_a_refused_request(recorded: Recorded, client: Any) -> None:
    with AnthropicServer(Refusal(400)) as server, pytest.raises(anthropic.BadRequestError):
        client(Anthropic, server).messages.create(**ASKED)
    assert only(recorded)["error.type"] in {"invalid_request_error", "anthropic.BadRequestError"}
    assert recorded.report.errors("llm") == 1


def test_the_clients_own_retries_are_attempts_of_one_call(recorded: Recorded, client: Any, spans: str) -> None:
    answers = (Refusal(429, (("retry-after", "0.01"),)), Refusal(529, (("retry-after", "0.01"),)), "at last")
    with AnthropicServer(*answers) as server:
        client(Anthropic, server, max_retries=2).messages.create(**ASKED)
    call, *attempts = recorded.spans
    assert [dict(span.attributes or {}).get("http.response.status_code") for span in attempts] == [429, 529, None]
    assert {recorded.parent(span) for span in attempts} == {call.name}
    assert all(span.end_time <= call.end_time for span in attempts)
    assert not recorded.report.run.incomplete
    assert counted(recorded.report, "llm") == {"claude-stub": 1}
    assert recorded.report.errors("llm") == 0


def test_async_retries(recorded: Recorded, client: Any) -> None:
    async def go(server: AnthropicServer) -> None:
        async with client(AsyncAnthropic, server, max_retries=1) as asking:
            await asking.messages.create(**ASKED)

    with AnthropicServer(Refusal(500, (("retry-after", "0.01"),)), "at last") as server:
        asyncio.run(go(server))
    assert [recorded.parent(span) for span in recorded.spans[1:]] == [recorded.spans[0].name] * 2


def test_a_cancelled_call(recorded: Recorded, client: Any) -> None:
    async def go(server: AnthropicServer) -> None:
        async with client(AsyncAnthropic, server) as asking:
            task = asyncio.create_task(asking.messages.create(**ASKED))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with AnthropicServer(Slow("late", 1.0)) as server:
        asyncio.run(go(server))
    assert only(recorded)["error.type"] == "CancelledError"


@pytest.mark.parametrize("helper", [False, True])
def test_a_cancelled_stream(recorded: Recorded, client: Any, helper: bool) -> None:
    async def read(messages: Any) -> None:
        if helper:
            async with messages.stream(**ASKED) as stream:
                assert [text async for text in stream.text_stream]
        else:
            assert [event async for event in await messages.create(stream=True, **ASKED)]

    async def go(server: AnthropicServer) -> None:
        async with client(AsyncAnthropic, server) as asking:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(read(asking.messages), 0.3)

    with AnthropicServer(Slow("many words that nobody waits for", 0.1)) as server:
        asyncio.run(go(server))
    assert only(recorded)["error.type"] == "CancelledError"
    assert recorded.spans[0].status.status_code.name == "ERROR"


# --- who makes the spans --------------------------------------------------------------------------------


def test_there_is_one_span_a_call_whoever_makes_it(recorded: Recorded, client: Any, spans: str) -> None:
    with AnthropicServer() as server, otel_agentperf.agent("planner"):
        client(Anthropic, server).messages.create(**ASKED)
        client(Anthropic, server).messages.create(**ASKED)
    name = SPAN if spans == "the client's own" else "chat claude-stub"
    assert [child for root in recorded.tree for child in root[1]] == [name, name]
    assert counted(recorded.report, "llm") == {"claude-stub": 2}


@pytest.mark.skipif(not NATIVE, reason="this version makes no spans")
def test_a_client_whose_spans_go_elsewhere_has_one_of_ours(recorded: Recorded) -> None:
    elsewhere = {"tracer_provider": TracerProvider()}
    with AnthropicServer() as server, Anthropic(base_url=server.url, api_key="-", open_telemetry=elsewhere) as asking:
        asking.messages.create(**ASKED)
    assert [span.name for span in recorded.spans] == ["chat claude-stub"]


def test_content_where_it_is_wanted(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    with AnthropicServer("an answer") as server, Anthropic(base_url=server.url, api_key="none") as asking:
        asking.messages.create(**ASKED)
    (span,) = recorded.spans
    attributes = dict(span.attributes or {})
    assert "hello secret" in str(attributes["gen_ai.input.messages"])
    assert "an answer" in str(attributes["gen_ai.output.messages"])


@pytest.mark.skipif(anthropic.__version__ < "2", reason="this version makes no spans of tools")
def test_the_clients_tool_runner_is_an_agent_with_tools(recorded: Recorded) -> None:
    @beta_tool
    def get_weather(city: str) -> str:
        """The weather."""
        with otel_agentperf.retrieval("almanac"):
            return f"sunny in {city}"

    @beta_tool
    def broken(city: str) -> str:
        """Fails."""
        raise LookupError(city)

    answers = (calls(("get_weather", {"city": "Paris"}), ("broken", {"city": "Rome"})), "done")
    own = {"tracer_provider": recorded.provider}
    with AnthropicServer(*answers) as server, Anthropic(base_url=server.url, api_key="-", open_telemetry=own) as asking:
        runner = asking.beta.messages.tool_runner(tools=[get_weather, broken], **ASKED)
        assert runner.until_done().content[0].text == "done"
    report = recorded.report
    assert counted(report, "tool") == {"get_weather": 1, "broken": 1}
    assert counted(report, "llm") == {"claude-stub": 2}
    assert report.errors("tool") == 1
    weather = next(span for span in recorded.spans if span.name.endswith("get_weather"))
    assert {"agentperf.args.hash", "agentperf.result.hash"} <= (weather.attributes or {}).keys()
    assert recorded.parent(recorded.one("retrieval almanac")) == weather.name


def test_uninstrumented_it_is_what_it_was(recorded: Recorded) -> None:
    otel_agentperf.uninstrument()
    with AnthropicServer() as server, Anthropic(base_url=server.url, api_key="none") as asking:
        asking.messages.create(**ASKED)
    assert recorded.spans == []


PROGRAM = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from _anthropic_server import AnthropicServer
from _model_server import Refusal, calls
import anthropic
from anthropic import Anthropic, AsyncAnthropic
from otel_agentperf import agent, tool

ASKED = dict(model="claude-stub", max_tokens=100)

@tool
def get_weather(city):
    return f"sunny in {{city}}"

@agent
def planner(client):
    messages = [{{"role": "user", "content": "hello"}}]
    while True:
        answer = client.messages.create(messages=messages, **ASKED)
        asked = [block for block in answer.content if block.type == "tool_use"]
        if not asked:
            return answer.content[0].text
        messages.append({{"role": "assistant", "content": answer.content}})
        results = [
            {{"type": "tool_result", "tool_use_id": block.id, "content": get_weather(**block.input)}} for block in asked
        ]
        messages.append({{"role": "user", "content": results}})

@agent
async def reader(client):
    async with client.messages.stream(messages=[{{"role": "user", "content": "go"}}], **ASKED) as stream:
        async for text in stream.text_stream:
            print(text)
    async for event in await client.messages.create(messages=[], stream=True, **ASKED):
        break
    try:
        await client.messages.create(messages=[], **ASKED)
    except anthropic.BadRequestError as error:
        print(type(error).__name__, error.status_code)

async def read(url):
    async with AsyncAnthropic(base_url=url, api_key="none") as client:
        await reader(client)

answers = (calls(("get_weather", {{"city": "Paris"}}), ("get_weather", {{"city": "Rome"}})), "done", "a b", "c d",
           Refusal(400))
with AnthropicServer(*answers) as server:
    print(planner(Anthropic(base_url=server.url, api_key="none")))
    asyncio.run(read(server.url))
"""


def test_a_program_three_ways(tmp_path: Path) -> None:
    told = three_ways(PROGRAM.format(tests=str(Path(__file__).parents[1])), tmp_path)
    assert told.agents == {"planner": 1, "reader": 1}
    assert told.tools == {"get_weather": 2}
    assert told.llm == {"claude-stub": 5}
    assert told.errors == {"claude-stub": 1}
    assert told.tokens["input"] == 4 * INPUT
    assert told.tokens["output"] == 3 * OUTPUT
    assert WRITTEN + CACHED < INPUT
