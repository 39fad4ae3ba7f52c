"""The same three programs under somebody else's instrumentation and ours, told as JSON: see `test_beside_others`.

python _beside.py VENDOR ours-first|theirs-first|theirs-only
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

INSTRUMENTORS = {
    "openinference": (
        "openinference.instrumentation.langchain:LangChainInstrumentor",
        "openinference.instrumentation.openai:OpenAIInstrumentor",
        "openinference.instrumentation.openai_agents:OpenAIAgentsInstrumentor",
    ),
    "openllmetry": (
        "opentelemetry.instrumentation.langchain:LangchainInstrumentor",
        "opentelemetry.instrumentation.openai:OpenAIInstrumentor",
        "opentelemetry.instrumentation.openai_agents:OpenAIAgentsInstrumentor",
    ),
    "official": (
        "opentelemetry.instrumentation.genai.langchain:LangChainInstrumentor",
        "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor",
        "opentelemetry.instrumentation.genai.openai_agents:OpenAIAgentsInstrumentor",
    ),
    "openai-v2": ("opentelemetry.instrumentation.openai_v2:OpenAIInstrumentor",),
}
VENDORS = (*INSTRUMENTORS, "logfire")


def theirs(vendor: str) -> None:
    """Switch on everything the vendor has for these libraries."""
    if vendor == "logfire":
        import logfire

        logfire.instrument_openai()
        logfire.instrument_openai_agents()
        return
    for named in INSTRUMENTORS[vendor]:
        module, _, name = named.partition(":")
        getattr(import_module(module), name)().instrument()


def ours() -> None:
    import otel_agentperf

    otel_agentperf.instrument()


def langgraph() -> None:
    """An agent with two tools, one of which asks another agent."""
    from langchain.agents import create_agent
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    from _model_server import ModelServer, calls

    asked = calls(("get_weather", {"city": "Rome"}), ("ask_expert", {"question": "where?"}))
    with ModelServer(asked, "There.", "Go there.") as server:
        model = ChatOpenAI(model="stub", base_url=server.url, api_key="none")  # type: ignore[arg-type]
        expert = create_agent(model, [], name="expert")

        @tool
        def get_weather(city: str) -> str:
            "The weather."
            import time

            time.sleep(0.2)  # so that the expert's answer comes first
            return f"sunny in {city}"

        @tool
        def ask_expert(question: str) -> str:
            "Ask the expert."
            answer = expert.invoke({"messages": [{"role": "user", "content": question}]})
            return str(answer["messages"][-1].content)

        planner = create_agent(model, [get_weather, ask_expert], name="planner")
        answer = planner.invoke({"messages": [{"role": "user", "content": "Where to?"}]})
        assert answer["messages"][-1].content == "Go there."


def openai_agents() -> None:
    """An agent that hands over to another, which has a tool."""
    from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool
    from openai import AsyncOpenAI

    from _model_server import ModelServer, calls

    @function_tool
    def get_weather(city: str) -> str:
        "The weather."
        return f"sunny in {city}"

    async def work() -> None:
        asked = calls(("get_weather", {"city": "Rome"}))
        with ModelServer(calls(("transfer_to_expert", {})), asked, "Go there.") as server:
            model = OpenAIChatCompletionsModel("stub", AsyncOpenAI(base_url=server.url, api_key="none"))
            expert = Agent(name="expert", model=model, tools=[get_weather])
            triage = Agent(name="triage", model=model, handoffs=[expert])
            assert (await Runner.run(triage, "Where to?")).final_output == "Go there."

    asyncio.run(work())


def openai_client() -> None:
    """The bare client: an answer, a streamed one, a streamed one that is left early, a response."""
    from openai import OpenAI

    import otel_agentperf
    from _model_server import ModelServer

    messages: Any = [{"role": "user", "content": "hi"}]
    with ModelServer() as server, otel_agentperf.agent("caller"):
        client = OpenAI(base_url=server.url, api_key="none")
        assert client.chat.completions.create(model="stub", messages=messages).choices
        options: Any = {"stream": True, "stream_options": {"include_usage": True}}
        assert list(client.chat.completions.create(model="stub", messages=messages, **options))
        with client.chat.completions.create(model="stub", messages=messages, stream=True) as stream:
            next(iter(stream))
        assert client.responses.create(model="stub", input="hi").output_text == "ok"


PROGRAMS: dict[str, Callable[[], None]] = {
    program.__name__: program for program in (langgraph, openai_agents, openai_client)
}


def told(reports: list[Any]) -> dict[str, Any]:
    """What the reports of a program say in all."""
    counts: dict[str, Any] = {"agent": {}, "tool": {}, "llm": {}}
    above: list[tuple[str, str]] = []
    for report in reports:
        for stat in report.operations:
            if stat.kind in counts:
                counts[stat.kind][stat.name] = counts[stat.kind].get(stat.name, 0) + stat.calls
        above += _parents(report.run)
    tokens = [report.tokens for report in reports]
    total = {name: sum(getattr(one, name) or 0 for one in tokens) for name in ("input", "output")}
    return {**counts, "tokens": total, "below": sorted(above), "runs": [report.root.operation for report in reports]}


def _parents(run: Any) -> list[tuple[str, str]]:
    """Each agent and tool with the agent or tool it is in."""
    found = []
    for span in run.spans:
        if span.kind not in ("agent", "tool"):
            continue
        parent = run.by_id.get(span.parent_id)
        while parent is not None and parent.kind not in ("agent", "tool"):
            parent = run.by_id.get(parent.parent_id)
        found.append((span.operation, parent.operation if parent is not None else ""))
    return found


def main(vendor: str, order: str) -> None:
    import otel_agentperf

    if vendor == "logfire":
        import logfire

        logfire.configure(send_to_logfire=False, console=False)
    else:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        trace.set_tracer_provider(TracerProvider())
    if order == "theirs-only":
        os.environ["OTEL_AGENTPERF_DISABLED_INTEGRATIONS"] = "langchain,openai,openai_agents"
    for switch_on in (ours, lambda: theirs(vendor)) if order == "ours-first" else (lambda: theirs(vendor), ours):
        switch_on()
    document = {}
    for name, program in PROGRAMS.items():
        reports: list[Any] = []
        otel_agentperf.on_report(reports.append)
        program()
        document[name] = told(reports)
    print(json.dumps(document))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main(*sys.argv[1:])
