"""What arrived: questions to Jaeger, Prometheus and the Collector's file, with plain Python answers."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from e2e._stack import Stack


def get_json(url: str, **query: object) -> Any:
    """GET, and the JSON that comes back. Raises urllib.error.HTTPError for a status of 400 and above."""
    if query:
        url += "?" + urllib.parse.urlencode(query)
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def jaeger_trace(stack: Stack, trace_id: str) -> list[dict[str, Any]]:
    """The OTLP JSON spans of a trace, or none while Jaeger does not know it."""
    try:
        document = get_json(f"{stack.jaeger}/api/v3/traces/{trace_id}")
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                return []
            raise
    return spans_of(document["result"])


def jaeger_search(stack: Stack, service: str, **tags: str) -> list[str]:
    """The ids of the service's traces that have a span with all of these attributes.

    Attribute names go in as they are: `jaeger_search(stack, "s", **{"agentperf.grade": "D"})`. This is the
    older API: /api/v3 has no attribute search in the Jaeger that these tests build.
    """
    found = get_json(f"{stack.jaeger}/api/traces", service=service, tags=json.dumps(tags), limit=100)
    return [trace["traceID"] for trace in found["data"]]


def jaeger_calls(stack: Stack, service: str, kind: str = "internal") -> list[dict[str, Any]]:
    """What the Monitor tab draws: one series of call rates for each span name."""
    answer = get_json(
        f"{stack.jaeger}/api/metrics/calls",
        service=service,
        spanKind=kind,
        groupByOperation="true",
        endTs=int(time.time() * 1000),
        lookback=600_000,
        step=5_000,
        ratePer=60_000,
    )
    return list(answer["metrics"])


def prometheus_query(stack: Stack, expression: str) -> list[tuple[dict[str, str], float]]:
    """The labels and the value of each series of an instant query."""
    answer = get_json(f"{stack.prometheus}/api/v1/query", query=expression)
    return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]


def file_spans(stack: Stack, trace_id: str) -> list[dict[str, Any]]:
    """The spans of a trace in the Collector's file, which holds one OTLP JSON document a line."""
    if not stack.traces_file.exists():
        return []
    # A line without its newline is still being written.
    lines = [line for line in stack.traces_file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [span for line in lines for span in spans_of(json.loads(line)) if span["traceId"] == trace_id]


def spans_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The spans of an OTLP JSON document, whatever resource and scope they are in."""
    return [
        span
        for resource in document.get("resourceSpans", [])
        for scope in resource.get("scopeSpans", [])
        for span in scope.get("spans", [])
    ]


def attributes(item: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an OTLP JSON span, event or link as a dict of Python values."""
    return {pair["key"]: _value(pair["value"]) for pair in item.get("attributes", [])}


def _value(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "arrayValue":
        return [_value(each) for each in content.get("values", [])]
    if kind == "kvlistValue":
        return {pair["key"]: _value(pair["value"]) for pair in content.get("values", [])}
    # Protobuf's JSON writes 64-bit integers as strings.
    return int(content) if kind == "intValue" else content
