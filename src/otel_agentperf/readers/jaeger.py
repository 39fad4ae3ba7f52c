"""A Jaeger v2 server by its HTTP API, of either generation (up to 2.18 and from 2.19 on)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

from ..model import SpanRecord
from . import Query, ReadError
from ._otlp import documents, records

_TIMEOUT_S = 30.0
_OWN_SERVICES = frozenset({"jaeger", "jaeger-all-in-one", "jaeger-query"})


def accepts(source: str) -> bool:
    """A URL: `http://localhost:16686`, or that of a trace page."""
    return source.startswith(("http://", "https://"))


def read(source: str, query: Query) -> Iterator[SpanRecord]:
    """The traces of the services asked for (all, unless some are named) within the lookback, or the one trace whose
    page the URL is."""
    parts = urlsplit(source)
    base, page, trace_id = parts.path.rstrip("/").partition("/trace/")
    server = f"{parts.scheme}://{parts.netloc}{base.rstrip('/')}"
    if page:
        yield from _answer(server, f"/api/v3/traces/{quote(trace_id)}")
        return
    services = query.services or _services(server)
    if not services:
        raise ReadError("it has no services yet")
    found = False
    for service in services:
        for record in _answer(server, f"/api/v3/traces?{_search(service, query)}"):
            found = True
            yield record
    if not found:
        raise ReadError(f"no traces of {', '.join(services)} in the last {query.lookback_s:.0f} s")


def _services(server: str) -> tuple[str, ...]:
    answer: Any = next(documents(_get(server, "/api/v3/services")), {})
    names = answer.get("services") if isinstance(answer, dict) else None
    return tuple(name for name in names or () if name not in _OWN_SERVICES)


def _search(service: str, query: Query) -> str:
    """Both spellings in one request: each generation takes its own and ignores the other."""
    now = time.time()
    first, last = (_rfc3339(moment) for moment in (now - query.lookback_s, now + 60))
    return urlencode(
        {
            "query.service_name": service,
            "query.start_time_min": first,
            "query.start_time_max": last,
            "query.num_traces": query.limit,
            "query.serviceName": service,
            "query.startTimeMin": first,
            "query.startTimeMax": last,
            "query.searchDepth": query.limit,
        }
    )


def _answer(server: str, path: str) -> Iterator[SpanRecord]:
    for document in documents(_get(server, path)):
        yield from records(document)


def _get(server: str, path: str) -> str:
    request = Request(server + path, headers={"Accept": "application/json"})
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as response:
            body: bytes = response.read()
    except HTTPError as error:
        text = error.read().decode("utf-8", "replace")
        if error.code == 404 and "No traces found" in text:
            return ""
        raise ReadError(f"HTTP {error.code} from {server}{path.partition('?')[0]}: {_message(text)}") from None
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ReadError(f"no answer from {server} ({reason}); is it the address of Jaeger's UI?") from None
    text = body.decode("utf-8", "replace")
    if text.lstrip().startswith("<"):
        raise ReadError(f"{server}{path.partition('?')[0]} answered with a page, not with JSON; is it a Jaeger v2?")
    return text


def _message(text: str) -> str:
    try:
        answer: Any = json.loads(text)
        return str(answer["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:200] or "no reason given"


def _rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat().replace("+00:00", "Z")
