"""An MCP server for the tests, and a client connected to it in memory, whichever major version is installed.

Run as a program it serves on standard input and output: `python _mcp_servers.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp

MAJOR = 2 if hasattr(mcp, "Client") else 1
if MAJOR == 2:
    from mcp.server.mcpserver import Context, MCPServer
else:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer


def weather_server(on_call: Callable[[], None] = lambda: None) -> Any:
    """`get_weather` fails for Atlantis, `wait` waits, `caller` tells the trace context that came with the call."""
    server = MCPServer("weather", log_level="CRITICAL")

    @server.tool()
    def get_weather(city: str) -> str:
        "The weather."
        on_call()
        if city == "Atlantis":
            raise ValueError("no such city")
        return f"sunny in {city}"

    @server.tool()
    async def wait(seconds: float) -> str:
        import anyio

        await anyio.sleep(seconds)
        return "waited"

    @server.tool()
    async def caller(ctx: Context) -> str:
        meta = ctx.request_context.meta or {}
        told = meta if isinstance(meta, dict) else meta.model_dump()
        return str(told.get("traceparent"))

    @server.resource("notes://{name}")
    def note(name: str) -> str:
        return f"about {name}"

    @server.prompt()
    def greet(name: str) -> str:
        return f"Greet {name}."

    return server


@asynccontextmanager
async def connected(server: Any, **options: Any) -> AsyncIterator[Any]:
    """A client of `server` in this process. `options` are those of version 2's `Client`."""
    if MAJOR == 2:
        async with mcp.Client(server, **options) as client:
            yield client
    else:
        from mcp.shared.memory import create_connected_server_and_client_session

        async with create_connected_server_and_client_session(server._mcp_server) as session:
            yield session


if __name__ == "__main__":
    weather_server().run("stdio")
