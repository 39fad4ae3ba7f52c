"""OTLP JSON into records: shared by files and by backends that answer in it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..analysis.classify import RawSpan, classify
from ..model import SpanRecord

_SIDES = ("internal", "internal", "server", "client", "producer", "consumer")
_REMOTE_KNOWN, _REMOTE = 0x100, 0x200
_LATEST_NS = 2**64
"""times are fixed64 in OTLP"""


def records(document: Mapping[str, Any]) -> Iterator[SpanRecord | str]:
    """The spans of one document (`{"resourceSpans": […]}`); for those that cannot be used, what is wrong."""
    for resource_spans in list_of(document, "resourceSpans", "resource_spans"):
        yield from _resource(mapping(resource_spans))


def _resource(resource_spans: Mapping[str, Any]) -> Iterator[SpanRecord | str]:
    resource = attributes(list_of(mapping(resource_spans.get("resource")), "attributes"))
    service = str(resource.get("service.name") or "")
    process = process_of(resource)
    for scope_spans in map(
        mapping, list_of(resource_spans, "scopeSpans", "scope_spans", "instrumentationLibrarySpans")
    ):
        scope = str(mapping(_get(scope_spans, "scope", "instrumentationLibrary")).get("name") or "")
        for span in map(mapping, list_of(scope_spans, "spans")):
            try:
                record = classify(_raw(span, scope, service, process))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a span, the others are good
                yield f"span {str(span.get('name'))[:60]!r}: {error}"
            else:
                yield record


def process_of(resource: Mapping[str, Any]) -> str:
    """What tells the processes of a trace apart."""
    return json.dumps(resource, sort_keys=True, default=str)


def _raw(span: Mapping[str, Any], scope: str, service: str, process: str) -> RawSpan:
    flags = int(span.get("flags") or 0)
    parent = _get(span, "parentSpanId", "parent_span_id")
    return RawSpan(
        trace_id=identifier(_get(span, "traceId", "trace_id"), 16, "trace"),
        span_id=identifier(_get(span, "spanId", "span_id"), 8, "span"),
        parent_id=_hexadecimal(parent, 8, "parent span") if parent else None,
        name=str(span.get("name") or ""),
        attributes=attributes(list_of(span, "attributes")),
        start_ns=_time(span, "startTimeUnixNano", "start_time_unix_nano"),
        end_ns=_time(span, "endTimeUnixNano", "end_time_unix_nano"),
        failed=mapping(span.get("status")).get("code") in (2, "2", "STATUS_CODE_ERROR"),
        scope=scope,
        service=service,
        side=_side(span.get("kind")),
        remote_parent=bool(flags & _REMOTE_KNOWN and flags & _REMOTE),
        process=process,
        exception=_exception(list_of(span, "events")),
    )


def _exception(events: Sequence[Any]) -> str | None:
    for event in map(mapping, reversed(events)):
        if event.get("name") == "exception":
            told = attributes(list_of(event, "attributes")).get("exception.type")
            return told if isinstance(told, str) else None
    return None


def attributes(pairs: Any) -> dict[str, Any]:
    """`[{"key": …, "value": {"stringValue": …}}]` as a plain mapping."""
    return {str(pair.get("key")): _value(pair.get("value")) for pair in pairs if isinstance(pair, Mapping)}


def _value(value: Any) -> Any:
    if not isinstance(value, Mapping) or not value:
        return None
    kind, content = next(iter(value.items()))
    if kind in ("arrayValue", "array_value"):
        return [_value(member) for member in list_of(mapping(content), "values")]
    if kind in ("kvlistValue", "kvlist_value"):
        return attributes(list_of(mapping(content), "values"))
    return scalar(kind, content)


def scalar(kind: str, content: Any) -> Any:
    """A value of OTLP JSON's `intValue` and so on as what it says it is."""
    convert = _SCALARS.get(kind)
    try:
        # What is not what it says is left as it is: one attribute is no reason to lose the span.
        return content if convert is None else convert(content)
    except (ValueError, TypeError):
        return content


_SCALARS: Mapping[str, Any] = {
    "intValue": int, "int_value": int,
    "doubleValue": float, "double_value": float,
    "bytesValue": base64.b64decode, "bytes_value": base64.b64decode,
}  # fmt: skip


def identifier(text: Any, size: int, whose: str) -> str:
    """The id of `size` bytes in hexadecimal. Raises `ValueError` where it is missing, zero, or something else."""
    found = _hexadecimal(text, size, whose) if text else None
    if found is None:
        raise ValueError(f"it has no {whose} id")
    return found


def _hexadecimal(text: Any, size: int, whose: str) -> str | None:
    """The id, which is hexadecimal as OTLP JSON wants it or the base64 of protobuf's own JSON; None: all zeros."""
    lowered = str(text).lower()
    if len(lowered) != 2 * size or set(lowered) - set("0123456789abcdef"):
        try:
            decoded = base64.b64decode(str(text), validate=True)
        except (binascii.Error, ValueError):
            decoded = b""
        if len(decoded) != size:
            raise ValueError(f"its {whose} id {str(text)[:40]!r} is not {2 * size} hexadecimal digits")
        lowered = decoded.hex()
    return lowered if lowered.strip("0") else None


def _time(span: Mapping[str, Any], *keys: str) -> int:
    told = _get(span, *keys)
    if told is None or told == "":
        raise ValueError(f"it has no {keys[0]}")
    try:
        moment = int(told)
    except (ValueError, TypeError, OverflowError):
        moment = -1
    if not 0 <= moment < _LATEST_NS:
        raise ValueError(f"its {keys[0]} {str(told)[:40]!r} is no time in nanoseconds")
    return moment


def _side(kind: Any) -> str:
    if isinstance(kind, str) and not kind.isdigit():
        return kind.removeprefix("SPAN_KIND_").lower()
    number = int(kind or 0)
    return _SIDES[number] if 0 <= number < len(_SIDES) else "internal"


def _get(holder: Mapping[str, Any], *keys: str) -> Any:
    return next((holder[key] for key in keys if key in holder), None)


def list_of(holder: Mapping[str, Any], *keys: str) -> Sequence[Any]:
    found = _get(holder, *keys)
    return found if isinstance(found, list) else ()


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
