"""Hand-made traces: a tree of spans in seconds, laid out in time and classified like real ones.

    run = run_of(agent("planner", llm(1.0), tool("search", 0.5, args={"q": "tea"}), wait(0.2), llm(1.0)))

Children follow each other; `wait(s)` is the parent's own time, `together(...)` starts all at the same moment,
`at=` puts a span at that many seconds after its parent's start. Without seconds of its own a span lasts until
its last child has ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from otel_agentperf.analysis.analyze import find_bottlenecks
from otel_agentperf.analysis.classify import RawSpan, classify
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.model import AgentRun, Finding, SpanRecord

EPOCH_NS = 1_700_000_000_000_000_000
TRACE_ID = "a" * 32


@dataclass(frozen=True)
class Node:
    """A span to be. Times in seconds; `end` of the span is `seconds` or the end of its last child."""

    name: str
    seconds: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[Part, ...] = ()
    at: float | None = None
    failed: bool = False
    scope: str = "test"
    side: str = "internal"
    remote_parent: bool = False
    span_id: str | None = None
    parent_id: str | None = None
    """only for a top span: a parent that is not in the trace"""
    process: str = ""

    def but(self, **changes: Any) -> Node:
        """The same node with other fields."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Together:
    nodes: tuple[Node, ...]


Part = Node | Wait | Together


def span(name: str, *parts: Part | float, attributes: Mapping[str, Any] | None = None, **fields: Any) -> Node:
    """Any span. A bare number among the parts is its duration."""
    children = tuple(part for part in parts if not isinstance(part, (int, float)))
    seconds = next((float(part) for part in parts if isinstance(part, (int, float))), None)
    return Node(name, seconds, attributes or {}, children, **fields)


def wait(seconds: float) -> Wait:
    return Wait(seconds)


def together(*nodes: Node) -> Together:
    return Together(nodes)


def node(name: str, *parts: Part | float, **fields: Any) -> Node:
    """A framework's step, such as a graph node: no convention says what it is."""
    return span(name, *parts, **fields)


def agent(name: str, *parts: Part | float, more: Mapping[str, Any] | None = None, **fields: Any) -> Node:
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, **(more or {})}
    return span(f"invoke_agent {name}", *parts, attributes=attributes, **fields)


def tool(
    name: str,
    *parts: Part | float,
    args: Any = None,
    result: Any = None,
    hashed: bool = False,
    depends_on: Iterable[str] | None = None,
    call_id: str | None = None,
    cpu: float | None = None,
    error: str | None = None,
    more: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Node:
    """A tool call. `args` and `result` are visible, or with `hashed` only their hashes are."""
    attributes: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    if hashed:
        attributes["agentperf.args.hash"] = None if args is None else f"h{_text(args)}"
        attributes["agentperf.result.hash"] = None if result is None else f"h{_text(result)}"
    else:
        attributes["gen_ai.tool.call.arguments"] = None if args is None else _text(args)
        attributes["gen_ai.tool.call.result"] = None if result is None else _text(result)
    attributes["agentperf.depends_on"] = None if depends_on is None else tuple(depends_on)
    attributes["gen_ai.tool.call.id"] = call_id
    attributes["agentperf.cpu_time"] = cpu
    attributes["error.type"] = error
    known = {key: value for key, value in attributes.items() if value is not None}
    return span(f"execute_tool {name}", *parts, attributes={**known, **(more or {})}, failed=bool(error), **fields)


def llm(
    *parts: Part | float,
    model: str = "gpt",
    tokens: tuple[int | None, int | None] = (None, None),
    messages: Any = None,
    result: Any = None,
    error: str | None = None,
    more: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Node:
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": tokens[0],
        "gen_ai.usage.output_tokens": tokens[1],
        "gen_ai.input.messages": None if messages is None else _text(messages),
        "gen_ai.output.messages": None if result is None else _text(result),
        "error.type": error,
    }
    known = {key: value for key, value in attributes.items() if value is not None}
    return span(f"chat {model}", *parts, attributes={**known, **(more or {})}, failed=bool(error), **fields)


def retrieval(name: str, *parts: Part | float, more: Mapping[str, Any] | None = None, **fields: Any) -> Node:
    attributes = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": name, **(more or {})}
    return span(f"retrieval {name}", *parts, attributes=attributes, **fields)


def db(
    query: str,
    *parts: Part | float,
    system: str = "postgresql",
    parameters: Mapping[str, Any] | None = None,
    error: str | None = None,
    **fields: Any,
) -> Node:
    """A database call; bound parameters as `db.query.parameter.*`."""
    bound = {f"db.query.parameter.{key}": value for key, value in (parameters or {}).items()}
    attributes = {"db.system.name": system, "db.query.text": query, **bound}
    if error:
        attributes["error.type"] = error
    return span(query.split(" ")[0], *parts, attributes=attributes, side="client", failed=bool(error), **fields)


def http(
    url: str,
    *parts: Part | float,
    method: str = "GET",
    status: int = 200,
    more: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Node:
    attributes = {"http.request.method": method, "url.full": url, "http.response.status_code": status, **(more or {})}
    return span(method, *parts, attributes=attributes, side="client", **fields)


def cache(
    name: str,
    *parts: Part | float,
    key: str | None = None,
    hit: bool | None = None,
    operation: str = "get",
    counted: bool = False,
    **fields: Any,
) -> Node:
    """An operation on a cache; without `hit`, one that is no look-up."""
    attributes: dict[str, Any] = {"agentperf.cache.name": name, "agentperf.cache.operation": operation}
    if hit is not None:
        attributes["agentperf.cache.hit"] = hit
    if key is not None:
        attributes["agentperf.cache.key.hash"] = key
    if counted:
        attributes["agentperf.cache.counted"] = True
    return span(f"cache {operation} {name}", *parts, attributes=attributes, **fields)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def raw_spans(*tops: Node, trace_id: str = TRACE_ID, start_s: float = 0.0) -> list[RawSpan]:
    """The spans of the trees, parents first, with ids by order."""
    numbers = count(1)
    spans: list[RawSpan] = []
    for top in tops:
        _place(top, top.parent_id, start_s + (top.at or 0.0), numbers, spans, trace_id)
    return spans


def records(*tops: Node, **where: Any) -> list[SpanRecord]:
    return [classify(raw) for raw in raw_spans(*tops, **where)]


def run_of(*tops: Node, thresholds: Mapping[str, float] | None = None, **where: Any) -> AgentRun:
    """The one run of the trace."""
    runs = find_runs(records(*tops, **where), thresholds)
    assert len(runs) == 1, f"{len(runs)} runs"
    return runs[0]


def findings(run: AgentRun, kind: str | None = None) -> list[Finding]:
    """What a report would hold: replayed, above the least saving, each call spoken for once."""
    return [finding for finding in find_bottlenecks(run) if kind in (None, finding.kind)]


def the_finding(run: AgentRun, kind: str) -> Finding:
    """The only finding of the kind."""
    found = findings(run, kind)
    assert len(found) == 1, [(finding.kind, finding.operation) for finding in findings(run)]
    return found[0]


def calls_of(run: AgentRun, operation: str) -> tuple[str, ...]:
    """The span ids of an operation, in time order."""
    return tuple(member.span_id for member in run.spans if member.operation == operation)


def saving_of(broken: Node, repaired: Node) -> float:
    """What the fix saves, by the trace of the repaired program."""
    return run_of(broken).root.duration_s - run_of(repaired).root.duration_s


def _place(
    tree: Node, parent_id: str | None, start: float, numbers: Iterator[int], spans: list[RawSpan], trace_id: str
) -> float:
    """Append the span and all below it; returns its end."""
    span_id = tree.span_id or f"{next(numbers):016x}"
    place = len(spans)
    spans.append(None)  # type: ignore[arg-type]
    now = latest = start
    for part in tree.children:
        if isinstance(part, Wait):
            now += part.seconds
        elif isinstance(part, Together):
            ends = [_place(child, span_id, now, numbers, spans, trace_id) for child in part.nodes]
            now = max(ends, default=now)
        elif part.at is not None:
            latest = max(latest, _place(part, span_id, start + part.at, numbers, spans, trace_id))
        else:
            now = _place(part, span_id, now, numbers, spans, trace_id)
        latest = max(latest, now)
    end = latest if tree.seconds is None else start + tree.seconds
    spans[place] = RawSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=tree.name,
        attributes=tree.attributes,
        start_ns=EPOCH_NS + round(start * 1e9),
        end_ns=EPOCH_NS + round(end * 1e9),
        failed=tree.failed,
        scope=tree.scope,
        service="svc",
        side=tree.side,
        remote_parent=tree.remote_parent,
        process=tree.process,
    )
    return end
