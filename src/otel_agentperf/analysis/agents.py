"""A cheap look at a span that has just started: may it be a run?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import _semconv as names
from ..model import Kind

Attributes = Mapping[str, Any]

AGENT_OPERATIONS: dict[str, Kind] = {
    names.INVOKE_AGENT: "agent",
    names.INVOKE_WORKFLOW: "workflow",
    "invoke_swarm": "workflow",  # Strands
    "invoke_graph": "workflow",
}
_AGENT_NAMES = (f"{names.INVOKE_AGENT} ", f"{names.INVOKE_WORKFLOW} ", "invoke_swarm", "invoke_graph",
                "OpenAI Agents trace: {name}", "Agent run: {name!r}")  # fmt: skip


def looks_like_agent(name: str, attributes: Attributes) -> bool:
    """A cheap look at a span that has just started: is it an agent, a workflow, or a chain (which is a workflow
    where nothing of the kind is above it)?"""
    if not attributes:
        return name.startswith(_AGENT_NAMES)
    operation = attributes.get(names.GEN_AI_OPERATION_NAME)
    if operation is not None:
        return isinstance(operation, str) and operation in AGENT_OPERATIONS
    return (
        attributes.get("openinference.span.kind") == "AGENT"
        or attributes.get("traceloop.span.kind") in ("agent", "workflow")
        or is_chain(attributes)
        or name.startswith(_AGENT_NAMES)
    )


def is_log(attributes: Attributes) -> bool:
    """Logfire's messages are spans without a duration."""
    return attributes.get("logfire.span_type") == "log"


def is_chain(attributes: Attributes) -> bool:
    """OpenInference's and LangSmith's word for an agent, a graph, a node of it, or a pipeline alike."""
    chain = attributes.get("openinference.span.kind") == "CHAIN" or attributes.get("langsmith.span.kind") == "chain"
    return chain and names.GEN_AI_OPERATION_NAME not in attributes
