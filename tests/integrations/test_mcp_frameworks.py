"""A tool on an MCP server, called through an agent framework: one call, told by the framework, by us and by both
ends of the wire; and a failed one where the server says so, whatever the framework makes of it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import mcp
import pytest

from _model_server import INPUT, OUTPUT, ModelServer, calls
from _three_ways import Told, three_ways

ENVIRONMENTS = ("modern",)
REQUIRES = (
    "mcp<2", "openai-agents>=0.24", "langchain>=1.4", "langchain-openai>=1.7", "langchain-mcp-adapters>=0.3",
    "pydantic-ai-slim[openai,mcp]>=2",
)  # fmt: skip
SERVER = Path(__file__).parents[1] / "_mcp_servers.py"
NEEDS = {
    "openai_agents": ("agents",),
    "langchain": ("langchain_mcp_adapters",),
    "pydantic_ai": ("pydantic_ai", "fastmcp"),
}
WAYS = 3

PROGRAMS = {
    "openai_agents": """
import asyncio, os, sys
from agents import Agent, OpenAIChatCompletionsModel, Runner
from agents.mcp import MCPServerStdio
from openai import AsyncOpenAI

async def main():
    model = OpenAIChatCompletionsModel("stub", AsyncOpenAI(base_url=os.environ["URL"], api_key="none"))
    parameters = {"command": sys.executable, "args": [os.environ["SERVER"]]}
    async with MCPServerStdio(params=parameters, client_session_timeout_seconds=60) as server:
        agent = Agent(name="helper", model=model, mcp_servers=[server])
        print((await Runner.run(agent, "What is the weather?")).final_output)

asyncio.run(main())
""",
    "langchain": """
import asyncio, os, sys
from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI

async def main():
    server = {"command": sys.executable, "args": [os.environ["SERVER"]], "transport": "stdio"}
    tools = await MultiServerMCPClient({"weather": server}).get_tools()
    model = ChatOpenAI(model="stub", base_url=os.environ["URL"], api_key="none")
    agent = create_agent(model, tools, name="helper")
    answer = await agent.ainvoke({"messages": [{"role": "user", "content": "What is the weather?"}]})
    print(answer["messages"][-1].content)

asyncio.run(main())
""",
    "pydantic_ai": """
import asyncio, os, sys
from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

async def main():
    model = OpenAIChatModel("stub", provider=OpenAIProvider(base_url=os.environ["URL"], api_key="none"))
    tools = MCPToolset(StdioTransport(sys.executable, [os.environ["SERVER"]]))
    agent = Agent(model, name="helper", toolsets=[tools])
    print((await agent.run("What is the weather?")).output)

asyncio.run(main())
""",
}


def told(framework: str, folder: Path, *turns: object) -> Told:
    program = folder / "program.py"
    program.write_text(PROGRAMS[framework])
    with ModelServer(*[*turns, "It is sunny."] * WAYS) as model:  # type: ignore[list-item]
        env = {"URL": model.url, "SERVER": str(SERVER), "OPENAI_API_KEY": ""}
        return three_ways(program, folder, env=env)


@pytest.mark.parametrize("framework", PROGRAMS)
def test_an_agents_tool_over_mcp_is_one_call(framework: str, tmp_path: Path) -> None:
    if not all(map(find_spec, NEEDS[framework])):
        pytest.skip(f"{framework} is not installed here")
    if framework == "langchain" and hasattr(mcp, "Client"):
        pytest.skip("its adapters need version 1 of the SDK")
    rome, atlantis = ("get_weather", {"city": "Rome"}), ("get_weather", {"city": "Atlantis"})
    report = told(framework, tmp_path, calls(rome, atlantis), calls(rome))
    assert report.agents == {"helper": 1}
    assert report.tools == {"get_weather": 3}
    assert report.llm == {"stub": 3}
    assert (report.tokens["input"], report.tokens["output"]) == (3 * INPUT, 3 * OUTPUT)
    failed = [stat["errors"] for run in report.document["runs"] for stat in run["operations"] if stat["kind"] == "tool"]
    assert failed == [1]
