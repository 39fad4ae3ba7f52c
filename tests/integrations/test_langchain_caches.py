"""LangChain's caches: exact look-ups, and an answer from a cache is no model call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from _model_server import CACHED, INPUT, OUTPUT, ModelServer
from _recorded import Recorded, counted
from _three_ways import three_ways
from otel_agentperf import agent, uninstrument


class OwnCache(BaseCache):
    """As users write them: sync only."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Sequence[Any]] = {}

    def lookup(self, prompt: str, llm_string: str) -> Any:
        return self.kept.get((prompt, llm_string))

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Any]) -> None:
        self.kept[prompt, llm_string] = return_val

    def clear(self, **kwargs: Any) -> None:
        self.kept.clear()


@pytest.fixture(autouse=True)
def _no_cache_stays() -> Iterator[None]:
    before = get_llm_cache()
    yield
    set_llm_cache(before)


def caches(recorded: Recorded) -> dict[str, tuple[int, int]]:
    """(look-ups, hits) by name, as the report has them."""
    return {cache.name: (cache.lookups, cache.hits) for cache in recorded.report.caches}


@pytest.mark.parametrize("make", [InMemoryCache, OwnCache])
def test_an_answer_from_the_cache_is_no_model_call(recorded: Recorded, make: Callable[[], BaseCache]) -> None:
    set_llm_cache(make())
    with ModelServer() as server:
        model = ChatOpenAI(model="small", base_url=server.url, api_key="none")  # type: ignore[arg-type]
        with agent("planner"):
            for _ in range(3):
                assert model.invoke("hello").content == "ok"
            assert asyncio.run(model.ainvoke("hello")).content == "ok"
            assert asyncio.run(model.ainvoke("other")).content == "ok"
            assert [answer.content for answer in model.batch(["hello", "third"])] == ["ok", "ok"]
        calls = len(server.requests)
    assert calls == 3
    assert caches(recorded) == {make.__name__: (7, 4)}
    assert counted(recorded.report, "llm") == {"small": 3}
    tokens = recorded.report.tokens
    assert (tokens.input, tokens.output, tokens.cache_read) == (3 * INPUT, 3 * OUTPUT, 3 * CACHED)


def test_several_prompts_of_which_some_are_cached(recorded: Recorded) -> None:
    set_llm_cache(InMemoryCache())
    model = FakeListChatModel(responses=["a", "b", "c"])
    with agent("planner"):
        for prompts in (["one"], ["one", "two"], ["one", "two"]):
            model.generate([[HumanMessage(prompt)] for prompt in prompts])
    assert caches(recorded) == {"InMemoryCache": (5, 3)}
    assert counted(recorded.report, "llm") == {"FakeListChatModel": 2}


def test_a_cache_of_one_model_and_plain_language_models(recorded: Recorded) -> None:
    model = FakeListLLM(responses=["a", "b"], cache=InMemoryCache())
    with agent("planner"):
        assert [model.invoke("x"), model.invoke("x"), asyncio.run(model.ainvoke("x"))] == ["a", "a", "a"]
    assert caches(recorded) == {"InMemoryCache": (3, 2)}


def test_what_a_hit_saves_is_the_model_call(recorded: Recorded) -> None:
    class Slow(FakeListChatModel):
        def _call(self, *args: Any, **kwargs: Any) -> str:
            time.sleep(0.03)
            return super()._call(*args, **kwargs)

    model = Slow(responses=["a", "b"], cache=OwnCache())
    with agent("planner"):
        for _ in range(3):
            model.invoke("x")
    (cache,) = recorded.report.caches
    assert (cache.lookups, cache.hits) == (3, 2)
    assert cache.time_saved_s == pytest.approx(0.06, rel=0.5)


def test_classes_below_classes_count_once(recorded: Recorded) -> None:
    class Loud(OwnCache):
        def lookup(self, prompt: str, llm_string: str) -> Any:
            return super().lookup(prompt.upper(), llm_string)

        async def alookup(self, prompt: str, llm_string: str) -> Any:
            return self.lookup(prompt, llm_string)

        def update(self, prompt: str, llm_string: str, return_val: Sequence[Any]) -> None:
            super().update(prompt.upper(), llm_string, return_val)

    cache = Loud()
    with agent("planner"):
        assert cache.lookup("a", "m") is None
        cache.update("a", "m", ["answer"])
        assert cache.lookup(prompt="A", llm_string="m") == ["answer"]
        assert asyncio.run(cache.alookup("a", "m")) == ["answer"]
        cache.clear()
        assert asyncio.run(cache.alookup("a", llm_string="m")) is None
    assert caches(recorded) == {"Loud": (4, 2)}


def test_a_failing_cache_is_neither_hit_nor_miss(recorded: Recorded) -> None:
    class Broken(OwnCache):
        def lookup(self, prompt: str, llm_string: str) -> Any:
            raise ConnectionError("no")

    model = FakeListChatModel(responses=["a"], cache=Broken())
    with agent("planner"), pytest.raises(ConnectionError):
        model.invoke("x")
    assert caches(recorded) == {}


def test_prompts_stay_private(recorded: Recorded) -> None:
    model = FakeListChatModel(responses=["secret answer"], cache=OwnCache())
    with agent("planner"):
        model.invoke("secret prompt"), model.invoke("secret prompt")
    assert "secret" not in str([(span.name, dict(span.attributes or {})) for span in recorded.spans])


def test_taking_it_back(instrumented: Callable[..., Recorded]) -> None:
    uninstrument()
    before = vars(InMemoryCache)["lookup"], vars(OwnCache)["lookup"], vars(BaseCache).get("__init_subclass__")
    instrumented()
    assert vars(OwnCache)["lookup"] is not before[1]
    uninstrument()
    assert (vars(InMemoryCache)["lookup"], vars(OwnCache)["lookup"]) == before[:2]
    assert vars(BaseCache).get("__init_subclass__") is before[2]


PROGRAM = """
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_openai import ChatOpenAI

set_llm_cache(InMemoryCache())

def get_weather(city: str) -> str:
    "The weather in a city."
    return f"sunny in {city}"

model = ChatOpenAI(model="small", base_url="URL", api_key="none", temperature=0)
agent = create_agent(model, [get_weather], name="weatherbot")
for _ in range(2):
    print(agent.invoke({"messages": [{"role": "user", "content": "Paris?", "id": "1"}]})["messages"][-1].content)
print([answer.content for answer in model.batch(["a", "b"])], model.invoke("a").content)
"""


@pytest.mark.filterwarnings("ignore")
def test_a_program_in_each_way(tmp_path: Path) -> None:
    with ModelServer(*["It is sunny."] * 30) as server:
        told = three_ways(PROGRAM.replace("URL", server.url), tmp_path)
        assert len(server.requests) == 3 * 3
    assert told.agents == {"weatherbot": 2}
    assert told.llm == {"small": 3}
    assert told.caches == {"InMemoryCache": (2, 5)}
