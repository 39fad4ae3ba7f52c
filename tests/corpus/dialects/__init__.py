"""How a call looks on a span, one instrumentation a file: `attributes(span, world, ids)`.

`ids` gives the span id of each span written so far. A function returns the span's name and its attributes; None
among the values means that the attribute is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ..program import Span
from ..world import World
from . import plain

Written = tuple[str, dict[str, Any]]


def write(span: Span, world: World, ids: Mapping[int, str]) -> Written:
    """The name and attributes of a span as the world's instrumentations write them."""
    if span.kind in plain.KINDS:
        name, attributes = plain.attributes(span, world, ids)
    else:
        dialect = import_module(f"{__package__}.{world.dialect.removesuffix('_hidden')}")
        name, attributes = dialect.attributes(span, world, ids)
    return name, {key: value for key, value in attributes.items() if value is not None}


def scope(span: Span, world: World) -> str:
    if span.kind == "cache" or (world.dialect == "agentperf" and span.kind not in (*plain.KINDS, "step")):
        return "otel_agentperf"
    library = {"db": "opentelemetry.instrumentation.psycopg", "http": "opentelemetry.instrumentation.httpx"}
    return library.get(span.kind, f"instrumentation.{world.dialect}")
