"""otel-agentperf: says why an AI agent run is slow, costly or failing, on OpenTelemetry.

The names are imported when they are first used, so that `import otel_agentperf` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy

if TYPE_CHECKING:
    from .analysis.analyze import analyze
    from .capture.decorators import agent, cached, llm, retrieval, tool
    from .processor import AgentPerfSpanProcessor, off_report, on_report
    from .sampling import AgentPerfSampler, TailSamplingProcessor
    from .wiring import instrument, uninstrument

__all__ = [
    "AgentPerfSampler",
    "AgentPerfSpanProcessor",
    "TailSamplingProcessor",
    "agent",
    "analyze",
    "cached",
    "instrument",
    "llm",
    "off_report",
    "on_report",
    "retrieval",
    "tool",
    "uninstrument",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "analysis.analyze": ("analyze",),
        "capture.decorators": ("agent", "cached", "llm", "retrieval", "tool"),
        "processor": ("AgentPerfSpanProcessor", "off_report", "on_report"),
        "sampling": ("AgentPerfSampler", "TailSamplingProcessor"),
        "wiring": ("instrument", "uninstrument"),
    },
)
