"""The type of a recorded exception is the name of the error, where nothing else tells it; OpenInference writes so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider
from opentelemetry.trace import Status, StatusCode

from otel_agentperf.readers import Query, files


class RateLimitError(Exception):
    pass


@pytest.fixture
def tracer() -> Tracer:
    return TracerProvider(shutdown_on_exit=False).get_tracer("openinference")  # type: ignore[return-value]


def failed(tracer: Tracer, *errors: BaseException, status: StatusCode = StatusCode.ERROR, **attributes: str) -> Any:
    span = tracer.start_span("chat", attributes={"openinference.span.kind": "LLM", **attributes})
    for error in errors:
        span.record_exception(error)
    span.add_event("something else", {"exception.type": "Wrong"})
    span.set_status(Status(status))
    span.end()
    return span


def jaeger(span: ReadableSpan) -> str:
    assert span.context is not None
    assert span.start_time is not None
    logs = [
        {
            "fields": [
                {"key": "event", "value": event.name},
                *({"key": k, "value": v} for k, v in event.attributes.items()),
            ]
        }
        for event in span.events
        if event.attributes
    ]
    tags = [{"key": "otel.status_code", "value": "ERROR" if span.status.status_code is StatusCode.ERROR else "OK"}]
    told = {
        "traceID": f"{span.context.trace_id:032x}", "spanID": f"{span.context.span_id:016x}",
        "operationName": span.name, "startTime": span.start_time // 1000, "duration": 5,
        "processID": "p1", "logs": logs,
        "tags": [*tags, *({"key": key, "type": "string", "value": v} for key, v in (span.attributes or {}).items())],
    }  # fmt: skip
    trace = {"traceID": told["traceID"], "spans": [told], "processes": {"p1": {"serviceName": "svc"}}}
    return json.dumps({"data": [trace]})


SHAPES = {
    "OTLP JSON": lambda span: MessageToJson(encode_spans([span])).encode(),
    "OTLP protobuf": lambda span: encode_spans([span]).SerializeToString(),
    "Jaeger JSON": lambda span: jaeger(span).encode(),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def reading(span: ReadableSpan) -> Any:
        path = tmp_path / "traces"
        path.write_bytes(request.param(span))
        [record] = files.read(str(path), Query())
        return record

    return reading


def test_the_last_exception_names_the_error(tracer: Tracer, read: Any) -> None:
    record = read(failed(tracer, ValueError("first"), RateLimitError("slow down")))
    assert record.error is not None
    assert record.error.endswith("RateLimitError")
    assert record.refused


def test_an_error_type_goes_before_it(tracer: Tracer, read: Any) -> None:
    assert read(failed(tracer, RateLimitError("slow down"), **{"error.type": "timeout"})).error == "timeout"


def test_an_exception_that_was_handled_is_no_error(tracer: Tracer, read: Any) -> None:
    assert read(failed(tracer, RateLimitError("slow down"), status=StatusCode.OK)).error is None


def test_without_one_it_is_just_an_error(tracer: Tracer, read: Any) -> None:
    assert read(failed(tracer)).error == "error"
