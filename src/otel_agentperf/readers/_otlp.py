"""OTLP JSON into records: shared by files and by backends that answer in it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..analysis.classify import RawSpan, classify
from ..model import SpanRecord
from . import ReadError

_SIDES = ("internal", "internal", "server", "client", "producer", "consumer")
_REMOTE_KNOWN, _REMOTE = 0x100, 0x200
_ENVELOPES = ("result", "batches")
_LATEST_NS = 2**64
"""times are fixed64 in OTLP"""
_NAMED_PROBLEMS = 3
_BETWEEN = re.compile("[ \t\r\n,\x1e\ufeff]*")
_NEXT_DOCUMENT = re.compile(r"^[{\[]", re.MULTILINE)


def spans(text: str) -> Iterator[SpanRecord]:
    """The spans of all OTLP JSON documents in a text: one, one a line, or one after another.

    Raises `ReadError` for what was wrong, by line, after what was good has been yielded.
    """
    problems: list[str] = []
    for line, document in documents(text, problems):
        for record in _records(document):
            if isinstance(record, SpanRecord):
                yield record
            else:
                problems.append(f"line {line}: {record}")
    if problems:
        raise ReadError(listed(problems))


def listed(problems: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = len(problems) - _NAMED_PROBLEMS
    return "; ".join(problems[:_NAMED_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def documents(text: str, problems: list[str]) -> Iterator[tuple[int, Any]]:
    """All JSON documents in a text, each with the line it starts on. After one that does not parse, which goes to
    `problems`, the next is looked for at the start of a line."""
    decode = json.JSONDecoder().raw_decode
    position, line = 0, 1
    while True:
        start = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]
        line += text.count("\n", position, start)
        if start == len(text):
            return
        try:
            document, position = decode(text, start)
        except (ValueError, RecursionError) as error:
            wrong = line + text.count("\n", start, getattr(error, "pos", start))
            where = f"line {line}" if wrong == line else f"line {wrong} (of what starts on line {line})"
            problems.append(f"{where}: not JSON, or cut off ({getattr(error, 'msg', 'nested too deeply')})")
            following = _NEXT_DOCUMENT.search(text, start + 1)
            position = following.start() if following else len(text)
        else:
            yield line, document
        line += text.count("\n", start, position)


def _records(document: Any) -> Iterator[SpanRecord | str]:
    """The spans of one document (`{"resourceSpans": […]}`), bare, in lists, or in a backend's envelope; for those
    that cannot be used, what is wrong."""
    parts = [document]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts.extend(reversed(part))
        elif isinstance(part, Mapping):
            if isinstance(part.get("error"), Mapping):
                yield f"the server says: {part['error'].get('message')}"
            for resource_spans in _list(part, "resourceSpans", "resource_spans"):
                yield from _resource(_mapping(resource_spans))
            parts.extend(part[envelope] for envelope in _ENVELOPES if envelope in part)


def _resource(resource_spans: Mapping[str, Any]) -> Iterator[SpanRecord | str]:
    resource = attributes(_list(_mapping(resource_spans.get("resource")), "attributes"))
    service = str(resource.get("service.name") or "")
    process = json.dumps(resource, sort_keys=True, default=str)
    for scope_spans in map(_mapping, _list(resource_spans, "scopeSpans", "scope_spans", "instrumentationLibrarySpans")):
        scope = str(_mapping(_get(scope_spans, "scope", "instrumentationLibrary")).get("name") or "")
        for span in map(_mapping, _list(scope_spans, "spans")):
            try:
                record = classify(_raw(span, scope, service, process))
            except (ValueError, TypeError, RecursionError) as error:
                yield f"span {str(span.get('name'))[:60]!r}: {error}"
            else:
                yield record


def _raw(span: Mapping[str, Any], scope: str, service: str, process: str) -> RawSpan:
    flags = int(span.get("flags") or 0)
    parent = _get(span, "parentSpanId", "parent_span_id")
    return RawSpan(
        trace_id=_identifier(_get(span, "traceId", "trace_id"), 16, "trace"),
        span_id=_identifier(_get(span, "spanId", "span_id"), 8, "span"),
        parent_id=_hexadecimal(parent, 8, "parent span") if parent else None,
        name=str(span.get("name") or ""),
        attributes=attributes(_list(span, "attributes")),
        start_ns=_time(span, "startTimeUnixNano", "start_time_unix_nano"),
        end_ns=_time(span, "endTimeUnixNano", "end_time_unix_nano"),
        failed=_mapping(span.get("status")).get("code") in (2, "2", "STATUS_CODE_ERROR"),
        scope=scope,
        service=service,
        side=_side(span.get("kind")),
        remote_parent=bool(flags & _REMOTE_KNOWN and flags & _REMOTE),
        process=process,
    )


def attributes(pairs: Any) -> dict[str, Any]:
    """`[{"key": …, "value": {"stringValue": …}}]` as a plain mapping."""
    return {str(pair.get("key")): _value(pair.get("value")) for pair in pairs if isinstance(pair, Mapping)}


def _value(value: Any) -> Any:
    if not isinstance(value, Mapping) or not value:
        return None
    kind, content = next(iter(value.items()))
    if kind in ("arrayValue", "array_value"):
        return [_value(member) for member in _list(_mapping(content), "values")]
    if kind in ("kvlistValue", "kvlist_value"):
        return attributes(_list(_mapping(content), "values"))
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


def _identifier(text: Any, size: int, whose: str) -> str:
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


def _list(holder: Mapping[str, Any], *keys: str) -> Sequence[Any]:
    found = _get(holder, *keys)
    return found if isinstance(found, list) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
