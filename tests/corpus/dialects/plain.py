"""Calls that look the same whoever instruments the agent: databases, http, and caches (which only we trace)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ..program import Span
from ..world import World

KINDS = ("db", "http", "cache")


def attributes(span: Span, world: World, ids: Mapping[int, str]) -> tuple[str, dict[str, Any]]:
    return {"db": _db, "http": _http, "cache": _cache}[span.kind](span, world)


def digest(value: Any) -> str:
    return hashlib.blake2b(str(value).encode(), digest_size=8).hexdigest()


def _db(span: Span, world: World) -> tuple[str, dict[str, Any]]:
    verb = span.name.split(" ")[0]
    system, text = ("db.system", "db.statement") if world.old_names else ("db.system.name", "db.query.text")
    is_redis = verb == "GET"
    bound = (world.bound_sql or span.hidden) and not is_redis
    query = (
        _bound(span.name) if bound else span.name.format(*map(_literal, span.values) if not is_redis else span.values)
    )
    told: dict[str, Any] = {system: "redis" if is_redis else "postgresql", text: query, "error.type": span.error}
    if bound and not span.hidden:
        told.update({f"db.query.parameter.{place}": str(value) for place, value in enumerate(span.values)})
    return verb, told


def _bound(template: str) -> str:
    parts = template.split("{}")
    return "".join(part + (f"${place}" if place < len(parts) else "") for place, part in enumerate(parts, 1))


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, (int, float)) else f"'{value}'"


def _http(span: Span, world: World) -> tuple[str, dict[str, Any]]:
    method = "POST" if span.sent is not None else "GET"
    names = ("http.method", "http.url", "http.status_code") if world.old_names else (
        "http.request.method", "url.full", "http.response.status_code"
    )  # fmt: skip
    told: dict[str, Any] = dict(zip(names, (method, span.name.format(*span.values), span.status), strict=True))
    told["http.response_content_length" if world.old_names else "http.response.body.size"] = span.size
    told["http.request_content_length" if world.old_names else "http.request.body.size"] = span.sent
    told["error.type"] = span.error or (str(span.status) if span.status >= 400 and not world.old_names else None)
    if span.retry_after is not None:
        told["http.response.header.retry-after"] = [str(span.retry_after)]
    return method, told


def _cache(span: Span, world: World) -> tuple[str, dict[str, Any]]:
    told: dict[str, Any] = {
        "agentperf.cache.name": span.name,
        "agentperf.cache.operation": span.operation,
        "agentperf.cache.system": "redis",
        "agentperf.cache.hit": span.hit,
        "agentperf.cache.key.hash": None if span.args is None else digest(span.args),
    }
    return f"cache {span.operation} {span.name}", told
