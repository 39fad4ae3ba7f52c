"""otel-agentperf: says why an AI agent run is slow, costly or failing, on OpenTelemetry.

The names are imported when they are first used, so that `import otel_agentperf` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis.analyze import analyze
    from .capture.decorators import agent, cached, llm, retrieval, tool
    from .instrumentor import instrument, uninstrument
    from .processor import AgentPerfSpanProcessor, on_report

__all__ = [
    "AgentPerfSpanProcessor",
    "agent",
    "analyze",
    "cached",
    "instrument",
    "llm",
    "on_report",
    "retrieval",
    "tool",
    "uninstrument",
]

_HOMES = {
    **dict.fromkeys(("agent", "cached", "llm", "retrieval", "tool"), "capture.decorators"),
    **dict.fromkeys(("instrument", "uninstrument"), "instrumentor"),
    **dict.fromkeys(("AgentPerfSpanProcessor", "on_report"), "processor"),
    "analyze": "analysis.analyze",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
