"""LlamaIndex's engines and pipelines: a streamed answer is one run, which ends when it has been read."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llama_index.llms.openai import OpenAI
from openai import BadRequestError
from opentelemetry.trace import get_current_span

import otel_agentperf
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


def index() -> VectorStoreIndex:
    return VectorStoreIndex.from_documents([Document(text="secret")], embed_model=MockEmbedding(embed_dim=2))


def engine_for(server: ModelServer) -> Any:
    return index().as_chat_engine(chat_mode="context", llm=model(server))


def query_engine_for(server: ModelServer) -> Any:
    return index().as_query_engine(llm=model(server), streaming=True)


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


class Asking(Workflow):
    """As in the library's documentation: the result is an answer that streams."""

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self.engine = engine

    @step
    async def ask(self, event: StartEvent) -> StopEvent:
        return StopEvent(result=await self.engine.aquery("hi"))


async def asked(engine: Any) -> Any:
    return await engine.aquery("hi")


async def asked_by_a_workflow(engine: Any) -> Any:
    return await Asking(engine).run()


@pytest.mark.parametrize(("ask", "root"), [(asked, "RetrieverQueryEngine"), (asked_by_a_workflow, "Asking")])
def test_an_answer_that_streams_is_read_by_nobody_but_the_program(recorded: Recorded, ask: Any, root: str) -> None:
    async def main(server: ModelServer) -> None:
        answer = await ask(engine)
        assert server.requests == []
        assert [word async for word in answer.async_response_gen() if word] == ["one", " two", " three"]

    with ModelServer("one two three") as server:
        engine = query_engine_for(server)
        recorded.forget()
        asyncio.run(main(server))
    assert recorded.report.root.name == f"invoke_workflow {root}"
    assert recorded.traces == 1
    assert counted(recorded.report, "llm") == {MODEL: 1}
    assert (recorded.report.tokens.input, recorded.report.tokens.output) == (INPUT, OUTPUT)


@pytest.mark.parametrize("is_async", [True, False])
def test_an_answer_that_nobody_reads(recorded: Recorded, is_async: bool) -> None:
    with ModelServer() as server:
        engine = query_engine_for(server)
        recorded.forget()
        answer = asyncio.run(engine.aquery("hi")) if is_async else engine.query("hi")
        assert not recorded.reports
        del answer
        gc.collect()
    assert recorded.report.root.name == "invoke_workflow RetrieverQueryEngine"
    assert counted(recorded.report, "llm") == {}


def test_an_answer_left_early(recorded: Recorded) -> None:
    with ModelServer("one two three") as server:
        engine = query_engine_for(server)
        recorded.forget()
        for word in engine.query("hi").response_gen:
            assert word == "one"
            break
    assert recorded.report.root.name == "invoke_workflow RetrieverQueryEngine"
    assert counted(recorded.report, "llm") == {MODEL: 1}


def test_a_step_that_streams_lasts_as_long_as_what_is_in_it(recorded: Recorded) -> None:
    with ModelServer("one two three") as server:
        engine = query_engine_for(server)
        recorded.forget()
        with otel_agentperf.agent("own"):
            assert str(engine.query("hi")) == "one two three"
    asked, step = recorded.named(f"chat {MODEL}")[0], recorded.one("RetrieverQueryEngine")
    assert recorded.parent(asked) == step.name
    assert step.end_time >= asked.end_time


def test_a_pipeline_is_one_run_and_embeds_once(recorded: Recorded) -> None:
    embedding = MockEmbedding(embed_dim=2)
    nodes = IngestionPipeline(transformations=[embedding]).run(documents=[Document(text="one"), Document(text="two")])
    VectorStoreIndex(nodes, embed_model=embedding)
    assert recorded.report.root.name == "invoke_workflow IngestionPipeline"
    assert counted(recorded.report, "embedding") == {"MockEmbedding": 1}
