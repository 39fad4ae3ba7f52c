"""LiteLLM: every attempt is one model call, an answer out of its cache is none, whoever else tells of it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm import acompletion, completion, embedding, text_completion
from litellm.caching.caching import Cache
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.trace import get_current_span

import otel_agentperf
from _model_server import CACHED, EMBEDDING_INPUT, INPUT, OUTPUT, ModelServer, Refusal, Slow
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("openai2",)
# Its cache and its own OpenTelemetry logger import its proxy, which needs these.
REQUIRES = ("openai>=2,<3", "fastapi", "mcp", "soundfile", "orjson")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # the clients it keeps
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of pydantic, about its types
    pytest.mark.filterwarnings("ignore:coroutine 'Logging.async_success_handler':RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ASK: Any = [{"role": "user", "content": "secret question"}]


@pytest.fixture(autouse=True)
def _as_imported() -> Iterator[None]:
    yield
    litellm.cache = None
    litellm.logging_callback_manager._reset_all_callbacks()
    litellm.num_retries = None


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def to(server: ModelServer, *answers: Any, model: str = "openai/gpt-stub", **more: Any) -> dict[str, Any]:
    """What a call is given: the real client, without retries of its own."""
    server._answers[:] = answers
    return {"model": model, "messages": ASK, "api_base": server.url, "api_key": "none", "max_retries": 0, **more}


def called(arguments: dict[str, Any]) -> str:
    return str(completion(**arguments).choices[0].message.content)


def awaited(arguments: dict[str, Any]) -> str:
    async def main() -> str:
        return str((await acompletion(**arguments)).choices[0].message.content)

    return asyncio.run(main())


def streamed(arguments: dict[str, Any]) -> str:
    words = []
    around = get_current_span()
    for chunk in completion(**arguments, stream=True):
        assert get_current_span() is around, "the reader is not inside the call"
        words.append(chunk.choices[0].delta.content or "")
    return "".join(words)


def astreamed(arguments: dict[str, Any]) -> str:
    async def main() -> str:
        chunks = await acompletion(**arguments, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    return asyncio.run(main())


WAYS = pytest.mark.parametrize("way", [called, awaited, streamed, astreamed])


@WAYS
def test_a_call_counts_once_with_its_tokens(recorded: Recorded, server: ModelServer, way: Any) -> None:
    more = {"stream_options": {"include_usage": True}} if "stream" in way.__name__ else {}
    with otel_agentperf.agent("outer"):
        if more:
            arguments = to(server, "one two three", **more)
            texts = _texts(way, arguments)
        else:
            texts = way(to(server, "one two three"))
    assert texts == "one two three"
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "llm") == {"gpt-stub": 1}
    assert (report.tokens.input, report.tokens.output, report.tokens.cache_read) == (INPUT, OUTPUT, CACHED)
    assert recorded.tree == [("invoke_agent outer", [("chat gpt-stub", ["chat gpt-stub"])])]
    attributes = recorded.named("chat gpt-stub")[0].attributes
    assert attributes is not None
    assert attributes["gen_ai.provider.name"] == "openai"
    assert "secret" not in str([dict(span.attributes or {}) for span in recorded.spans])


def _texts(way: Any, arguments: dict[str, Any]) -> str:
    """Chunks with the usage have no choices."""
    if way is streamed:
        chunks = list(completion(**arguments, stream=True))
    else:

        async def main() -> list[Any]:
            return [chunk async for chunk in await acompletion(**arguments, stream=True)]

        chunks = asyncio.run(main())
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@WAYS
def test_without_a_client_below(recorded: Recorded, way: Any) -> None:
    with otel_agentperf.agent("outer"):
        assert way({"model": "gpt-4o", "messages": ASK, "mock_response": "mocked"}) == "mocked"
    assert counted(recorded.report, "llm") == {"gpt-4o": 1}
    assert recorded.report.errors("llm") == 0


@pytest.mark.parametrize("way", [called, awaited])
def test_a_failed_call(recorded: Recorded, server: ModelServer, way: Any) -> None:
    with otel_agentperf.agent("outer"):
        with pytest.raises(litellm.BadRequestError):
            way(to(server, Refusal(400)))
        with pytest.raises(litellm.RateLimitError):
            way({"model": "gpt-4o", "messages": ASK, "mock_response": "litellm.RateLimitError"})
    assert counted(recorded.report, "llm") == {"gpt-stub": 1, "gpt-4o": 1}
    assert recorded.report.errors("llm") == 2


@pytest.mark.parametrize("way", [called, awaited])
def test_attempts_of_the_client_below_are_one_call(recorded: Recorded, server: ModelServer, way: Any) -> None:
    with otel_agentperf.agent("outer"):
        assert way(to(server, Refusal(500), Refusal(500), "fine", num_retries=3)) == "fine"
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert sum(counted(recorded.report, "http").values()) == 3
    assert recorded.report.errors("http") == 2
    assert recorded.report.errors("llm") == 0


@pytest.mark.parametrize("way", [called, awaited])
def test_each_attempt_of_its_own_is_a_call(recorded: Recorded, way: Any) -> None:
    refused = {"model": "gpt-4o", "messages": ASK, "mock_response": "litellm.InternalServerError", "num_retries": 2}
    with otel_agentperf.agent("outer"), pytest.raises(litellm.InternalServerError):
        way(refused)
    assert counted(recorded.report, "llm") == {"gpt-4o": 3}
    assert recorded.report.errors("llm") == 3
    assert {recorded.parent(span) for span in recorded.named("chat gpt-4o")} == {"invoke_agent outer"}


@pytest.mark.parametrize("way", [called, awaited])
def test_a_model_to_fall_back_to(recorded: Recorded, server: ModelServer, way: Any) -> None:
    with otel_agentperf.agent("outer"):
        assert way(to(server, Refusal(400), "fine", fallbacks=["openai/gpt-other"])) == "fine"
    assert counted(recorded.report, "llm") == {"gpt-stub": 1, "gpt-other": 1}
    assert recorded.report.errors("llm") == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_router(recorded: Recorded, server: ModelServer, asynchronous: bool) -> None:
    first = {key: value for key, value in to(server, Refusal(400), "fine").items() if key != "messages"}
    second = {**first, "model": "openai/gpt-other"}
    models: Any = [{"model_name": "fast", "litellm_params": first}, {"model_name": "big", "litellm_params": second}]
    router = litellm.Router(model_list=models, fallbacks=[{"fast": ["big"]}], num_retries=0)
    with otel_agentperf.agent("outer"):
        if asynchronous:
            answer = asyncio.run(router.acompletion(model="fast", messages=ASK))
        else:
            answer = router.completion(model="fast", messages=ASK)
    assert answer.choices[0].message.content == "fine"
    assert recorded.traces == 1
    assert counted(recorded.report, "llm") == {"gpt-stub": 1, "gpt-other": 1}
    assert recorded.report.errors("llm") == 1


@pytest.mark.parametrize("way", [called, awaited, streamed])
def test_answers_out_of_the_cache_are_no_calls(recorded: Recorded, server: ModelServer, way: Any) -> None:
    litellm.cache = Cache()
    with otel_agentperf.agent("outer"):
        assert [way(to(server, *["one"] * 3)) for _ in range(3)] == ["one"] * 3
    report = recorded.report
    assert len(server.requests) == 1
    assert counted(report, "llm") == {"gpt-stub": 1}
    assert [(cache.name, cache.lookups, cache.hits) for cache in report.caches] == [("litellm", 3, 2)]
    if "stream" not in way.__name__:
        assert report.tokens.input == INPUT


def test_a_call_that_skips_the_cache(recorded: Recorded, server: ModelServer) -> None:
    litellm.cache = Cache()
    with otel_agentperf.agent("outer"):
        called(to(server, "one", caching=False))
        called(to(server, "one", cache={"no-cache": True}))
    assert counted(recorded.report, "llm") == {"gpt-stub": 2}
    assert recorded.report.caches == ()


def test_embeddings(recorded: Recorded, server: ModelServer) -> None:
    litellm.cache = Cache()
    kept = {"model": "openai/embed-stub", "api_base": server.url, "api_key": "none"}
    with otel_agentperf.agent("outer"):
        embedding(input=["a", "b"], **kept)
        asyncio.run(litellm.aembedding(input=["a"], **kept))
        embedding(input=["a", "b"], **kept)
    assert len(server.requests) == 2
    assert counted(recorded.report, "embedding") == {"embed-stub": 2}
    assert recorded.report.tokens.input == 2 * EMBEDDING_INPUT


def test_text_completions(recorded: Recorded) -> None:
    with otel_agentperf.agent("outer"):
        text_completion(model="gpt-4o", prompt="hi", mock_response="mocked")
    assert counted(recorded.report, "llm") == {"gpt-4o": 1}


def test_responses(recorded: Recorded, server: ModelServer) -> None:
    pytest.importorskip("mcp", reason="litellm.responses imports it")
    kept = {"model": "openai/gpt-stub", "input": "hi", "api_base": server.url, "api_key": "none"}

    async def main() -> None:
        await litellm.aresponses(**kept)
        async for _ in await litellm.aresponses(**kept, stream=True):  # type: ignore[union-attr]
            pass

    with otel_agentperf.agent("outer"):
        litellm.responses(**kept)
        for _ in litellm.responses(**kept, stream=True):
            pass
        asyncio.run(main())
    assert counted(recorded.report, "llm") == {"gpt-stub": 4}
    assert recorded.report.tokens.input == 4 * INPUT


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_left_early(recorded: Recorded, server: ModelServer, asynchronous: bool) -> None:
    arguments = to(server, Slow("one two three", 0.01))

    async def main() -> None:
        chunks = await acompletion(**arguments, stream=True)
        async for _ in chunks:
            break
        await asyncio.create_task(chunks.aclose())  # type: ignore[union-attr]

    with otel_agentperf.agent("outer"):
        if asynchronous:
            asyncio.run(main())
        else:
            for _ in completion(**arguments, stream=True):
                break
        _wait_for(recorded, "chat gpt-stub")  # LiteLLM's own threads let go of the stream a little later
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.errors("llm") == 0


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_clients_stream_ends_with_one_that_is_forgotten(
    recorded: Recorded, server: ModelServer, asynchronous: bool
) -> None:
    """The model call is the run's root: a span of the client's that ended after it would be late."""
    arguments = to(server, Slow("one two three", 0.01))

    async def main() -> None:
        async for _ in await acompletion(**arguments, stream=True):
            break

    if asynchronous:
        asyncio.run(main())
    else:
        for _ in completion(**arguments, stream=True):
            break
    gc.collect()
    _wait_for(recorded, "chat gpt-stub")
    assert not recorded.report.run.incomplete
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert not get_current_span().get_span_context().is_valid


def test_a_cancelled_call(recorded: Recorded, server: ModelServer) -> None:
    async def main() -> None:
        task = asyncio.create_task(acompletion(**to(server, Slow("late", 5))))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with otel_agentperf.agent("outer"):
        asyncio.run(main())
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.errors("llm") == 1


def test_many_at_once(recorded: Recorded, server: ModelServer) -> None:
    async def main() -> None:
        arguments = to(server, *["fine"] * 8)
        await asyncio.gather(*[acompletion(**arguments) for _ in range(8)])

    with otel_agentperf.agent("outer"):
        asyncio.run(main())
    assert recorded.traces == 1
    assert counted(recorded.report, "llm") == {"gpt-stub": 8}


@pytest.mark.parametrize("inside", [True, False])
def test_beside_its_own_opentelemetry(recorded: Recorded, server: ModelServer, inside: bool) -> None:
    """It tells of a call when that is over, in the span around the call or in a trace of its own."""
    from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig

    theirs = OpenTelemetry(OpenTelemetryConfig(exporter="console"), tracer_provider=recorded.provider)
    theirs.tracer = recorded.provider.get_tracer("litellm")
    litellm.callbacks = [theirs]
    if inside:
        with otel_agentperf.agent("outer"):
            called(to(server, "one"))
            _wait_for(recorded, "litellm_request")
            litellm.cache = Cache()
            called(to(server, "two"))
            called(to(server, "two"))
            time.sleep(0.2)
        assert counted(recorded.report, "agent") == {"outer": 1}
        assert counted(recorded.report, "llm") == {"gpt-stub": 2}
        assert recorded.report.tokens.input == 2 * INPUT
    else:
        called(to(server, "one"))
        _wait_for(recorded, "litellm_request")
        assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.traces == 1
    assert recorded.parent(recorded.named("litellm_request")[0]) == "chat gpt-stub"


def _wait_for(recorded: Recorded, name: str) -> None:
    until = time.monotonic() + 5
    while not recorded.named(name) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)


def test_nothing_once_it_is_taken_back(recorded: Recorded, server: ModelServer) -> None:
    otel_agentperf.uninstrument()
    assert called(to(server, "one")) == "one"
    assert streamed(to(server, "one two")) == "one two"
    assert recorded.spans == []
    assert not context_api.get_current()
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_what_was_imported_by_name_before() -> None:
    code = """
from litellm import completion
from opentelemetry.sdk.trace import TracerProvider
import otel_agentperf
reports = []
otel_agentperf.on_report(reports.append)
otel_agentperf.instrument(tracer_provider=TracerProvider())
completion(model="gpt-4o", messages=[{"role": "user", "content": "hi"}], mock_response="mocked")
print([operation.calls for operation in reports[0].operations if operation.kind == "llm"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[1]\n"), done.stderr


PROGRAM = """
    import asyncio, sys
    sys.path.insert(0, {tests!r})
    import litellm
    from litellm import acompletion, completion, embedding
    from litellm.caching.caching import Cache
    from _model_server import ModelServer, Refusal
    from otel_agentperf import agent, tool

    litellm.suppress_debug_info = True

    @tool
    def search(query):
        return "found " + query

    @agent
    def assistant(server):
        kept = dict(model="openai/gpt-stub", api_base=server.url, api_key="none", max_retries=0)
        ask = [{{"role": "user", "content": "hi"}}]
        print(completion(messages=ask, **kept).choices[0].message.content)
        print(search("cats"))
        for chunk in completion(messages=ask, stream=True, **kept):
            print(chunk.choices[0].delta.content, end="|")
        print()
        for model in "openai/gpt-stub", "openai/gpt-other":
            try:
                print(completion(**{{**kept, "messages": ask, "model": model}}).choices[0].message.content)
            except litellm.BadRequestError:
                pass
        litellm.cache = Cache()
        for _ in range(3):
            print(completion(messages=ask, **kept).choices[0].message.content)
        try:
            completion(messages=[{{"role": "user", "content": "other"}}], **kept)
        except litellm.BadRequestError as error:
            print(type(error).__name__)
        return asyncio.run(later(kept, ask))

    async def later(kept, ask):
        litellm.cache = None
        answers = await asyncio.gather(*[acompletion(messages=ask, **kept) for _ in range(3)])
        return len(answers)

    with ModelServer("one", "two three", Refusal(400), "four", "five", Refusal(400)) as server:
        print(assistant(server))
        print(len(server.requests))
"""


def test_a_users_program_three_ways(tmp_path: Path) -> None:
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    told = three_ways(PROGRAM.format(tests=str(Path(__file__).parents[1])), tmp_path, env=env)
    assert told.agents == {"assistant": 1}
    assert told.tools == {"search": 1}
    assert told.llm == {"gpt-stub": 8, "gpt-other": 1}
    assert told.caches == {"litellm": (2, 4)}
    assert told.tokens["input"] == 6 * INPUT  # the stream did not ask for them
