"""What flows: spans as records, a run of them, findings, and the report. Frozen, no behaviour beyond look-ups.

Times are integer nanoseconds since the Unix epoch (`*_ns`) or float seconds (`*_s`). The names are imported when they
are first used: making all these classes takes 10 ms, and what collects spans needs few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .findings import Change, Finding, Severity
    from .kinds import RUN_KINDS, Kind
    from .measured import CacheCounts, FullCpu, HotFrame, PastCalls, ResourceUsage, SpanProfile, Stall
    from .reports import AgentStats, CacheStats, Cost, OperationStats, Report, ScoreParts, Suppressed, total
    from .runs import AgentRun, PathSegment
    from .spans import PROMPT_BLOCK, CacheLookup, Prompt, SpanRecord, Tokens

__all__ = [
    "PROMPT_BLOCK",
    "RUN_KINDS",
    "AgentRun",
    "AgentStats",
    "CacheCounts",
    "CacheLookup",
    "CacheStats",
    "Change",
    "Cost",
    "Finding",
    "FullCpu",
    "HotFrame",
    "Kind",
    "OperationStats",
    "PastCalls",
    "PathSegment",
    "Prompt",
    "Report",
    "ResourceUsage",
    "ScoreParts",
    "Severity",
    "SpanProfile",
    "SpanRecord",
    "Stall",
    "Suppressed",
    "Tokens",
    "total",
]
_HOMES = {
    "findings": ("Change", "Finding", "Severity"),
    "kinds": ("RUN_KINDS", "Kind"),
    "measured": ("CacheCounts", "FullCpu", "HotFrame", "PastCalls", "ResourceUsage", "SpanProfile", "Stall"),
    "reports": ("AgentStats", "CacheStats", "Cost", "OperationStats", "Report", "ScoreParts", "Suppressed", "total"),
    "runs": ("AgentRun", "PathSegment"),
    "spans": ("PROMPT_BLOCK", "CacheLookup", "Prompt", "SpanRecord", "Tokens"),
}
__getattr__, __dir__ = lazy(__name__, _HOMES)
