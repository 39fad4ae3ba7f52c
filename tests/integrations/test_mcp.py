"""MCP: a tool call counts once, wherever its server is, and is told by the side that traces."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind
from pydantic import BaseModel

import otel_agentperf
from _mcp_servers import MAJOR, connected, weather_server
from _recorded import Recorded, counted
from _three_ways import three_ways
from otel_agentperf import agent, tool

ENVIRONMENTS = ("modern",)
REQUIRES = ("mcp<2",)
TESTS = Path(__file__).parents[1]
SERVER = TESTS / "_mcp_servers.py"
only_1 = pytest.mark.skipif(MAJOR != 1, reason="version 2 does this itself")
only_2 = pytest.mark.skipif(MAJOR != 2, reason="version 1 cannot do this")


class Seat(BaseModel):
    place: str


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def recorded(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The SDK's own spans go to the test's provider, too: it takes the global one, which the tests do not set."""
    if MAJOR == 2:
        from mcp.shared import _otel

        monkeypatch.setattr(_otel, "_tracer", recorded.provider.get_tracer("mcp-python-sdk"))
    return recorded


def in_agent(work: Callable[[], Any]) -> Any:
    @agent(name="helper")
    async def helper() -> Any:
        return await work()

    return asyncio.run(helper())


async def ask(*cities: str, **options: Any) -> list[Any]:
    async with connected(weather_server(), **options) as client:
        return [await client.call_tool("get_weather", {"city": city}) for city in cities]


def text(result: Any) -> str:
    return str(result.content[0].text)


def is_error(result: Any) -> bool:
    return bool(result.is_error if MAJOR == 2 else result.isError)


def test_a_call_counts_once_though_both_sides_tell_it(recorded: Recorded) -> None:
    (answer,) = in_agent(lambda: ask("Rome"))
    assert text(answer) == "sunny in Rome"
    assert counted(recorded.report, "tool") == {"get_weather": 1}
    client, server = recorded.named("tools/call get_weather")
    assert recorded.parent(client) == "invoke_agent helper"
    assert (client.kind, server.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert recorded.traces == 1


@only_2
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_server_in_the_clients_process_is_below_its_call(recorded: Recorded, mode: str) -> None:
    in_agent(lambda: ask("Rome", "Oslo", mode=mode))
    assert counted(recorded.report, "tool") == {"get_weather": 2}
    assert [span.operation for span in recorded.report.run.spans if span.name == "tools/call get_weather"] == [
        "get_weather"
    ] * 4


def test_what_the_tool_does_belongs_to_the_call(recorded: Recorded) -> None:
    @tool(name="look_up")
    def look_up() -> None: ...

    async def work() -> None:
        async with connected(weather_server(look_up)) as client:
            await client.call_tool("get_weather", {"city": "Rome"})

    in_agent(work)
    assert recorded.parent(recorded.one("execute_tool look_up")) == "tools/call get_weather"
    assert counted(recorded.report, "tool") == {"get_weather": 1, "look_up": 1}


def test_the_span_tells_the_tool_and_hides_the_content(recorded: Recorded) -> None:
    in_agent(lambda: ask("Rome", "Rome", "Oslo"))
    calls = [span for span in recorded.named("tools/call get_weather") if span.kind is SpanKind.CLIENT]
    first, again, other = [dict(span.attributes or {}) for span in calls]
    assert first["gen_ai.operation.name"] == "execute_tool"
    assert first["gen_ai.tool.name"] == "get_weather"
    assert first["mcp.method.name"] == "tools/call"
    for key in ("agentperf.args.hash", "agentperf.result.hash"):
        assert first[key] == again[key] != other[key]
    for span in recorded.spans:
        assert "Rome" not in span.to_json()
    server = next(span for span in recorded.named("tools/call get_weather") if span.kind is SpanKind.SERVER)
    for key in ("agentperf.args.hash", "agentperf.result.hash", "agentperf.result.size"):
        assert (server.attributes or {})[key] == first[key]


def test_content_is_told_where_it_is_asked_for(instrumented: Callable[..., Recorded]) -> None:
    recorded = instrumented(content=True)
    in_agent(lambda: ask("Rome"))
    (told, *_) = [dict(span.attributes or {}) for span in recorded.named("tools/call get_weather")]
    assert told["gen_ai.tool.call.arguments"] == '{"city":"Rome"}'
    assert told["gen_ai.tool.call.result"] == "sunny in Rome"


def test_an_error_result_is_a_failed_call(recorded: Recorded) -> None:
    answers = in_agent(lambda: ask("Atlantis", "Rome"))
    assert [is_error(answer) for answer in answers] == [True, False]
    (stat,) = [stat for stat in recorded.report.operations if stat.kind == "tool"]
    assert (stat.calls, stat.errors) == (2, 1)
    told = [(span.attributes or {}).get("error.type") for span in recorded.named("tools/call get_weather")]
    assert told == ["tool_error", "tool_error", None, None]


def test_a_call_that_takes_too_long_is_a_failed_one_and_raises(recorded: Recorded) -> None:
    from datetime import timedelta

    async def work() -> None:
        async with connected(weather_server()) as client:
            limit: Any = 0.05 if MAJOR == 2 else timedelta(seconds=0.05)
            with pytest.raises(Exception, match=r"[Tt]imed out"):
                await client.call_tool("wait", {"seconds": 30}, read_timeout_seconds=limit)

    in_agent(work)
    (stat,) = [stat for stat in recorded.report.operations if stat.kind == "tool"]
    assert (stat.name, stat.calls, stat.errors) == ("wait", 1, 1)


def test_a_cancelled_call_has_the_error_type_of_its_cancellation(recorded: Recorded) -> None:
    async def work() -> None:
        async with connected(weather_server()) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.call_tool("wait", {"seconds": 30}), 0.05)

    in_agent(work)
    client = next(span for span in recorded.named("tools/call wait") if span.kind is SpanKind.CLIENT)
    assert (client.attributes or {})["error.type"] == "CancelledError"
    assert counted(recorded.report, "tool") == {"wait": 1}


def test_calls_at_once_are_siblings(recorded: Recorded) -> None:
    async def work() -> None:
        async with connected(weather_server()) as client:
            await asyncio.gather(*(client.call_tool("wait", {"seconds": 0.05}) for _ in range(3)))

    in_agent(work)
    clients = [span for span in recorded.named("tools/call wait") if span.kind is SpanKind.CLIENT]
    assert [recorded.parent(span) for span in clients] == ["invoke_agent helper"] * 3
    assert counted(recorded.report, "tool") == {"wait": 3}


def test_listing_and_reading_are_no_tool_calls(recorded: Recorded) -> None:
    async def work() -> None:
        async with connected(weather_server()) as client:
            await client.list_tools()
            await client.list_prompts()
            await client.get_prompt("greet", {"name": "Bob"})
            await client.read_resource("notes://tea")

    in_agent(work)
    assert counted(recorded.report, "tool") == {}
    assert {"tools/list", "prompts/list", "prompts/get greet"} <= {
        name.removeprefix("MCP send ") for name in names(recorded)
    }
    assert recorded.traces == 1


def names(recorded: Recorded) -> list[str]:
    return [span.name for span in recorded.spans]


@only_1
def test_only_tool_calls_are_told_where_nothing_is_traced(recorded: Recorded) -> None:
    async def work() -> None:
        async with connected(weather_server()) as client:
            await client.list_tools()
            await client.call_tool("get_weather", {"city": "Rome"})

    asyncio.run(work())
    # The SDK itself lists the tools when it checks a result.
    assert set(names(recorded)) <= {"tools/call get_weather", "tools/list"}
    assert recorded.traces == 1


def test_outside_of_an_agent_a_call_is_a_run_of_its_own(recorded: Recorded) -> None:
    asyncio.run(ask("Rome", "Oslo"))
    reports = [report for report in recorded.reports if counted(report, "tool")]
    assert [counted(report, "tool") for report in reports] == [{"get_weather": 1}] * 2


def test_the_trace_context_reaches_a_server_in_another_process(recorded: Recorded) -> None:
    async def work() -> str:
        parameters = StdioServerParameters(command=sys.executable, args=[str(SERVER)])
        async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
            await session.initialize()
            return text(await session.call_tool("caller", {}))

    told = in_agent(work)
    trace_id = recorded.one("invoke_agent helper").context.trace_id
    assert f"{trace_id:032x}" in told
    span_ids = {f"{span.context.span_id:016x}" for span in recorded.spans}
    assert told.split("-")[2] in span_ids


@only_1
def test_a_meta_of_the_programs_own_arrives_as_it_is(recorded: Recorded) -> None:
    async def work() -> str:
        async with connected(weather_server()) as client:
            return text(await client.call_tool("caller", {}, meta={"own": 1}))

    assert in_agent(work) == "None"
    assert counted(recorded.report, "tool") == {"caller": 1}


def test_a_server_by_itself_tells_its_calls(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = Path(sys.executable).with_name("agentperf")
    arguments = ["run", "--format", "json", "--output", str(report), str(SERVER)]

    async def work() -> None:
        env = {"PATH": os.environ["PATH"]}
        parameters = StdioServerParameters(command=str(command), args=arguments, env=env)
        async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
            await session.initialize()
            for city in ("Rome", "Atlantis"):
                await session.call_tool("get_weather", {"city": city})

    asyncio.run(work())
    runs = json.loads(report.read_text())["runs"]
    tools = [
        (stat["name"], stat["calls"], stat["errors"])
        for run in runs
        for stat in run["operations"]
        if stat["kind"] == "tool"
    ]
    assert tools == [("get_weather", 1, 0), ("get_weather", 1, 1)]


def test_nothing_is_told_where_instrumentation_is_suppressed(recorded: Recorded) -> None:
    with suppress_instrumentation():
        asyncio.run(ask("Rome"))
    assert [span.name for span in recorded.spans if span.instrumentation_scope.name == "otel_agentperf"] == []


def test_nothing_is_told_after_uninstrument(recorded: Recorded) -> None:
    otel_agentperf.uninstrument()
    (answer,) = asyncio.run(ask("Rome"))
    assert text(answer) == "sunny in Rome"
    assert [span.name for span in recorded.spans if span.instrumentation_scope.name == "otel_agentperf"] == []


@only_2
def test_a_call_with_several_rounds_is_one(recorded: Recorded) -> None:
    from mcp.server.mcpserver import AcceptedElicitation, Elicit, ElicitationResult, MCPServer, Resolve
    from mcp.types import ElicitResult

    server = MCPServer("travel", log_level="CRITICAL")

    async def book(city: str, seat: Any) -> str:
        return f"{city} {seat.data.place if isinstance(seat, AcceptedElicitation) else 'anywhere'}"

    async def ask_seat() -> Any:
        return Elicit("Which seat?", Seat)

    book.__annotations__["seat"] = Annotated[ElicitationResult[Seat], Resolve(ask_seat)]
    ask_seat.__annotations__["return"] = Elicit[Seat]
    server.tool()(book)

    async def answer(context: Any, params: Any) -> Any:
        return ElicitResult(action="accept", content={"place": "12A"})

    async def work() -> str:
        async with connected(server, elicitation_callback=answer) as client:
            return text(await client.call_tool("book", {"city": "Rome"}))

    assert in_agent(work) == "Rome 12A"
    assert counted(recorded.report, "tool") == {"book": 1}
    assert len(recorded.named("tools/call book")) == 3


PROGRAM = f"""
import asyncio, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from otel_agentperf import agent

@agent
async def helper(cities):
    parameters = StdioServerParameters(command=sys.executable, args=[{str(SERVER)!r}])
    async with stdio_client(parameters) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            print([tool.name for tool in (await session.list_tools()).tools])
            for city in cities:
                answer = await session.call_tool("get_weather", arguments={{"city": city}})
                print(answer.content[0].text)

asyncio.run(helper(["Rome", "Oslo", "Atlantis"]))
"""


def test_a_program_told_three_ways(tmp_path: Path) -> None:
    told = three_ways(PROGRAM, tmp_path)
    assert told.runs == ["helper"]
    assert told.tools == {"get_weather": 3}
    assert told.errors["get_weather"] >= 1
