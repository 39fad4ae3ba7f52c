"""Two OpenAI Agents, one handing its research to the other, with an offline model. Nothing in it knows of agentperf:

pip install openai-agents
agentperf run examples/openai_agents_app.py
"""

import asyncio

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool
from model_stub import serve
from openai import AsyncOpenAI


@function_tool
async def get_weather(city: str) -> str:
    """The weather in a city."""
    await asyncio.sleep(0.2)
    return f"sunny in {city}"


async def main() -> None:
    model = OpenAIChatCompletionsModel("demo-model", AsyncOpenAI(base_url=serve(), api_key="offline"))
    researcher = Agent(name="researcher", instructions="Look things up.", model=model, tools=[get_weather])
    writer = Agent(name="writer", instructions="Write a plan.", model=model)
    facts = await Runner.run(researcher, "How is the weather in Tokyo, Kyoto and Osaka?")
    plan = await Runner.run(writer, f"Write a plan from: {facts.final_output}")
    print(plan.final_output)


if __name__ == "__main__":
    asyncio.run(main())
