"""Our own spans with content off: the GenAI conventions, hashes and sizes instead of content, and dependence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..program import Span
from ..world import World
from .plain import digest
from .semconv import core


def attributes(span: Span, world: World, ids: Mapping[int, str]) -> tuple[str, dict[str, Any]]:
    name, told = core(span, world, ids)
    if span.kind == "step":
        return name, told
    given = span.messages if span.kind == "llm" else span.args
    told["agentperf.args.hash"] = None if given is None else digest(given)
    told["agentperf.args.size"] = None if given is None else len(str(given))
    told["agentperf.cpu_time"] = span.cpu
    if span.kind in ("tool", "retrieval", "embedding") and span.error is None:
        told["agentperf.result.hash"] = digest(span.result)
        told["agentperf.result.size"] = span.result_size
        told["agentperf.result.type"] = "dict"
    if span.kind == "tool":
        told["agentperf.depends_on"] = [ids[id(earlier)] for earlier in span.uses]
    return name, told
