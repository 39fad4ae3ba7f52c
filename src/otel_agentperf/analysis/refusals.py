"""Was a call refused because too much was asked of the service, and when may it be asked again?

429 is RFC 6585 section 4, 503 and Retry-After are RFC 9110 sections 15.6.4 and 10.2.3, 529 is Anthropic's
"overloaded", and gRPC's 8 is RESOURCE_EXHAUSTED. The names are those that the clients of OpenAI, Anthropic, Google,
AWS and Azure raise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, NamedTuple

from .measurements import first, number

Attributes = Mapping[str, Any]

_STATUS = ("http.response.status_code", "http.status_code")
_REFUSALS = frozenset({429, 503, 529})
_RESOURCE_EXHAUSTED = frozenset({"8", "RESOURCE_EXHAUSTED"})
_CODE = re.compile(r"(?<!\d)(?:429|503|529)(?!\d)")
_NAME = re.compile(
    "ratelimit|toomanyrequests|throttl|resourceexhausted|overloaded|serviceunavailable|slowdown|quotaexceeded"
    "|throughputexceeded|requestlimitexceeded"
)
_NO_LETTERS = re.compile(r"[\W\d_]+")

_RETRY_AFTER: Mapping[str, float] = {
    "http.response.header.retry-after": 1.0,
    "http.response.header.retry_after": 1.0,
    "http.response.header.retry-after-ms": 1e-3,
    "http.response.header.retry_after_ms": 1e-3,
    "retry_after": 1.0,
    "retry-after": 1.0,
    "error.retry_after": 1.0,
    "retry_after_ms": 1e-3,
}
"""spellings, and what one of their units is in seconds; the conventions record a header as a list of strings"""


class Refusal(NamedTuple):
    refused: bool = False
    retry_after_s: float | None = None
    """seconds the service asked to wait; None: it did not say"""


_NONE = Refusal()


def refusal(attributes: Attributes, error: str | None, end_ns: int) -> Refusal:
    """How a call was refused, if it was: by its status, the name of its error, or because a failure says when to try
    again. A success that says so (202) is asked to poll, which is no refusal."""
    status = number(first(attributes, _STATUS))
    if error is None and (status is None or status < 400):
        return _NONE
    told = _retry_after_s(attributes, end_ns)
    refused = told is not None or status in _REFUSALS or _names_limit(error or "")
    if refused or str(attributes.get("rpc.grpc.status_code")) in _RESOURCE_EXHAUSTED:
        return Refusal(True, told)
    return _NONE


def _names_limit(error: str) -> bool:
    """`429`, `openai.RateLimitError`, `ThrottlingException`, `RESOURCE_EXHAUSTED` …"""
    return bool(_CODE.search(error) or _NAME.search(_NO_LETTERS.sub("", error).lower()))


def _retry_after_s(attributes: Attributes, end_ns: int) -> float | None:
    for key, unit in _RETRY_AFTER.items():
        value = attributes.get(key)
        if isinstance(value, (list, tuple)):
            value = value[0] if value else None
        if value is not None and not isinstance(value, bool):
            seconds = _seconds(str(value).strip(" []\"'"), end_ns)
            if seconds is not None:
                return max(0.0, seconds * unit)
    return None


def _seconds(text: str, end_ns: int) -> float | None:
    """A number (`2`, `1.5`, Google's `7s`), or the seconds from the answer to a date."""
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - end_ns / 1e9
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if isfinite(seconds) else None
