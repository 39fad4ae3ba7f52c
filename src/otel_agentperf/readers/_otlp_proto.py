"""OTLP protobuf into records: one `TracesData` (an `ExportTraceServiceRequest` is the same on the wire), or many, each
behind its length, as the Collector's file exporter writes them with `format: proto`.

https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/fileexporter: each message is
preceded by its length, 4 bytes, big-endian; so are compressed messages of either format.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from ..analysis.classify import RawSpan, classify
from ..model import SpanRecord
from . import ReadError
from ._compressed import HEAD, ZSTD, open_zstd
from ._otlp import process_of
from ._problems import Problems

_LENGTH = 4
_FIRST_FIELD = b"\x0a"
"""tag of `resource_spans`, the one field of the message; also a newline"""
_IN_TEXT = frozenset(b"\t\n\r\x1e")
_LONGEST = 1 << 28
"""bytes of a message; what claims to be longer is no message"""
_SIDES = ("internal", "internal", "server", "client", "producer", "consumer")
_ERROR = 2
_REMOTE_KNOWN, _REMOTE = 0x100, 0x200


def accepts(head: bytes) -> bool:
    """Does a file that begins so hold OTLP protobuf, or messages behind their lengths?"""
    return is_framed(head) or is_bare(head)


def is_framed(head: bytes) -> bool:
    length = int.from_bytes(head[:_LENGTH], "big")
    message = head[_LENGTH:]
    is_message = message.startswith((_FIRST_FIELD, ZSTD)) or not length
    return len(head) >= _LENGTH and head[0] not in _IN_TEXT and length < _LONGEST and is_message


def is_bare(head: bytes) -> bool:
    """JSON may begin with a newline as well, but holds no other control characters."""
    return head.startswith(_FIRST_FIELD) and any(byte < 0x20 and byte not in _IN_TEXT for byte in head[:HEAD])


def messages(file: io.BufferedReader, problems: Problems) -> Iterator[bytes]:
    """The messages of a file that `accepts` took, unpacked; those that are cut off or damaged go to `problems`.

    Raises `ReadError` where they are compressed and cannot be unpacked at all.
    """
    if not is_framed(file.peek(HEAD)):
        yield file.read()
        return
    offset = number = 0
    while head := file.read(_LENGTH):
        number += 1
        length = int.from_bytes(head, "big")
        body = file.read(length) if len(head) == _LENGTH and length < _LONGEST else b""
        if len(head) < _LENGTH or len(body) < length:
            problems.append(f"message {number} (byte {offset}): cut off")
            return
        offset += _LENGTH + length
        if not body.startswith(ZSTD):
            yield body
            continue
        try:
            yield open_zstd(io.BytesIO(body)).read()
        except ReadError:
            raise
        except Exception as error:  # noqa: BLE001 - each of the modules that read zstd has errors of its own
            problems.append(f"message {number}: damaged zstd ({error})")


def records(message: bytes) -> Iterator[SpanRecord | str]:
    """The spans of one message; for those that cannot be used, what is wrong. Metrics and logs hold none."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    try:
        data = TracesData.FromString(message)
    except DecodeError:
        if not _is_another_signal(message):
            yield "not OTLP protobuf, or cut off"
        return
    found = [_resource(resource_spans) for resource_spans in data.resource_spans]
    # On the wire, metrics are told from spans only by values that make no sense in a span.
    if any(_may_be_span(span) for parts in found for *_, span in parts) or not _is_another_signal(message):
        for parts in found:
            for process, service, scope, span in parts:
                yield _record(span, scope, service, process)


def _resource(resource_spans: Any) -> list[tuple[str, str, str, Any]]:
    resource = _attributes(resource_spans.resource.attributes)
    service = str(resource.get("service.name") or "")
    process = process_of(resource)
    return [
        (process, service, scope_spans.scope.name, span)
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def _may_be_span(span: Any) -> bool:
    return len(span.trace_id) == 16 and len(span.span_id) == 8


def _is_another_signal(message: bytes) -> bool:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
    from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

    for signal in (MetricsData, LogsData):
        try:
            data = signal.FromString(message)
        except DecodeError:
            continue
        if any(data.ListFields()):
            return True
    return False


def _record(span: Any, scope: str, service: str, process: str) -> SpanRecord | str:
    try:
        return classify(_raw(span, scope, service, process))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a span, the others are good
        return f"span {span.name[:60]!r}: {error}"


def _raw(span: Any, scope: str, service: str, process: str) -> RawSpan:
    trace_id, span_id = _identifier(span.trace_id, 16, "trace"), _identifier(span.span_id, 8, "span")
    parent = span.parent_span_id
    return RawSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=_identifier(parent, 8, "parent span") if any(parent) else None,
        name=span.name,
        attributes=_attributes(span.attributes),
        start_ns=_time(span.start_time_unix_nano, "startTimeUnixNano"),
        end_ns=_time(span.end_time_unix_nano, "endTimeUnixNano"),
        failed=span.status.code == _ERROR,
        scope=scope,
        service=service,
        side=_SIDES[span.kind] if 0 <= span.kind < len(_SIDES) else "internal",
        remote_parent=bool(span.flags & _REMOTE_KNOWN and span.flags & _REMOTE),
        process=process,
        exception=_exception(span.events),
    )


def _exception(events: Any) -> str | None:
    for event in reversed(events):
        if event.name == "exception":
            told = _attributes(event.attributes).get("exception.type")
            return told if isinstance(told, str) else None
    return None


def _identifier(told: bytes, size: int, whose: str) -> str:
    if not any(told):
        raise ValueError(f"it has no {whose} id")
    if len(told) != size:
        raise ValueError(f"its {whose} id {told.hex()[:40]!r} is not {size} bytes")
    return told.hex()


def _time(moment: int, which: str) -> int:
    if not moment:
        raise ValueError(f"it has no {which}")
    return moment


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind == "array_value":
        return [_value(member) for member in content.values]
    return _attributes(content.values) if kind == "kvlist_value" else content
