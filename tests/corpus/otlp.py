"""Runs as OTLP JSON: ids, recorded times with their jitter, and what is above a run in its trace."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, NamedTuple

from .dialects import scope, write
from .program import Program, Span
from .world import World

EPOCH_NS = 1_760_000_000_000_000_000
_HAIR = 100
"""a recorded time is off by at most this part of the shortest span: jitter never turns a sequence around"""
_REMOTE_PARENT = 0x300
_SIDES = {"db": 3, "http": 3, "llm": 3, "embedding": 3}

Json = dict[str, Any]


class Recorded(NamedTuple):
    """A run in a file, by the ids that its report has."""

    trace_id: str
    root_id: str
    document: Json


def record(
    seed: str, world: World, program: Program, trace_id: str, parent: str | None, remote: bool, at_s: float
) -> Recorded:
    """The spans of one run, which starts `at_s` seconds after the epoch of the corpus, below `parent`."""
    random = Random(f"ids {seed}")
    ids = {id(span): f"{random.getrandbits(64) | 1:016x}" for span in program.spans}
    shift = min(world.jitter_s, min((span.seconds for span in program.spans if span.seconds), default=0.0) / _HAIR)
    scopes: dict[str, list[Json]] = defaultdict(list)
    for span in program.spans:
        above = ids[id(span.parent)] if span.parent else parent
        late = (random.uniform(0, shift), random.uniform(0, shift)) if span.parent else (0.0, shift)
        written = _span(span, world, ids, late, at_s)
        written.update({"traceId": trace_id, **({"parentSpanId": above} if above else {})})
        if remote and span.parent is None:
            written["flags"] = _REMOTE_PARENT
        scopes[scope(span, world)].append(written)
    random.shuffle(scopes[next(iter(scopes))])  # exporters write spans by end, batch by batch, in any order
    return Recorded(trace_id, ids[id(program.spans[0])], document(world.service, scopes.items()))


def document(service: str, scopes: Iterable[tuple[str, Sequence[Json]]]) -> Json:
    named = [{"scope": {"name": name}, "spans": list(spans)} for name, spans in scopes]
    resource = {"attributes": _attributes({"service.name": service})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": named}]}


def server_span(trace_id: str, span_id: str, seconds: float, at_s: float) -> Json:
    """The request in which agents ran."""
    told = {"http.request.method": "POST", "http.route": "/chat", "http.response.status_code": 200}
    start = EPOCH_NS + round(at_s * 1e9)
    return {
        "traceId": trace_id, "spanId": span_id, "name": "POST /chat", "kind": 2, "attributes": _attributes(told),
        "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + round(seconds * 1e9)), "status": {},
    }  # fmt: skip


def _span(span: Span, world: World, ids: dict[int, str], late: tuple[float, float], at_s: float) -> Json:
    name, attributes = write(span, world, ids)
    failed = span.error is not None or (span.kind == "http" and span.status >= 400)
    written: Json = {
        "spanId": ids[id(span)],
        "name": name,
        "kind": _SIDES.get(span.kind, 1),
        "startTimeUnixNano": str(EPOCH_NS + round((at_s + span.start + late[0]) * 1e9)),
        "endTimeUnixNano": str(EPOCH_NS + round((at_s + span.end + late[1]) * 1e9)),
        "attributes": _attributes(attributes),
        "status": {"code": 2, "message": f"{span.error or span.status}: it failed"} if failed else {},
    }
    if span.error:
        told = {"exception.type": span.error, "exception.message": f"{span.error}: it failed"}
        written["events"] = [
            {"name": "exception", "timeUnixNano": written["endTimeUnixNano"], "attributes": _attributes(told)}
        ]
    return written


def _attributes(values: Json) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": value if isinstance(value, str) else json.dumps(value)}
