"""OTLP protobuf: bare, behind lengths, compressed; made by the SDK's encoder."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._internal.metrics_encoder import encode_metrics
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, ResourceLogs, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from _traces import agent, http, llm, records, span, tool
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.model import SpanRecord
from otel_agentperf.readers import Query, ReadError, files
from readers._otlp import document
from readers._proto import framed, request

TREE = agent("planner", llm(1.0, tokens=(10, 5)), *[tool("search", 0.2, args={"q": n}) for n in range(6)])
OTHER = agent("writer", http("http://api/x", 0.2, status=503), tool("save", 0.3, error="TimeoutError"))
A, B = request(TREE, trace_id="a" * 32), request(OTHER, trace_id="b" * 32)
NAMES = ["planner", "gpt", *["search"] * 6, "writer", "http://api/x", "save"]


def zstd(content: bytes) -> bytes:
    compress: bytes = pytest.importorskip("zstandard").ZstdCompressor().compress(content)
    return compress


def read(path: Path | str) -> tuple[list[str], str]:
    """The operations of the good spans, and what was said about the rest."""
    found, said = read_records(path)
    return [record.operation for record in found], said


def read_records(path: Path | str) -> tuple[list[SpanRecord], str]:
    found: list[SpanRecord] = []
    try:
        for record in files.read(str(path), Query()):
            assert isinstance(record, SpanRecord)
            found.append(record)
    except ReadError as error:
        return found, str(error)
    return found, ""


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(content: bytes, name: str = "traces.pb") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write


SHAPES = {
    "one request after another": A + B,
    "behind lengths": framed([A, B]),
    "gzip": gzip.compress(A + B),
    "gzip, behind lengths": gzip.compress(framed([A, B])),
    "an empty message in between": framed([A, b"", B]),
}


@pytest.mark.parametrize("name", ["traces.pb", "traces.bin", "traces.json", "no-ending"])
@pytest.mark.parametrize("content", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_is_known_by_its_content(file: Any, content: bytes, name: str) -> None:
    assert read(file(content, name)) == (NAMES, "")


def test_zstd_is_read_where_python_can(file: Any) -> None:
    of_json = json.dumps(document(TREE, trace_id="a" * 32)).encode()
    assert read(file(zstd(A + B), "whole.zst")) == (NAMES, "")
    assert read(file(framed([zstd(A), zstd(B)]))) == (NAMES, "")
    assert read(file(framed([zstd(of_json), zstd(B)]))) == (NAMES, "")


def test_zstd_without_a_library_is_said_to_be_so(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [zstd(A), framed([zstd(A), zstd(B)])]
    for library in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, library, None)
    for content in contents:
        found, said = read(file(content))
        assert found == []
        assert said.startswith("compressed with zstd, which this Python cannot read: pip install zstandard")


def test_a_file_gives_the_report_that_the_spans_give_directly(file: Any) -> None:
    (from_file,) = find_runs(read_records(file(A))[0])
    (direct,) = find_runs(records(TREE))
    assert analyze(from_file).operations == analyze(direct).operations
    assert analyze(from_file).findings == analyze(direct).findings
    assert analyze(from_file).tokens == analyze(direct).tokens
    assert from_file.root.service == "svc"


def test_a_span_is_what_it_is_in_json(file: Any) -> None:
    top = span(
        "GET", 0.5, tool("t", 0.1, error="TimeoutError", args=[1, {"a": None}]), side="server", remote_parent=True,
        parent_id="f" * 16, scope="some.scope",
        attributes={"http.request.method": "GET", "list": ("a", "b"), "share": 0.5, "on": True},
    )  # fmt: skip
    from_json, said = read_records(file(json.dumps(document(top)).encode(), "a.json"))
    assert said == ""
    from_proto, said = read_records(file(request(top)))
    assert said == ""
    assert from_proto[0].remote_parent
    for one, other in zip(from_proto, from_json, strict=True):
        for name in ("trace_id", "span_id", "parent_id", "kind", "operation", "start_ns", "end_ns", "error", "args"):
            assert getattr(one, name) == getattr(other, name), name
        assert one.service == other.service


def test_the_parts_of_a_trace_may_be_in_files_of_each_format(file: Any, tmp_path: Path) -> None:
    data = TracesData.FromString(A)
    spans = data.resource_spans[0].scope_spans[0].spans
    whole = json.loads(json.dumps(document(TREE, trace_id="a" * 32)))
    holder = whole["resourceSpans"][0]["scopeSpans"][0]
    holder["spans"] = holder["spans"][:4]
    del spans[:4]
    file(data.SerializeToString(), "late.binpb")
    file(json.dumps(whole).encode(), "early.json")
    found, said = read_records(tmp_path)
    assert said == ""
    (run,) = find_runs(found)
    assert len(run.spans) == 8


def test_a_file_that_is_cut_off_gives_the_messages_before(file: Any) -> None:
    assert read(file(framed([A, B])[:-5])) == (NAMES[:8], f"message 2 (byte {len(A) + 4}): cut off")
    assert read(file(framed([A]) + b"\x00\x00")) == (NAMES[:8], f"message 2 (byte {len(A) + 4}): cut off")
    assert read(file(A[:-5])) == ([], "message 1: not OTLP protobuf, or cut off")


def test_a_broken_message_is_named_and_the_others_come(file: Any) -> None:
    broken = b"\x0a" + A[1:40] + b"\xff" * 30
    assert read(file(framed([A, broken, B]))) == (NAMES, "message 2: not OTLP protobuf, or cut off")
    damaged = zstd(A)[:-9] + b"\x00" * 9
    found, said = read(file(framed([zstd(A), damaged, zstd(B)])))
    assert found == NAMES
    assert said.startswith("message 2: damaged zstd")


BAD_SPANS: dict[str, tuple[str, Any, str]] = {
    "no trace id": ("trace_id", b"", "it has no trace id"),
    "zeros": ("span_id", bytes(8), "it has no span id"),
    "short id": ("span_id", b"abc", "its span id '616263' is not 8 bytes"),
    "odd parent": ("parent_span_id", b"abc", "its parent span id '616263' is not 8 bytes"),
    "no end": ("end_time_unix_nano", 0, "it has no endTimeUnixNano"),
}


@pytest.mark.parametrize(("field", "value", "expected"), BAD_SPANS.values(), ids=BAD_SPANS.keys())
def test_a_bad_span_is_named_and_the_others_come(file: Any, field: str, value: Any, expected: str) -> None:
    data = TracesData.FromString(A)
    setattr(data.resource_spans[0].scope_spans[0].spans[2], field, value)
    found, said = read(file(data.SerializeToString()))
    assert found == [*NAMES[:7]]
    assert said == f"message 1: span 'execute_tool search': {expected}"


def metrics() -> bytes:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    provider.get_meter("m").create_counter("calls", "1", "how many").add(3, {"who": "planner"})
    provider.get_meter("m").create_histogram("duration", "s").record(0.5)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    return encode_metrics(data).SerializeToString()


def logs() -> bytes:
    record = LogRecord(time_unix_nano=5, severity_text="INFO", trace_id=b"a" * 16, span_id=b"b" * 8)
    record.body.string_value = "hello"
    return LogsData(resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[record])])]).SerializeToString()


@pytest.mark.parametrize("other", [metrics(), logs()], ids=["metrics", "logs"])
def test_metrics_and_logs_hold_no_spans_and_are_no_fault(file: Any, other: bytes, tmp_path: Path) -> None:
    assert read(file(other)) == ([], files._nothing(False, False))
    file(framed([other, other]), "other.pb")
    file(A, "traces.pb")
    assert read(tmp_path) == (NAMES[:8], "")


@pytest.mark.parametrize(
    "content",
    [b"\x00\x00\x00\x05hello", b"\x0a\x05\x00\x01\x02", b"\x00\x00\x00\x05\x0ahell", bytes(range(256)), bytes(100)],
)
def test_other_bytes_are_said_to_be_so_in_a_line(file: Any, content: bytes) -> None:
    found, said = read(file(content))
    assert found == []
    assert said
    assert "\n" not in said


def test_text_that_begins_with_a_newline_is_json(file: Any) -> None:
    text = "\n\n" + json.dumps(document(TREE), indent=1)
    assert read(file(text.encode(), "a.pb")) == (NAMES[:8], "")


def test_a_pipe_may_hand_over_a_few_bytes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self._content = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self._content.readinto(memoryview(buffer)[:3])

    for content in (framed([A, B]), gzip.compress(framed([A, B])), gzip.compress(A + B)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Slow(content))))
        assert read("-") == (NAMES, "")
