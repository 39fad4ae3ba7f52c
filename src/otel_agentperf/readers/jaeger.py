"""A Jaeger v2 server by its HTTP API, of either generation (up to 2.18 and from 2.19 on)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

from ..model import SpanRecord
from . import Query, ReadError
from ._documents import documents
from ._json import spans
from ._problems import Problems

_TIMEOUT_S = 30.0
_OWN_SERVICES = frozenset({"jaeger", "jaeger-all-in-one", "jaeger-query"})
_TRACE_PAGE = re.compile(r"(.*?)/(?:api/v3/traces|trace)/([0-9a-fA-F]{1,32})/?")
_UI_PAGE = re.compile(r"/(search|monitor|dependencies)?/?$")
_SPAN_OF_TIME = ((86_400, "d"), (3_600, "h"), (60, "min"))


class _NotFoundError(ReadError):
    """Jaeger's 404, which is no error of its own when a search has no hit."""


def accepts(source: str) -> bool:
    """A URL: `http://localhost:16686`, or that of a trace page."""
    return source.startswith(("http://", "https://"))


def read(source: str, query: Query) -> Iterator[SpanRecord]:
    """The traces of the services asked for (all, unless some are named) within the lookback, or the one trace whose
    page the URL is."""
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise ReadError(f"not an address ({error})") from None
    server = f"{parts.scheme}://{parts.netloc}"
    page = _TRACE_PAGE.fullmatch(parts.path)
    if page is None:
        yield from _search(server + _UI_PAGE.sub("", parts.path), query)
        return
    try:
        yield from spans(_get(server + page[1], f"/api/v3/traces/{page[2]}"))
    except _NotFoundError:
        raise ReadError(f"{server}{page[1]} has no trace {page[2]} (any more)") from None


def _search(server: str, query: Query) -> Iterator[SpanRecord]:
    services = query.services or _services(server)
    if not services:
        raise ReadError("it has no services yet")
    found, problems = False, Problems()
    for service in services:
        try:
            for record in spans(_get(server, f"/api/v3/traces?{_parameters(service, query)}")):
                found = True
                yield record
        except _NotFoundError:
            continue
        except ReadError as error:
            problems.append(f"service {service}: {error}")
    if not found and not problems:
        problems.append(f"no traces of {Problems(services)} in the last {_told(query.lookback_s)} (see --lookback)")
    if problems:
        raise ReadError(str(problems))


def _services(server: str) -> tuple[str, ...]:
    path = "/api/v3/services"
    _, answer = next(documents([_get(server, path)], Problems()), (0, None))
    names = (answer.get("services") or []) if isinstance(answer, dict) else None
    if not isinstance(names, list):
        raise ReadError(f"{server}{path} does not answer as a Jaeger v2 does")
    return tuple(name for name in names if name not in _OWN_SERVICES)


def _parameters(service: str, query: Query) -> str:
    """Both spellings in one request: each generation takes its own and ignores the other."""
    now = time.time()
    first, last = (_rfc3339(moment) for moment in (max(0.0, now - query.lookback_s), now + 60))
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


def _get(server: str, path: str) -> str:
    asked = server + path.partition("?")[0]
    try:
        request = Request(quote(server, safe=":/[]@%") + path, headers={"Accept": "application/json"})
        with urlopen(request, timeout=_TIMEOUT_S) as response:
            text: str = response.read().decode("utf-8", "replace")
    except HTTPError as error:
        with error:
            message = _message(error.read().decode("utf-8", "replace"))
        if error.code == 404 and re.search("traces? (not )?found", message, re.IGNORECASE):
            raise _NotFoundError(message) from None
        raise ReadError(f"HTTP {error.code} from {asked}: {message}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ReadError(f"no answer from {server} ({reason}); is it the address of Jaeger's UI?") from None
    if text.lstrip()[:1] not in ("{", "["):
        what = "a page" if text.lstrip().startswith("<") else "something else"
        raise ReadError(f"{asked} answered with {what}, not with JSON; is it a Jaeger v2?")
    return text


def _message(text: str) -> str:
    try:
        answer: Any = json.loads(text)
        return str(answer["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:200] or "no reason given"


def _rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat().replace("+00:00", "Z")


def _told(lookback_s: float) -> str:
    return next((f"{lookback_s / size:g} {unit}" for size, unit in _SPAN_OF_TIME if lookback_s >= size),
                f"{lookback_s:g} s")  # fmt: skip
