"""otel-agentperf: says why an AI agent run is slow, costly or failing, on OpenTelemetry."""

from __future__ import annotations

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
