"""A user's program: agents of Pydantic AI with the real clients of Anthropic and OpenAI.

The variable NATIVE says how the framework's own instrumentation is switched on: `all`, `private`, or not at all.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from _anthropic_server import AnthropicServer
from _model_server import ModelServer, calls

if os.environ.get("NATIVE") == "all":
    Agent.instrument_all()
elif os.environ.get("NATIVE") == "private":
    Agent.instrument_all(InstrumentationSettings(include_content=False))

ANSWERS = (
    calls(("get_weather", {"city": "Paris"})),
    calls(("get_weather", {"city": "Paris"})),
    calls(("ask_helper", {"question": "why?"})),
    "because",
    "so it is",
    "two words",
)


def agents(model: Any) -> Agent[None, str]:
    helper = Agent(model, name="helper")
    support = Agent(model, name="support", instructions="Help.")
    tried: list[str] = []

    @support.tool_plain
    def get_weather(city: str) -> str:
        if not tried:
            tried.append(city)
            raise ModelRetry("try again")
        return f"sunny in {city}"

    @support.tool
    async def ask_helper(context: RunContext[None], question: str) -> str:
        return (await helper.run(question, usage=context.usage)).output

    return support


async def use(server_class: Any, model_class: Any, provider_class: Any) -> None:
    with server_class(*ANSWERS) as server:
        support = agents(model_class("stub-1", provider=provider_class(base_url=server.url, api_key="none")))
        sys.stdout.write((await support.run("Is it sunny?")).output + "\n")
        async with support.run_stream("again") as result:
            async for text in result.stream_text():
                sys.stdout.write(text + "\n")


async def main() -> None:
    await use(AnthropicServer, AnthropicModel, AnthropicProvider)
    await use(ModelServer, OpenAIChatModel, OpenAIProvider)
    await use(ModelServer, OpenAIResponsesModel, OpenAIProvider)


if __name__ == "__main__":
    asyncio.run(main())
