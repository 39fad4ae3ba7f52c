"""LangChain's models that take a text and give one (`LLM`): model calls like those of chat models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import LLM
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult

from _recorded import Recorded, counted
from otel_agentperf import agent

NAME = "text_completion Own"


class Own(LLM):
    """As users write them."""

    error: Any = None

    @property
    def _llm_type(self) -> str:
        return "own"

    def _call(self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> str:
        if self.error is not None:
            raise self.error
        return f"answer to {prompt}"


class Streaming(Own):
    def _stream(self, prompt: str, *args: Any, **kwargs: Any) -> Iterator[GenerationChunk]:
        yield GenerationChunk(text="one ")
        if self.error is not None:
            raise self.error
        yield GenerationChunk(text="two")


def attributes(recorded: Recorded, name: str = NAME) -> dict[str, Any]:
    return dict(recorded.one(name).attributes or {})


@pytest.fixture
def cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_each_way_of_asking_is_one_call(recorded: Recorded, way: str) -> None:
    async def ask() -> str:
        model = Own()
        if way == "astream":
            return "".join([part async for part in model.astream("secret")])
        return await model.ainvoke("secret")

    with agent("outer"):
        if way.startswith("a"):
            assert asyncio.run(ask()) == "answer to secret"
        elif way == "stream":
            assert "".join(Own().stream("secret")) == "answer to secret"
        else:
            assert Own().invoke("secret") == "answer to secret"
    told = attributes(recorded)
    assert told["gen_ai.operation.name"] == "text_completion"
    assert told["gen_ai.request.model"] == "Own"
    assert "agentperf.args.hash" in told
    assert "secret" not in str(told)
    assert counted(recorded.report, "llm") == {"Own": 1}


def test_what_fails(recorded: Recorded) -> None:
    for error in (ValueError("secret"), KeyboardInterrupt("secret")):
        with pytest.raises(type(error)) as caught:
            Own(error=error).invoke("hello")
        assert caught.value is error
    with pytest.raises(ConnectionError):
        list(Streaming(error=ConnectionError("secret")).stream("hello"))
    types = [dict(span.attributes or {})["error.type"] for span in recorded.spans]
    assert types == ["ValueError", "KeyboardInterrupt", "ConnectionError"]


def test_a_stream_left_early_ended_well(recorded: Recorded) -> None:
    for part in Streaming().stream("hello"):
        assert part == "one "
        break
    told = attributes(recorded, "text_completion Streaming")
    assert "error.type" not in told
    assert told["gen_ai.response.time_to_first_chunk"] > 0


def test_tokens_where_the_model_tells_them(recorded: Recorded) -> None:
    class Telling(Own):
        def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
            told = {"token_usage": {"prompt_tokens": 7, "completion_tokens": 5}}
            return LLMResult(generations=[[Generation(text="x")] for _ in prompts], llm_output=told)

    assert Telling().batch(["one", "two"]) == ["x", "x"]
    told = attributes(recorded, "text_completion Telling")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (7, 5)


def test_an_answer_from_the_cache_is_no_model_call(recorded: Recorded, cache: None) -> None:
    model = FakeListLLM(responses=["one", "two"])
    with agent("outer"):
        assert [model.invoke("hello"), model.invoke("hello")] == ["one", "one"]
    assert counted(recorded.report, "llm") == {"FakeListLLM": 1}
