"""DSPy: programs, tools, model calls and cached answers once each; the user's callbacks stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM
from dspy.utils.callback import BaseCallback
from opentelemetry.trace import get_current_span

import otel_agentperf
from _model_server import CACHED, INPUT, OUTPUT, ModelServer, Refusal, Slow
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("openai2",)
REQUIRES = ("litellm>=1.100,<2", "openai>=2,<3")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # the clients it keeps
]


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Without the cache on this machine's disk."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    with dspy.context(lm=None, callbacks=[]):
        yield


def get_weather(city: str) -> str:
    """The weather."""
    with otel_agentperf.retrieval("almanac"):
        if city == "Atlantis":
            raise ValueError("sunk")
        return f"sunny in {city}"


async def get_time(city: str) -> str:
    """The time."""
    with otel_agentperf.retrieval("clock"):
        await asyncio.sleep(0)
        return f"noon in {city}"


def asks(name: str, **args: Any) -> dict[str, Any]:
    return {"next_thought": "secret thought", "next_tool_name": name, "next_tool_args": args}


DONE = ({**asks("finish")}, {"reasoning": "because", "answer": "sunny"})
QUESTION = {"question": "secret question"}


def reacting(*answers: dict[str, Any]) -> dspy.LM:
    return DummyLM(list(answers))


def test_react_its_tools_and_model_calls(recorded: Recorded) -> None:
    react = dspy.ReAct("question -> answer", tools=[get_weather])
    with dspy.context(lm=reacting(asks("get_weather", city="Paris"), asks("get_weather", city="Atlantis"), *DONE)):
        assert react(**QUESTION).answer == "sunny"
    report = recorded.report
    assert recorded.traces == 1
    assert counted(report, "agent") == {"ReAct": 1}
    assert counted(report, "tool") == {"get_weather": 2}
    assert report.errors("tool") == 1
    assert counted(report, "llm") == {"dummy": 4}
    assert counted(report, "retrieval") == {"almanac": 2}
    assert {recorded.parent(span) for span in recorded.named("execute_tool get_weather")} == {"invoke_agent ReAct"}
    assert {recorded.parent(span) for span in recorded.named("retrieval almanac")} == {"execute_tool get_weather"}
    shown = str([dict(span.attributes or {}) for span in recorded.spans])
    assert "secret" not in shown
    assert "Paris" not in shown
    assert not get_current_span().get_span_context().is_valid


def test_react_awaited(recorded: Recorded) -> None:
    react = dspy.ReAct("question -> answer", tools=[get_weather, get_time])

    async def main() -> None:
        lm = reacting(asks("get_weather", city="Paris"), asks("get_time", city="Rome"), *DONE)
        with dspy.context(lm=lm):
            await react.acall(**QUESTION)
        assert not get_current_span().get_span_context().is_valid

    asyncio.run(main())
    assert counted(recorded.report, "tool") == {"get_weather": 1, "get_time": 1}
    assert counted(recorded.report, "llm") == {"dummy": 4}
    assert recorded.parent(recorded.one("retrieval clock")) == "execute_tool get_time"


class Support(dspy.Module):
    """A program of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.react = dspy.ReAct("question -> answer", tools=[get_weather])
        self.polish = Polish()

    def forward(self, question: str) -> Any:
        return self.polish(text=self.react(question=question).answer)


class Polish(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rewrite = dspy.ChainOfThought("text -> answer")

    def forward(self, text: str) -> Any:
        return self.rewrite(text=text)


def test_what_the_program_calls_is_the_agent_and_its_modules_are_steps(recorded: Recorded) -> None:
    with dspy.context(lm=reacting(asks("get_weather", city="Paris"), *DONE, DONE[1])):
        Support()(**QUESTION)
    assert recorded.tree == [
        ("invoke_agent Support", [
            ("invoke_agent ReAct", [
                "chat dummy", ("execute_tool get_weather", ["retrieval almanac"]), "chat dummy", "chat dummy",
            ]),
            ("Polish", ["chat dummy"]),
        ]),
    ]  # fmt: skip
    assert len(recorded.reports) == 1


def test_a_predictor_alone_is_an_agent_but_not_within_one(recorded: Recorded) -> None:
    predict = dspy.Predict("question -> answer")
    with dspy.context(lm=reacting(*[{"answer": "yes"}] * 2)):
        predict(**QUESTION)
        with otel_agentperf.agent("mine"):
            predict(question="another")
    assert [counted(report, "agent") for report in recorded.reports] == [{"Predict": 1}, {"mine": 1}]


def test_a_tool_of_the_users_that_is_called_finish(recorded: Recorded) -> None:
    def finish(city: str) -> str:
        """Finish."""
        return city

    with otel_agentperf.agent("outer"):
        dspy.Tool(finish)(city="Paris")
    assert counted(recorded.report, "tool") == {"finish": 1}


def test_what_the_model_asked_for_is_called_by_the_program(recorded: Recorded) -> None:
    """By the documented ways; DSPy finds the function in the frame that calls `execute`."""
    call = dspy.ToolCalls.ToolCall(id="call-1", name="get_weather", args={"city": "Paris"})
    sunk = dspy.ToolCalls.ToolCall(name="get_weather", args={"city": "Atlantis"})
    tool = dspy.Tool(get_weather)
    with otel_agentperf.agent("outer"):
        assert call.execute() == "sunny in Paris"
        assert call.execute(functions=[tool]) == "sunny in Paris"
        assert call.execute({"get_weather": get_weather}) == "sunny in Paris"
        assert call.execute(functions={"get_weather": tool}) == "sunny in Paris"
        local = dspy.ToolCalls.ToolCall(name="mine", args={})
        mine = lambda: "found"  # noqa: E731
        assert local.execute() == mine()
        with pytest.raises(RuntimeError, match="sunk"):
            sunk.execute()
        with pytest.raises(ValueError, match="not found"):
            dspy.ToolCalls.ToolCall(name="nowhere", args={}).execute()
    report = recorded.report
    assert counted(report, "tool") == {"get_weather": 5, "mine": 1, "nowhere": 1}
    assert report.errors("tool") == 2
    attributes = recorded.named("execute_tool get_weather")[0].attributes
    assert attributes is not None
    assert attributes["gen_ai.tool.call.id"] == "call-1"
    assert "ValueError" in {(span.attributes or {}).get("error.type") for span in recorded.spans}


@pytest.mark.parametrize("threads", [1, 3])
def test_work_in_threads_stays_in_its_run(recorded: Recorded, threads: int) -> None:
    predict = dspy.Predict("question -> answer")
    examples = [dspy.Example(question=str(number)).with_inputs("question") for number in range(6)]
    with dspy.context(lm=reacting(*[{"answer": "yes"}] * 6)), otel_agentperf.agent("outer"):
        dspy.Parallel(num_threads=threads, disable_progress_bar=True)([(predict, one) for one in examples])
    assert recorded.traces == 1
    assert counted(recorded.report, "llm") == {"dummy": 6}
    assert counted(recorded.report, "agent") == {"outer": 1}


class Listener(BaseCallback):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.heard.append(type(instance).__name__)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.heard.append("lm")


def test_the_users_callbacks_stay(recorded: Recorded) -> None:
    listener = Listener()
    with dspy.context(lm=reacting({"answer": "yes"}), callbacks=[listener]):
        dspy.Predict("question -> answer")(**QUESTION)
        assert dspy.settings.callbacks == [listener]
    assert listener.heard == ["Predict", "lm"]
    assert counted(recorded.report, "llm") == {"dummy": 1}


def lm(server: ModelServer, **more: Any) -> dspy.LM:
    return dspy.LM("openai/gpt-stub", api_base=server.url, api_key="none", **{"num_retries": 0, **more})


ANSWER = "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"


@pytest.mark.parametrize("engine", ["auto", "litellm"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_answers_out_of_the_cache_are_no_model_calls(recorded: Recorded, engine: str, asynchronous: bool) -> None:
    predict = dspy.Predict("question -> answer")
    with ModelServer(ANSWER, ANSWER) as server, otel_agentperf.agent("outer"):
        for question in "one", "one", "two", "one":
            with dspy.context(lm=lm(server, engine=engine)):
                if asynchronous:
                    assert asyncio.run(predict.acall(question=question)).answer == "yes"
                else:
                    assert predict(question=question).answer == "yes"
        assert len(server.requests) == 2
    report = recorded.report
    assert counted(report, "llm") == {"gpt-stub": 2}
    assert (report.tokens.input, report.tokens.output, report.tokens.cache_read) == (2 * INPUT, 2 * OUTPUT, 2 * CACHED)
    assert [(cache.name, cache.lookups, cache.hits) for cache in report.caches] == [("dspy", 4, 2)]


@pytest.mark.parametrize("engine", ["auto", "litellm"])
def test_each_attempt_is_a_model_call(recorded: Recorded, engine: str) -> None:
    with ModelServer(Refusal(500), ANSWER) as server, otel_agentperf.agent("outer"):
        more = {"max_retries": 0} if engine == "litellm" else {}
        with dspy.context(lm=lm(server, engine=engine, num_retries=1, **more)):
            dspy.Predict("question -> answer")(**QUESTION)
        assert len(server.requests) == 2
    assert counted(recorded.report, "llm") == {"gpt-stub": 2}
    assert recorded.report.errors("llm") == 1


def test_a_refused_call_fails_the_agent(recorded: Recorded) -> None:
    with ModelServer(Refusal(400)) as server, dspy.context(lm=lm(server)), pytest.raises(Exception, match="no"):
        dspy.ReAct("question -> answer", tools=[get_weather])(**QUESTION)
    assert recorded.report.errors("agent") == 1
    assert recorded.report.errors("llm") == 1


def test_a_streamed_program(recorded: Recorded) -> None:
    async def main(server: ModelServer) -> None:
        listener = dspy.streaming.StreamListener(signature_field_name="answer")
        program = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=[listener])
        with dspy.context(lm=lm(server, cache=False)):
            async for _ in program(question="hi"):
                assert not get_current_span().get_span_context().is_valid

    with ModelServer(Slow(ANSWER, 0.001)) as server:
        asyncio.run(main(server))
    assert counted(recorded.report, "agent") == {"Predict": 1}
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert not get_current_span().get_span_context().is_valid


def test_a_cancelled_program(recorded: Recorded) -> None:
    async def main() -> None:
        async def wait() -> str:
            """Wait."""
            await asyncio.sleep(10)
            return ""

        with dspy.context(lm=reacting(asks("wait"), *DONE)):
            task = asyncio.create_task(dspy.ReAct("question -> answer", tools=[wait]).acall(**QUESTION))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert recorded.report.root.error == "CancelledError"
    assert recorded.report.errors("tool") == 1


def test_retrievers(recorded: Recorded) -> None:
    pytest.importorskip("numpy")
    search = dspy.retrievers.Embeddings(corpus=["a", "b", "c"], embedder=_embed, k=1)
    with otel_agentperf.agent("outer"):
        search("a")
    assert counted(recorded.report, "retrieval") == {"Embeddings": 1}


def _embed(texts: list[str]) -> Any:
    import numpy

    return numpy.ones((len(texts), 2))


def test_without_cache_spans(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(cache_spans="none")
    with ModelServer(ANSWER) as server, dspy.context(lm=lm(server)), otel_agentperf.agent("outer"):
        dspy.Predict("question -> answer")(question="a")
    assert counted(recorded.report, "llm") == {"gpt-stub": 1}
    assert recorded.report.caches == ()


def test_nothing_once_it_is_taken_back(recorded: Recorded) -> None:
    otel_agentperf.uninstrument()
    with dspy.context(lm=reacting(asks("get_weather", city="Paris"), *DONE)):
        dspy.ReAct("question -> answer", tools=[get_weather])(**QUESTION)
    assert {span.name for span in recorded.spans} == {"retrieval almanac"}


PROGRAM = """
    import asyncio, sys
    sys.path.insert(0, {tests!r})
    import dspy
    from _model_server import ModelServer, Refusal

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)

    def search(query: str) -> str:
        "Search the web."
        if query == "bad":
            raise RuntimeError("offline")
        return f"found {{query}}"

    def turn(tool, args):
        return ("[[ ## next_thought ## ]]\\nhm\\n\\n[[ ## next_tool_name ## ]]\\n" + tool
                + "\\n\\n[[ ## next_tool_args ## ]]\\n" + args + "\\n\\n[[ ## completed ## ]]")

    answer = "[[ ## reasoning ## ]]\\nso\\n\\n[[ ## answer ## ]]\\n42\\n\\n[[ ## completed ## ]]"

    class Research(dspy.Module):
        def __init__(self):
            super().__init__()
            self.find = dspy.ReAct("question -> answer", tools=[search])
            self.judge = dspy.ChainOfThought("question, found -> answer")

        def forward(self, question):
            found = self.find(question=question).answer
            return self.judge(question=question, found=found)

    with ModelServer(
        turn("search", '{{"query": "cats"}}'), turn("search", '{{"query": "bad"}}'), turn("finish", "{{}}"),
        answer, answer, Refusal(400),
    ) as server:
        lm = dspy.LM("openai/gpt-stub", api_base=server.url, api_key="none", num_retries=0)
        dspy.configure(lm=lm)
        research = Research()
        print(research(question="why").answer)
        print(research(question="why").answer)
        try:
            dspy.Predict("question -> answer")(question="other")
        except Exception as error:
            print(type(error).__name__)
        print(len(server.requests), len(lm.history))
"""


def test_a_users_program_three_ways(tmp_path: Path) -> None:
    told = three_ways(PROGRAM.format(tests=str(Path(__file__).parents[1])), tmp_path)
    assert told.agents == {"Research": 2, "ReAct": 2, "Predict": 1}
    assert told.tools == {"search": 4}
    assert told.llm == {"gpt-stub": 6}
    assert told.errors["search"] == 2
    assert told.tokens["input"] == 5 * INPUT
    assert told.caches == {"dspy": (5, 11)}
