"""Crews for the tests of CrewAI: models of the program's own, agents, tools, a flow, and a whole program."""

from __future__ import annotations

import os
import warnings
from typing import Any

os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

with warnings.catch_warnings():  # importing it warns of its own packages
    warnings.simplefilter("ignore")
    import crewai  # noqa: F401

from crewai import LLM, Agent, BaseLLM, Crew, Task
from crewai.flow.flow import Flow, listen, start
from crewai.tools import BaseTool, tool

import otel_agentperf
from _model_server import ModelServer, calls

FINAL = "Thought: I know\nFinal Answer: done"


def act(name: str, **arguments: Any) -> str:
    """What a model writes that calls tools as text."""
    return f"Thought: look\nAction: {name}\nAction Input: {arguments}".replace("'", '"')


def function(name: str, **arguments: Any) -> list[dict[str, Any]]:
    """What a model answers that calls functions."""
    return [{"id": f"id-{name}", "function": {"name": name, "arguments": arguments}}]


class Fake(BaseLLM):
    """A model of the program's own, as CrewAI's documentation shows them."""

    answers: list[Any] = []  # noqa: RUF012 - pydantic copies it
    functions: bool = False
    calls: int = 0

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if self.answers else FINAL
        if isinstance(answer, BaseException):
            raise answer
        return answer(self) if callable(answer) else answer

    async def acall(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        return self.call(messages, *args, **kwargs)

    def supports_function_calling(self) -> bool:
        return self.functions

    def get_context_window_size(self) -> int:
        return 100_000


@tool("get_weather")
def get_weather(city: str) -> str:
    """The weather."""
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


class Search(BaseTool):
    name: str = "Search"
    description: str = "Looks something up."
    attempts: int = 0

    def _run(self, query: str) -> str:
        self.attempts += 1
        raise LookupError(query)


def agent(*answers: Any, role: str = "Researcher", tools: Any = (), functions: bool = False, **more: Any) -> Agent:
    model = more.pop("llm", None) or Fake(model="fake", answers=list(answers), functions=functions)
    return Agent(role=role, goal="Find out", backstory="Curious", tools=list(tools), llm=model, **more)


def task(worker: Agent | None, name: str | None = None, **more: Any) -> Task:
    return Task(description="secret request", expected_output="a word", agent=worker, name=name, **more)


def crew(*workers: Agent, **more: Any) -> Crew:
    return Crew(agents=list(workers), tasks=[task(worker) for worker in workers], **more)


def openai(server: ModelServer, **more: Any) -> LLM:
    return LLM(model="openai/gpt-4o-mini", base_url=server.url, api_key="none", **more)


class Guide(Flow[dict[str, Any]]):
    """A crew, an agent alone, and a model alone, one after another."""

    @start()
    def research(self) -> str:
        return str(crew(agent()).kickoff().raw)

    @listen(research)
    async def ask(self, found: str) -> str:
        return str((await agent(role="Critic").kickoff_async("better?")).raw)

    @listen(ask)
    def write(self, found: str) -> str:
        return str(Fake(model="plain").call(found)) + str(agent(role="Editor").kickoff("shorter").raw)  # type: ignore[union-attr]


PROGRAM = """
import asyncio
from crewai import LLM, Agent, Crew, Process, Task
from crewai.flow.flow import Flow, listen, start
from crewai.tools import BaseTool, tool

@tool("get_weather")
def get_weather(city: str) -> str:
    "The weather in a city."
    return f"sunny in {city}"

class Prices(BaseTool):
    name: str = "get_price"
    description: str = "The price of a thing."
    def _run(self, thing: str) -> str:
        raise ConnectionError("no prices today")

llm = LLM(model="openai/gpt-4o-mini", stream=STREAM)
researcher = Agent(role="Researcher", goal="find", backstory="b", tools=[get_weather, Prices()], llm=llm)
writer = Agent(role="Writer", goal="write", backstory="b", llm=llm, allow_delegation=True)

class Trip(Flow):
    @start()
    def plan(self):
        tasks = [Task(description="Look", expected_output="facts", agent=researcher),
                 Task(description="Write", expected_output="text", agent=writer)]
        return Crew(agents=[researcher, writer], tasks=tasks).kickoff().raw

    @listen(plan)
    async def check(self, text):
        return (await Agent(role="Critic", goal="check", backstory="b", llm=llm).kickoff_async(text)).raw

print(Trip().kickoff())
"""
ANSWERS = (
    calls(("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"}), ("get_price", {"thing": "tea"})),
    "It is sunny.",
    calls(("delegate_work_to_coworker", {"task": "count", "context": "all", "coworker": "Researcher"})),
    calls(("get_weather", {"city": "Oslo"})),
    "One city.",
    "Dear friend.",
    "Fine.",
)
