"""The google-genai client against a local server: one span a request, its tokens, and the functions it calls."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import get_current_span

import otel_agentperf
from _gemini_server import CACHED, INPUT, OUTPUT, THOUGHTS, VERSION, GeminiServer
from _model_server import Refusal, Slow, calls
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("adk", "modern")

pytestmark = [
    # Where aiohttp is installed, the client uses it for async calls.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

MODEL = "gemini-2.5-flash"
ASKED = calls(("get_weather", {"city": "Paris"}), ("get_time", {"city": "Rome"}))


def get_weather(city: str) -> str:
    """The weather."""
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


def get_time(city: str) -> str:
    """The time."""
    raise LookupError(city)


async def get_news(city: str) -> str:
    """The news."""
    with otel_agentperf.retrieval("press"):
        await asyncio.sleep(0.01)
        return f"none from {city}"


_clients: list[genai.Client] = []
"""A client that nobody holds closes itself, even while one of its chats is in use."""


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _clients:
        _clients.pop().close()
    gc.collect()  # what the async ones leave open is told here, where it is ignored


def client(server: GeminiServer) -> genai.Client:
    _clients.append(genai.Client(api_key="test", http_options=types.HttpOptions(base_url=server.url)))
    return _clients[-1]


def sync_whole(server: GeminiServer) -> None:
    client(server).models.generate_content(model=MODEL, contents="secret question")


def sync_streamed(server: GeminiServer) -> None:
    for _ in client(server).models.generate_content_stream(model=MODEL, contents="secret question"):
        assert not get_current_span().get_span_context().is_valid


def async_whole(server: GeminiServer) -> None:
    asyncio.run(client(server).aio.models.generate_content(model=MODEL, contents="secret question"))


def async_streamed(server: GeminiServer) -> None:
    async def read() -> None:
        async for _ in await client(server).aio.models.generate_content_stream(model=MODEL, contents="secret question"):
            assert not get_current_span().get_span_context().is_valid

    asyncio.run(read())


every_way = pytest.mark.parametrize("way", [sync_whole, sync_streamed, async_whole, async_streamed])


@every_way
def test_a_model_call(recorded: Recorded, way: Any) -> None:
    with GeminiServer("it is a secret answer") as server:
        way(server)
    (span,) = recorded.spans
    attributes = dict(span.attributes or {})
    assert span.name == f"chat {MODEL}"
    assert attributes["gen_ai.request.model"] == MODEL
    assert attributes["gen_ai.response.model"] == MODEL + VERSION
    assert attributes["gen_ai.provider.name"] == "gcp.gemini"
    assert attributes["gen_ai.usage.input_tokens"] == INPUT
    assert attributes["gen_ai.usage.output_tokens"] == OUTPUT + THOUGHTS
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == CACHED
    assert ("gen_ai.response.time_to_first_chunk" in attributes) is ("streamed" in way.__name__)
    assert "agentperf.args.hash" in attributes
    assert "secret" not in str(attributes)


@every_way
def test_a_refusal(recorded: Recorded, way: Any) -> None:
    with GeminiServer(Refusal(429)) as server, pytest.raises(errors.ClientError):
        way(server)
    (span,) = recorded.spans
    assert span.attributes is not None
    assert span.attributes["error.type"] == "google.genai.errors.ClientError"
    assert span.attributes["http.response.status_code"] == 429
    assert not span.status.is_ok


def test_content_where_the_user_wants_it(instrumented: Any) -> None:
    recorded = instrumented(content=True)
    with GeminiServer("the answer") as server:
        sync_whole(server)
    attributes = str(dict(recorded.spans[0].attributes))
    assert "secret question" in attributes
    assert "the answer" in attributes


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("chat", [False, True])
def test_functions_are_tools(recorded: Recorded, streamed: bool, chat: bool) -> None:
    config = types.GenerateContentConfig(tools=[get_weather, get_time])
    with GeminiServer(ASKED, "done") as server:
        models = client(server).models
        if chat:
            session = client(server).chats.create(model=MODEL, config=config)
            list(session.send_message_stream("hi")) if streamed else session.send_message("hi")
        elif streamed:
            list(models.generate_content_stream(model=MODEL, contents="hi", config=config))
        else:
            models.generate_content(model=MODEL, contents="hi", config=config)
    expect_a_loop(recorded, {"get_weather": 1, "get_time": 1})


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("chat", [False, True])
def test_async_functions_and_functions_in_threads(recorded: Recorded, streamed: bool, chat: bool) -> None:
    asked = calls(("get_news", {"city": "Paris"}), ("get_weather", {"city": "Rome"}), ("get_time", {"city": "Rome"}))
    config: Any = {"tools": [get_weather, get_time, get_news]}

    async def run(server: GeminiServer) -> None:
        aio = client(server).aio
        if chat:
            session = aio.chats.create(model=MODEL, config=config)
            if streamed:
                async for _ in await session.send_message_stream("hi"):
                    assert not get_current_span().get_span_context().is_valid
            else:
                await session.send_message("hi")
        elif streamed:
            async for _ in await aio.models.generate_content_stream(model=MODEL, contents="hi", config=config):
                assert not get_current_span().get_span_context().is_valid
        else:
            await aio.models.generate_content(model=MODEL, contents="hi", config=config)

    with GeminiServer(asked, "done") as server:
        asyncio.run(run(server))
    expect_a_loop(recorded, {"get_weather": 1, "get_time": 1, "get_news": 1})
    assert recorded.parent(recorded.one("retrieval press")) == "execute_tool get_news"


def expect_a_loop(recorded: Recorded, tools: dict[str, int]) -> None:
    report = recorded.report
    assert recorded.traces == 1
    assert report.root.name == f"automatic function calling {MODEL}"
    assert counted(report, "tool") == tools
    assert counted(report, "llm") == {MODEL: 2}
    assert (report.tokens.input, report.tokens.output) == (2 * INPUT, 2 * (OUTPUT + THOUGHTS))
    assert report.errors("tool") == 1
    tool = recorded.one("execute_tool get_weather").attributes
    assert {"agentperf.args.hash", "agentperf.result.hash"} <= set(tool or ())
    assert dict(recorded.one("execute_tool get_time").attributes or {})["error.type"] == "LookupError"
    assert recorded.parent(recorded.one("retrieval almanac")) == "execute_tool get_weather"


def test_functions_that_the_client_may_not_call_make_no_loop(recorded: Recorded) -> None:
    off = types.AutomaticFunctionCallingConfig(disable=True)
    config = types.GenerateContentConfig(tools=[get_weather], automatic_function_calling=off)
    with GeminiServer(ASKED) as server:
        client(server).models.generate_content(model=MODEL, contents="hi", config=config)
    assert recorded.tree == [f"chat {MODEL}"]


def test_embeddings(recorded: Recorded) -> None:
    with GeminiServer() as server:
        api = client(server)
        api.models.embed_content(model="gemini-embedding-001", contents=["a", "b"])
        asyncio.run(api.aio.models.embed_content(model="gemini-embedding-001", contents="c"))
    assert [span.name for span in recorded.spans] == ["embeddings gemini-embedding-001"] * 2


def test_streams_that_are_left_early_end_well(recorded: Recorded) -> None:
    words = Slow("one two three four", 0.02)

    async def read(server: GeminiServer) -> None:
        async for _ in await client(server).aio.models.generate_content_stream(model=MODEL, contents="hi"):
            break
        await asyncio.sleep(0.05)
        with otel_agentperf.tool("afterwards"):
            pass

    with GeminiServer(words, words) as server:
        stream = client(server).models.generate_content_stream(model=MODEL, contents="hi")
        next(stream)
        stream.close()
        asyncio.run(read(server))
    assert recorded.tree == [f"chat {MODEL}", f"chat {MODEL}", "execute_tool afterwards"]
    assert all(span.status.is_unset for span in recorded.spans)


def test_a_cancelled_call(recorded: Recorded) -> None:
    async def run(server: GeminiServer) -> None:
        call = asyncio.create_task(client(server).aio.models.generate_content(model=MODEL, contents="hi"))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    with GeminiServer(Slow("late", 0.5)) as server:
        asyncio.run(run(server))
    assert dict(recorded.spans[0].attributes or {})["error.type"] == "CancelledError"


def test_many_at_once_in_threads(recorded: Recorded) -> None:
    with GeminiServer() as server:
        threads = [threading.Thread(target=sync_whole, args=(server,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(recorded.named(f"chat {MODEL}")) == 8


def test_suppressed_and_switched_off(recorded: Recorded) -> None:
    config: Any = {"tools": [get_weather, get_time]}
    with GeminiServer(ASKED) as server:
        with suppress_instrumentation():
            client(server).models.generate_content(model=MODEL, contents="hi", config=config)
        otel_agentperf.uninstrument()
        sync_whole(server)
        sync_streamed(server)
    assert [span.name for span in recorded.spans] == []


PROGRAM = """
import asyncio, os, sys
sys.path.insert(0, {tests!r})
from _gemini_server import GeminiServer
from _model_server import Refusal, calls
from google import genai
from google.genai import errors
from otel_agentperf import agent

def search(query: str) -> list[str]:
    "Search the web."
    return [f"{{query}} is fine", "really"]

def charge(amount: float) -> str:
    "Charge the card."
    raise ValueError("declined")

@agent
def assistant(server):
    client = genai.Client(api_key="test", http_options={{"base_url": server.url}})
    chat = client.chats.create(model="gemini-2.5-pro", config={{"tools": [search, charge]}})
    print(chat.send_message("find it").text)
    for chunk in client.models.generate_content_stream(model="gemini-2.5-flash", contents="sum up"):
        print(chunk.text, end="|")
    try:
        asyncio.run(client.aio.models.generate_content(model="gemini-2.5-flash", contents="again"))
    except errors.ClientError as error:
        print(error.code)

answers = calls(("search", {{"query": "otel"}}), ("charge", {{"amount": 3}})), "found it", "a b c", Refusal(429)
with GeminiServer(*answers) as server:
    assistant(server)
"""


def test_a_program(tmp_path: Path) -> None:
    told = three_ways(PROGRAM.format(tests=str(Path(__file__).parents[1])), tmp_path)
    assert told.agents == {"assistant": 1}
    assert told.tools == {"search": 1, "charge": 1}
    assert told.llm == {"gemini-2.5-pro": 2, "gemini-2.5-flash": 2}
    assert told.errors == {"charge": 1, "gemini-2.5-flash": 1}
    assert told.tokens["input"] == 3 * INPUT
    assert told.tokens["output"] == 3 * (OUTPUT + THOUGHTS)
