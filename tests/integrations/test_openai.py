"""The OpenAI client: each call once, with its tokens; streams as long as they are read."""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import wrapt
from openai import (
    APIConnectionError,
    AsyncOpenAI,
    AsyncStream,
    DefaultHttpxClient,
    OpenAI,
    RateLimitError,
    Stream,
    _base_client,
)
from openai.resources.chat.completions import AsyncCompletions, Completions
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from pydantic import BaseModel

from _model_server import CACHED, EMBEDDING_INPUT, INPUT, OUTPUT, ModelServer, Refusal, Slow, calls
from _recorded import Recorded, counted
from otel_agentperf import agent, uninstrument

HELLO: Any = [{"role": "user", "content": "hello secret"}]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer("one two three") as running:
        yield running


@pytest.fixture
def client(server: ModelServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.url, api_key="none", max_retries=0) as opened:
        yield opened


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def the_call(recorded: Recorded) -> ReadableSpan:
    return recorded.one("chat gpt-stub")


def expect_tokens(span: ReadableSpan) -> None:
    told = attributes(span)
    assert told["gen_ai.usage.input_tokens"] == INPUT
    assert told["gen_ai.usage.output_tokens"] == OUTPUT
    assert told["gen_ai.usage.cache_read.input_tokens"] == CACHED


class Answer(BaseModel):
    number: int


def create(client: OpenAI) -> Any:
    return client.chat.completions.create(model="gpt-stub", messages=HELLO)


def respond(client: OpenAI) -> Any:
    return client.responses.create(model="gpt-stub", input=HELLO)


def raw(client: OpenAI) -> Any:
    return client.chat.completions.with_raw_response.create(model="gpt-stub", messages=HELLO).parse()


def raw_respond(client: OpenAI) -> Any:
    return client.responses.with_raw_response.create(model="gpt-stub", input="hello").parse()


@pytest.mark.parametrize("ask", [create, respond, raw, raw_respond])
def test_a_call_and_its_tokens(recorded: Recorded, client: OpenAI, ask: Callable[[OpenAI], Any]) -> None:
    with agent("outer"):
        answer = ask(client)
    assert answer.model == "gpt-stub"
    expect_tokens(the_call(recorded))
    assert attributes(the_call(recorded))["gen_ai.provider.name"] == "openai"
    assert attributes(the_call(recorded))["gen_ai.response.model"] == "gpt-stub"
    assert "secret" not in str(attributes(the_call(recorded)))
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.tokens.input == INPUT


def test_parsed_answers_are_calls_too(recorded: Recorded) -> None:
    served = ModelServer('{"number": 3}', '{"number": 4}')
    with served as server, OpenAI(base_url=server.url, api_key="none") as client:
        first = client.chat.completions.parse(model="gpt-stub", messages=HELLO, response_format=Answer)
        second = client.responses.parse(model="gpt-stub", input="hello", text_format=Answer)
    assert first.choices[0].message.parsed == Answer(number=3)
    assert second.output_parsed == Answer(number=4)
    assert [span.name for span in recorded.spans] == ["chat gpt-stub", "chat gpt-stub"]
    for span in recorded.spans:
        expect_tokens(span)


def test_embeddings(recorded: Recorded, client: OpenAI) -> None:
    with agent("outer"):
        client.embeddings.create(model="embed-stub", input=["a", "b"])
    told = attributes(recorded.one("embeddings embed-stub"))
    assert told["gen_ai.usage.input_tokens"] == EMBEDDING_INPUT
    assert counted(recorded.report, "embedding") == {"embed-stub": 1}
    assert counted(recorded.report, "llm") == {}


def test_the_async_client(recorded: Recorded, server: ModelServer) -> None:
    async def ask() -> None:
        async with AsyncOpenAI(base_url=server.url, api_key="none") as client, agent("outer"):
            await asyncio.gather(
                client.chat.completions.create(model="gpt-stub", messages=HELLO),
                client.responses.create(model="gpt-stub", input="hello"),
                client.chat.completions.with_raw_response.create(model="gpt-stub", messages=HELLO),
            )
            await client.embeddings.create(model="embed-stub", input="a")

    asyncio.run(ask())
    assert counted(recorded.report, "llm") == {"gpt-stub": 3}
    assert counted(recorded.report, "embedding") == {"embed-stub": 1}
    assert recorded.report.tokens.input == 3 * INPUT + EMBEDDING_INPUT


def test_the_same_answer_has_the_same_fingerprint(recorded: Recorded) -> None:
    asked = calls(("search", {"q": "tea"}))
    with ModelServer("yes", "yes", "no", asked) as server, OpenAI(base_url=server.url, api_key="none") as client:
        for _ in range(4):
            create(client)
    hashes = [attributes(span)["agentperf.result.hash"] for span in recorded.spans]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


# --- streams --------------------------------------------------------------------------------------------


def chat_stream(client: OpenAI) -> Stream[Any]:
    return client.chat.completions.create(
        model="gpt-stub", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )


def response_stream(client: OpenAI) -> Stream[Any]:
    return client.responses.create(model="gpt-stub", input="hello", stream=True)


def raw_stream(client: OpenAI) -> Stream[Any]:
    kept = client.chat.completions.with_raw_response.create(
        model="gpt-stub", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    return kept.parse()


STREAMS = pytest.mark.parametrize("ask", [chat_stream, response_stream, raw_stream])


@STREAMS
def test_a_stream_lasts_until_it_has_been_read(
    recorded: Recorded, client: OpenAI, ask: Callable[[OpenAI], Stream[Any]]
) -> None:
    with agent("outer"):
        stream = ask(client)
        assert type(stream) is Stream
        time.sleep(0.05)
        assert recorded.spans == []
        assert len(list(stream)) >= 4
    span = the_call(recorded)
    expect_tokens(span)
    assert (span.end_time or 0) - (span.start_time or 0) >= 50_000_000
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.tokens.input == INPUT


def test_the_time_to_the_first_chunk_is_not_the_whole(recorded: Recorded) -> None:
    with ModelServer(Slow("one two three four", 0.03)) as server, OpenAI(base_url=server.url, api_key="none") as client:
        list(chat_stream(client))
    span = the_call(recorded)
    first = attributes(span)["gen_ai.response.time_to_first_chunk"]
    assert 0.03 <= first < ((span.end_time or 0) - (span.start_time or 0)) / 1e9 - 0.05


def test_without_the_option_a_stream_tells_no_tokens_rather_than_zero(recorded: Recorded, client: OpenAI) -> None:
    list(client.chat.completions.create(model="gpt-stub", messages=HELLO, stream=True))
    assert "gen_ai.usage.input_tokens" not in attributes(the_call(recorded))


@STREAMS
def test_a_stream_that_is_closed_ends_well(
    recorded: Recorded, client: OpenAI, ask: Callable[[OpenAI], Stream[Any]]
) -> None:
    with ask(client) as stream:
        next(stream)
    assert the_call(recorded).status.status_code.name == "UNSET"


@STREAMS
def test_a_stream_that_is_forgotten_ends(
    recorded: Recorded, client: OpenAI, ask: Callable[[OpenAI], Stream[Any]]
) -> None:
    stream = ask(client)
    stream.response.close()
    del stream
    gc.collect()
    assert the_call(recorded).status.status_code.name == "UNSET"


def test_a_loop_that_is_left_ends_when_the_stream_goes(recorded: Recorded, client: OpenAI) -> None:
    def read_one() -> None:
        stream = chat_stream(client)
        for _ in stream:
            break

    gc.disable()
    try:
        with agent("outer"):
            read_one()
    finally:
        gc.enable()
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}


def test_an_async_loop_that_is_left_ends_at_once(recorded: Recorded, server: ModelServer) -> None:
    async def ask() -> None:
        async with AsyncOpenAI(base_url=server.url, api_key="none") as client:
            with agent("outer"):
                async for _ in await client.chat.completions.create(model="gpt-stub", messages=HELLO, stream=True):
                    break

    gc.disable()
    try:
        asyncio.run(ask())
    finally:
        gc.enable()
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}


def test_a_stream_goes_on_where_a_loop_has_left_it(recorded: Recorded, client: OpenAI) -> None:
    stream = chat_stream(client)
    first = next(iter(stream))
    assert first.choices[0].delta.content == "one"
    assert len(list(stream)) > 1
    expect_tokens(the_call(recorded))


def test_async_streams(recorded: Recorded, server: ModelServer) -> None:
    async def ask() -> None:
        async with AsyncOpenAI(base_url=server.url, api_key="none") as client, agent("outer"):
            stream = await client.chat.completions.create(
                model="gpt-stub", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
            assert type(stream) is AsyncStream
            assert [chunk async for chunk in stream]
            events = await client.responses.create(model="gpt-stub", input="hello", stream=True)
            assert [event async for event in events]
            async with await client.chat.completions.create(model="gpt-stub", messages=HELLO, stream=True) as left:
                await left.__anext__()
            async with client.chat.completions.stream(model="gpt-stub", messages=HELLO) as held:
                assert await held.get_final_completion()

    asyncio.run(ask())
    assert counted(recorded.report, "llm") == {"gpt-stub": 4}
    assert recorded.report.tokens.input == 2 * INPUT


def test_a_cancelled_stream_has_the_type_of_its_cancellation(recorded: Recorded) -> None:
    async def ask(server: ModelServer) -> None:
        async with AsyncOpenAI(base_url=server.url, api_key="none") as client:

            async def read() -> None:
                stream = await client.chat.completions.create(model="gpt-stub", messages=HELLO, stream=True)
                async for _ in stream:
                    pass

            task = asyncio.create_task(read())
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with ModelServer(Slow("a b c d e f g h", 0.1)) as server:
        asyncio.run(ask(server))
    assert attributes(the_call(recorded))["error.type"] == "CancelledError"


def test_the_stream_helpers_are_calls_too(recorded: Recorded, client: OpenAI) -> None:
    with agent("outer"):
        with client.chat.completions.stream(model="gpt-stub", messages=HELLO) as stream:
            assert stream.get_final_completion().choices[0].message.content == "one two three"
        with client.responses.stream(model="gpt-stub", input="hello") as events:
            assert events.get_final_response().usage is not None
    assert counted(recorded.report, "llm") == {"gpt-stub": 2}


def test_streaming_responses_are_one_call(recorded: Recorded, client: OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(model="gpt-stub", messages=HELLO) as response:
        assert response.parse().choices[0].message.content == "one two three"
    assert the_call(recorded).status.status_code.name == "UNSET"


# --- failures -------------------------------------------------------------------------------------------


def test_a_refused_call(recorded: Recorded) -> None:
    refused = pytest.raises(RateLimitError)
    with (
        ModelServer(Refusal(429)) as server,
        OpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
        refused,
    ):
        create(client)
    assert attributes(the_call(recorded))["error.type"] == "openai.RateLimitError"


def test_a_server_that_is_not_there(recorded: Recorded) -> None:
    with (
        OpenAI(base_url="http://127.0.0.1:1/v1", api_key="none", max_retries=0) as client,
        pytest.raises(APIConnectionError),
    ):
        chat_stream(client)
    assert attributes(the_call(recorded))["error.type"] == "openai.APIConnectionError"


def test_a_broken_stream(recorded: Recorded, client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = chat_stream(client)
    monkeypatch.setattr(client, "_process_response_data", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(stream)
    assert attributes(the_call(recorded))["error.type"] == "ZeroDivisionError"


def test_wrong_arguments_are_the_librarys_to_refuse(recorded: Recorded, client: OpenAI) -> None:
    with pytest.raises(TypeError, match="Missing required arguments"):
        client.chat.completions.create()  # type: ignore[call-overload]


def test_a_raw_answer_that_does_not_parse_is_raised_where_it_was(recorded: Recorded) -> None:
    with ModelServer("no json") as server, OpenAI(base_url=server.url, api_key="none") as client:
        kept = client.chat.completions.with_raw_response.parse(model="gpt-stub", messages=HELLO, response_format=Answer)
        with pytest.raises(ValueError, match=r"number|JSON|json"):
            kept.parse()
    assert the_call(recorded).status.status_code.name == "UNSET"


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://somewhere.openai.azure.com/v1", "azure.ai.openai"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.x.ai/v1", "x_ai"),
        ("https://notx.ai/v1", "openai"),
        ("http://localhost:11434/v1", "openai"),
    ],
)
def test_the_provider_is_who_is_asked(recorded: Recorded, url: str, provider: str) -> None:
    from otel_agentperf.integrations.openai import _provider

    with OpenAI(base_url=url, api_key="none") as client:
        assert _provider(client.chat.completions) == provider


def test_suppressed_means_untraced(recorded: Recorded, client: OpenAI) -> None:
    with suppress_instrumentation():
        create(client)
        list(chat_stream(client))
    assert recorded.spans == []


def test_a_stream_outlives_uninstrumenting(recorded: Recorded, client: OpenAI) -> None:
    stream = chat_stream(client)
    uninstrument()
    assert len(list(stream)) >= 4
    create(client)
    assert len(recorded.named("chat gpt-stub")) == 1


def test_the_methods_look_like_themselves(recorded: Recorded) -> None:
    plain = inspect.unwrap(Completions.create)
    assert inspect.signature(Completions.create) == inspect.signature(plain)
    assert AsyncCompletions.create.__qualname__ == "AsyncCompletions.create"


# --- the client's own retries ---------------------------------------------------------------------------

WAIT_S = 0.3
REFUSED = Refusal(429, (("retry-after-ms", str(int(WAIT_S * 1000))),))


async def _async_create(client: AsyncOpenAI) -> Any:
    return await client.chat.completions.create(model="gpt-stub", messages=HELLO)


async def _async_stream(client: AsyncOpenAI) -> Any:
    stream: Any = await client.chat.completions.create(model="gpt-stub", messages=HELLO, stream=True)
    return [chunk async for chunk in stream]


def _in_a_loop(ask: Callable[[AsyncOpenAI], Any]) -> Callable[[OpenAI], Any]:
    def run(client: OpenAI) -> Any:
        async def go() -> Any:
            async with AsyncOpenAI(base_url=client.base_url, api_key="none", max_retries=client.max_retries) as opened:
                return await ask(opened)

        return asyncio.run(go())

    return run


def _whole_stream(client: OpenAI) -> Any:
    return list(chat_stream(client))


every_way = pytest.mark.parametrize(
    "ask",
    [create, respond, raw, _whole_stream, _in_a_loop(_async_create), _in_a_loop(_async_stream)],
    ids=["create", "respond", "raw", "stream", "async", "async stream"],
)


def attempts(recorded: Recorded) -> list[ReadableSpan]:
    return [span for span in recorded.spans if "http.request.method" in attributes(span)]


def between_s(earlier: ReadableSpan, later: ReadableSpan) -> float:
    assert earlier.end_time is not None
    assert later.start_time is not None
    return (later.start_time - earlier.end_time) / 1e9


@every_way
def test_the_attempts_of_a_refused_call_are_below_it(recorded: Recorded, ask: Callable[[OpenAI], Any]) -> None:
    with (
        ModelServer(REFUSED, REFUSED, "fine") as server,
        OpenAI(base_url=server.url, api_key="none", max_retries=2) as client,
        agent("outer"),
    ):
        ask(client)
    first, second, last = attempts(recorded)
    assert {recorded.parent(span) for span in attempts(recorded)} == {"chat gpt-stub"}
    assert [attributes(span).get("error.type") for span in attempts(recorded)] == ["429", "429", None]
    assert [attributes(span).get("http.request.resend_count") for span in attempts(recorded)] == [None, 1, 2]
    assert attributes(first)["http.response.status_code"] == 429
    assert attributes(first)["http.response.header.retry-after-ms"] == ("300",)
    assert first.status.status_code.name == "ERROR"
    assert last.status.status_code.name == "UNSET"
    assert between_s(first, second) == pytest.approx(WAIT_S, abs=0.1)
    assert between_s(second, last) == pytest.approx(WAIT_S, abs=0.1)
    (found,) = recorded.report.findings
    assert (found.kind, found.operation) == ("rate_limited", "gpt-stub")
    assert found.saving_s == pytest.approx(2 * WAIT_S, abs=0.15)


@every_way
def test_a_call_that_is_not_tried_again_has_no_attempts(recorded: Recorded, ask: Callable[[OpenAI], Any]) -> None:
    with ModelServer("fine") as server, OpenAI(base_url=server.url, api_key="none") as client, agent("outer"):
        ask(client)
    assert recorded.tree == [("invoke_agent outer", ["chat gpt-stub"])]


@every_way
def test_the_last_refusal_is_the_callers(recorded: Recorded, ask: Callable[[OpenAI], Any]) -> None:
    with (
        ModelServer(REFUSED, REFUSED) as server,
        OpenAI(base_url=server.url, api_key="none", max_retries=1) as client,
        pytest.raises(RateLimitError) as raised,
    ):
        ask(client)
    assert raised.value.__cause__ is None
    assert [attributes(span)["error.type"] for span in attempts(recorded)] == ["429", "429"]
    assert attributes(the_call(recorded))["error.type"] == "openai.RateLimitError"


def test_errors_of_the_service_are_a_storm(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAI, "_calculate_retry_timeout", lambda *_, **__: 0.1)
    with (
        ModelServer(*[Refusal(500)] * 3, "fine") as server,
        OpenAI(base_url=server.url, api_key="none", max_retries=3) as client,
        agent("outer"),
    ):
        create(client)
    (found,) = recorded.report.findings
    assert found.kind == "retry_storm"
    assert not found.operation.startswith("http"), "the model is what one would search for"
    assert found.calls == 4
    assert found.saving_s == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("ask", [create, _in_a_loop(_async_create)], ids=["sync", "async"])
def test_a_server_that_cannot_be_reached_is_tried_again(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, ask: Callable[[OpenAI], Any]
) -> None:
    for client_class in (OpenAI, AsyncOpenAI):
        monkeypatch.setattr(client_class, "_calculate_retry_timeout", lambda *_, **__: 0.05)
    with (
        OpenAI(base_url="http://127.0.0.1:1/v1", api_key="none", max_retries=1) as client,
        pytest.raises(APIConnectionError) as raised,
    ):
        ask(client)
    told = [attributes(span) for span in attempts(recorded)]
    assert [one["error.type"].rpartition(".")[2] for one in told] == ["ConnectError", "ConnectError"]
    assert [one["url.full"] for one in told] == ["http://127.0.0.1:1/v1/chat/completions"] * 2
    assert type(raised.value.__cause__).__name__ == "ConnectError"


def test_a_timeout_is_an_attempt(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAI, "_calculate_retry_timeout", lambda *_, **__: 0.05)
    with (
        ModelServer(Slow("late", 0.4), "fine") as server,
        OpenAI(base_url=server.url, api_key="none", max_retries=1, timeout=0.2) as client,
    ):
        create(client)
    slow, last = attempts(recorded)
    assert attributes(slow)["error.type"].endswith("ReadTimeout")
    assert "error.type" not in attributes(last)


def test_a_call_cancelled_while_it_waits_made_no_further_attempt(recorded: Recorded) -> None:
    async def ask(url: str) -> None:
        async with AsyncOpenAI(base_url=url, api_key="none") as client:
            task = asyncio.create_task(_async_create(client))
            while not attempts(recorded):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with ModelServer(REFUSED) as server:
        asyncio.run(ask(server.url))
    assert [attributes(span)["error.type"] for span in attempts(recorded)] == ["429"]
    assert attributes(the_call(recorded))["error.type"] == "CancelledError"


def test_calls_at_once_through_one_client_keep_their_attempts_apart(recorded: Recorded) -> None:
    async def ask(url: str) -> None:
        async with AsyncOpenAI(base_url=url, api_key="none") as client, agent("outer"):
            await asyncio.gather(*(_async_create(client) for _ in range(6)))

    with ModelServer(*[REFUSED] * 3) as server:
        asyncio.run(ask(server.url))
    below = [span.parent.span_id for span in attempts(recorded) if span.parent is not None]
    assert len(below) == 6
    assert {below.count(parent) for parent in below} == {2}


def test_threads_that_share_a_client_keep_their_attempts_apart(recorded: Recorded) -> None:
    with (
        ModelServer(*[REFUSED] * 2) as server,
        OpenAI(base_url=server.url, api_key="none") as client,
        ThreadPoolExecutor(4) as pool,
    ):
        list(pool.map(lambda _: create(client), range(4)))
    below = [span.parent.span_id for span in attempts(recorded) if span.parent is not None]
    assert len(below) == 4
    assert {below.count(parent) for parent in below} == {2}


def test_no_credentials_and_no_query_in_the_attempts(recorded: Recorded) -> None:
    with ModelServer(REFUSED) as server:
        url = server.url.replace("http://", "http://user:password@")
        with OpenAI(base_url=url, api_key="none", default_query={"key": "secret"}) as client:
            create(client)
    assert {attributes(span)["url.full"] for span in attempts(recorded)} == {f"{server.url}/chat/completions"}
    assert not any("secret" in str(attributes(span)) or "password" in str(attributes(span)) for span in recorded.spans)


def test_calls_that_have_no_span_show_their_attempts_below_the_agent(recorded: Recorded) -> None:
    with ModelServer(REFUSED) as server, OpenAI(base_url=server.url, api_key="none") as client, agent("outer"):
        client.moderations.create(model="gpt-stub", input="hello")
    assert recorded.tree == [("invoke_agent outer", ["POST", "POST"])]


def test_attempts_are_never_traces_of_their_own(recorded: Recorded) -> None:
    with ModelServer(REFUSED) as server, OpenAI(base_url=server.url, api_key="none") as client:
        client.moderations.create(model="gpt-stub", input="hello")
    assert recorded.spans == []


def test_suppressed_attempts_are_untraced(recorded: Recorded) -> None:
    with (
        ModelServer(REFUSED) as server,
        OpenAI(base_url=server.url, api_key="none") as client,
        agent("outer"),
        suppress_instrumentation(),
    ):
        create(client)
    assert recorded.tree == ["invoke_agent outer"]


def test_attempts_that_an_http_instrumentation_shows_are_not_shown_twice(recorded: Recorded) -> None:
    tracer = recorded.provider.get_tracer("http")

    def traced_request(wrapped: Any, transport: Any, args: Any, kwargs: Any) -> Any:
        with tracer.start_as_current_span("GET by others"):
            return wrapped(*args, **kwargs)

    with ModelServer(REFUSED) as server, OpenAI(base_url=server.url, api_key="none") as client:
        transport: Any = client._client._transport
        transport.handle_request = wrapt.FunctionWrapper(transport.handle_request, traced_request)
        create(client)
    assert recorded.tree == [("chat gpt-stub", ["GET by others", "GET by others"])]


def test_a_request_that_carries_another_spans_id_is_shown_by_others(recorded: Recorded) -> None:
    def mark(request: Any) -> None:
        request.headers["traceparent"] = f"00-{1:032x}-{2:016x}-01"

    http = DefaultHttpxClient(event_hooks={"request": [mark]})
    with ModelServer(REFUSED) as server, OpenAI(base_url=server.url, api_key="none", http_client=http) as client:
        create(client)
    assert recorded.tree == ["chat gpt-stub"]


def test_a_client_that_waits_elsewhere_is_traced_without_attempts(
    instrumented: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = _base_client.SyncAPIClient._sleep_for_retry
    monkeypatch.delattr(_base_client.SyncAPIClient, "_sleep_for_retry")
    recorded = instrumented()
    monkeypatch.setattr(OpenAI, "_sleep_for_retry", wait, raising=False)
    with ModelServer(REFUSED) as server, OpenAI(base_url=server.url, api_key="none") as client:
        create(client)
    assert recorded.tree == ["chat gpt-stub"]


def test_the_clients_methods_look_like_themselves(recorded: Recorded) -> None:
    for kind in (OpenAI, AsyncOpenAI):
        for method in (kind.request, kind._sleep_for_retry):
            assert inspect.signature(method) == inspect.signature(inspect.unwrap(method))
            assert inspect.iscoroutinefunction(method) == (kind is AsyncOpenAI)
