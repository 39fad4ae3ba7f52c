"""A LangGraph agent with two tools and an offline model. Nothing in it knows of agentperf:

pip install langchain langchain-openai
agentperf run examples/langgraph_agent.py
"""

import time

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from model_stub import serve


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    time.sleep(0.2)
    return f"sunny in {city}"


@tool
def find_hotel(city: str) -> str:
    """A hotel in a city."""
    time.sleep(0.3)
    return f"Hotel Central, {city}"


if __name__ == "__main__":
    model = ChatOpenAI(model="demo-model", base_url=serve(), api_key="offline")
    planner = create_agent(model, [get_weather, find_hotel], name="travel_agent")
    answer = planner.invoke({"messages": [("user", "Plan a trip to Tokyo, Kyoto and Osaka.")]})
    print(answer["messages"][-1].content)
