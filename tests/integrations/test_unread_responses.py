"""The OpenAI client's `with_streaming_response`: the call lasts until its answer has been parsed or closed."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI, RateLimitError
from openai._response import APIResponse, AsyncAPIResponse
from opentelemetry.sdk.trace import ReadableSpan

from _model_server import INPUT, OUTPUT, Handler, ModelServer, Refusal, Slow
from _recorded import Recorded
from otel_agentperf import agent, uninstrument

HELLO: Any = [{"role": "user", "content": "hello"}]
ASKED: dict[str, Any] = {"model": "gpt-stub", "messages": HELLO}
STREAMED: dict[str, Any] = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(Slow("one two three", 0.02)) as running:
        yield running


@pytest.fixture
def client(server: ModelServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.url, api_key="none", max_retries=0) as opened:
        yield opened


def told(recorded: Recorded) -> tuple[ReadableSpan, dict[str, Any]]:
    span = recorded.one("chat gpt-stub")
    return span, dict(span.attributes or {})


def seconds(span: ReadableSpan) -> float:
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def open_chat(client: OpenAI, **asked: Any) -> Any:
    return client.chat.completions.with_streaming_response.create(**asked)


def test_a_parsed_answer_tells_its_tokens(recorded: Recorded, client: OpenAI) -> None:
    with open_chat(client, **ASKED) as response:
        assert type(response) is APIResponse
        assert recorded.exporter.get_finished_spans() == ()
        answer = response.parse()
        assert answer is response.parse()
        assert answer.choices[0].message.content == "one two three"
    span, attributes = told(recorded)
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (INPUT, OUTPUT)
    assert span.status.status_code.name == "UNSET"


def test_a_stream_lasts_until_it_has_been_read(recorded: Recorded, client: OpenAI) -> None:
    with agent("outer"), open_chat(client, **STREAMED) as response:
        assert len(list(response.parse())) == 5
    span, attributes = told(recorded)
    assert seconds(span) >= 0.08
    assert attributes["gen_ai.usage.output_tokens"] == OUTPUT
    assert attributes["gen_ai.response.time_to_first_chunk"] < 0.08
    assert not recorded.report.run.incomplete


def test_an_answer_read_as_bytes_lasts_until_it_is_closed(recorded: Recorded, client: OpenAI) -> None:
    with open_chat(client, **STREAMED) as response:
        assert b"three" in b"".join(response.iter_bytes())
        assert recorded.exporter.get_finished_spans() == ()
    assert seconds(told(recorded)[0]) >= 0.08


@pytest.mark.parametrize("parsed", [False, True])
def test_one_that_is_left_early_ended_well(recorded: Recorded, client: OpenAI, parsed: bool) -> None:
    with agent("outer"), open_chat(client, **STREAMED) as response:
        for _ in response.parse() if parsed else response.iter_lines():
            break
    assert told(recorded)[0].status.status_code.name == "UNSET"
    assert not recorded.report.run.incomplete


def test_one_that_is_forgotten(recorded: Recorded, client: OpenAI) -> None:
    response = open_chat(client, **ASKED).__enter__()
    response.http_response.close()
    del response
    gc.collect()
    assert told(recorded)[0].status.status_code.name == "UNSET"


def test_parsed_on_another_thread(recorded: Recorded, client: OpenAI) -> None:
    with agent("outer"), open_chat(client, **STREAMED) as response, ThreadPoolExecutor() as pool:
        assert pool.submit(lambda: len(list(response.parse()))).result() == 5
    span, attributes = told(recorded)
    assert span.parent is not None
    assert attributes["gen_ai.usage.output_tokens"] == OUTPUT


def test_what_cannot_be_parsed_has_failed(recorded: Recorded) -> None:
    class Html(Handler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

    class HtmlServer(ModelServer):
        handler = Html

    with (
        HtmlServer() as server,
        OpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
        open_chat(client, **ASKED) as response,
        pytest.raises(json.JSONDecodeError),
    ):
        response.parse()
    assert told(recorded)[1]["error.type"] == "json.decoder.JSONDecodeError"


def test_async(recorded: Recorded) -> None:
    async def ask(url: str) -> None:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            create = client.responses.with_streaming_response.create
            with agent("outer"):
                async with create(model="gpt-stub", input="hello") as response:
                    assert type(response) is AsyncAPIResponse
                    assert (await response.parse()).output_text == "one two"
                async with create(model="gpt-stub", input="hello", stream=True) as response:
                    assert len([event async for event in await response.parse()]) > 5
                async with create(model="gpt-stub", input="hello", stream=True) as response:
                    async for _ in await response.parse():
                        break
                with pytest.raises(RateLimitError):
                    await create(model="gpt-stub", input="hello").__aenter__()

    with ModelServer("one two", Slow("one two", 0.02), Slow("one two", 0.02), Refusal(429)) as server:
        asyncio.run(ask(server.url))
    calls = recorded.named("chat gpt-stub")
    given = [dict(call.attributes or {}) for call in sorted(calls, key=lambda call: call.start_time or 0)]
    assert [one.get("gen_ai.usage.output_tokens") for one in given] == [OUTPUT, OUTPUT, None, None]
    assert [one.get("error.type") for one in given] == [None, None, None, "openai.RateLimitError"]
    assert not recorded.report.run.incomplete


def test_taken_back_in_between(instrumented: Callable[..., Recorded], client: OpenAI) -> None:
    original = APIResponse.parse
    recorded = instrumented()
    held: list[Any] = [None]
    try:
        with open_chat(client, **ASKED) as held[0]:
            uninstrument()
            assert APIResponse.parse is original
            assert held[0].parse().choices[0].message.content == "one two three"
    finally:
        held.clear()
    assert told(recorded)[0].status.status_code.name == "UNSET"


def test_a_response_that_failed_is_a_failed_call(recorded: Recorded) -> None:
    """The API answers 200, and says so inside."""

    class Failing(Handler):
        def send_json(self, body: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> None:
            error = {"code": "server_error", "message": "secret"}
            super().send_json({**body, "status": "failed", "error": error}, status, headers)

    class FailingServer(ModelServer):
        handler = Failing

    with FailingServer("one") as server, OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        assert client.responses.create(model="gpt-stub", input="hello").status == "failed"
    attributes = told(recorded)[1]
    assert attributes["error.type"] == "server_error"
    assert attributes["gen_ai.usage.output_tokens"] == OUTPUT
