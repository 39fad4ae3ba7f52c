"""Agents for the tests of Pydantic AI, their models that give scripted answers, and the ways to run them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.usage import RequestUsage

import otel_agentperf

IN, OUT = 50, 7

Said = str | list[tuple[str, dict[str, Any]]] | Exception


def scripted(*answers: Said, name: str = "script-1") -> FunctionModel:
    """A model that gives these answers, streamed or not: a text, the tools to call, or an error."""
    left = list(answers)

    def answer(messages: list[Any], info: AgentInfo) -> ModelResponse:
        said = left.pop(0) if left else "done"
        if isinstance(said, Exception):
            raise said
        parts = [TextPart(said)] if isinstance(said, str) else [ToolCallPart(*call) for call in said]
        return ModelResponse(parts=parts, usage=RequestUsage(input_tokens=IN, output_tokens=OUT))

    async def stream(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        said = left.pop(0) if left else "done"
        if isinstance(said, Exception):
            raise said
        if isinstance(said, str):
            for word in said.split():
                yield word
        else:
            for place, (tool, arguments) in enumerate(said):
                yield {place: DeltaToolCall(tool, json.dumps(arguments))}

    return FunctionModel(answer, stream_function=stream, model_name=name)


def get_weather(city: str) -> str:
    """The weather, by a synchronous function."""
    with otel_agentperf.retrieval("almanac"):
        return f"sunny in {city}"


async def get_time(city: str) -> str:
    """The time, by a coroutine."""
    with otel_agentperf.retrieval("clock"):
        await asyncio.sleep(0.01)
    return city


TWO_TURNS: tuple[Said, ...] = ([("get_weather", {"city": "Paris"}), ("get_time", {"city": "Rome"})], "all done")


def planner(*answers: Said, **more: Any) -> Agent[Any, Any]:
    return Agent(scripted(*answers), **{"name": "planner", "tools": [get_weather, get_time], **more})


async def run(agent: Agent[Any, Any]) -> None:
    await agent.run("hello secret")


async def run_stream(agent: Agent[Any, Any]) -> None:
    async with agent.run_stream("hello secret") as result:
        async for _ in result.stream_text(delta=True):
            pass


async def run_stream_events(agent: Agent[Any, Any]) -> None:
    async with agent.run_stream_events("hello secret") as events:
        async for _ in events:
            pass


async def iterated(agent: Agent[Any, Any]) -> None:
    async with agent.iter("hello secret") as nodes:
        async for _ in nodes:
            pass


STREAMED = [run_stream, run_stream_events]
WAYS = [run, iterated, *STREAMED]
