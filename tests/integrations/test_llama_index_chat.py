"""LlamaIndex's chat engines: a streamed answer is one run, which ends when it has been read."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.llms.openai import OpenAI
from openai import BadRequestError
from opentelemetry.trace import get_current_span

from _model_server import INPUT, OUTPUT, ModelServer, Refusal
from _recorded import Recorded, counted

ENVIRONMENTS = ("openai2",)
REQUIRES = ("llama-index-core>=0.14,<0.15", "llama-index-llms-openai>=0.8,<0.9", "openai>=2,<3")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # clients, left open
]

MODEL = "gpt-4o-mini"
USAGE = {"stream_options": {"include_usage": True}}


@pytest.fixture(autouse=True)
def _left_open() -> Iterator[None]:
    """What the library leaves open is collected while its warnings are ignored."""
    yield
    gc.collect()


def model(server: ModelServer) -> OpenAI:
    return OpenAI(model=MODEL, api_base=server.url, api_key="none", additional_kwargs=USAGE, max_retries=0)


def engine_for(server: ModelServer) -> Any:
    index = VectorStoreIndex.from_documents([Document(text="secret")], embed_model=MockEmbedding(embed_dim=2))
    return index.as_chat_engine(chat_mode="context", llm=model(server))


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
def test_a_chat_engine_that_streams_is_one_run(recorded: Recorded, is_async: bool, is_whole: bool) -> None:
    with ModelServer("one two three") as server:
        _streams(recorded, engine_for(server), is_async, is_whole)


def _streams(recorded: Recorded, engine: Any, is_async: bool, is_whole: bool) -> None:
    recorded.forget()

    async def main() -> None:
        words = (await engine.astream_chat("hi")).async_response_gen()
        async for _ in words:
            if not is_whole:
                break
        await words.aclose()

    if is_async:
        asyncio.run(main())
    else:
        for _ in (words := engine.stream_chat("hi").response_gen):
            if not is_whole:
                break
        words.close()
    assert recorded.report.root.name == "invoke_workflow ContextChatEngine"
    assert recorded.traces == 1
    assert counted(recorded.report, "llm") == {MODEL: 1}
    assert counted(recorded.report, "retrieval") == {"VectorIndexRetriever": 1}
    assert (recorded.report.tokens.input, recorded.report.tokens.output) == (INPUT, OUTPUT)
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it raises in its thread, too
def test_a_chat_engine_whose_stream_fails(recorded: Recorded) -> None:
    with ModelServer(Refusal(400)) as server, pytest.raises(BadRequestError):
        list(SimpleChatEngine.from_defaults(llm=model(server)).stream_chat("hi").response_gen)
    assert recorded.report.root.name == "invoke_workflow SimpleChatEngine"
    assert recorded.report.root.error == "openai.BadRequestError"
