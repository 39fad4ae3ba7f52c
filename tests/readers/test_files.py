"""OTLP JSON in every shape it is met in: what is good comes, what is not is named by its line."""

from __future__ import annotations

import base64
import codecs
import gzip
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from _traces import agent, http, llm, records, tool
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.model import SpanRecord
from otel_agentperf.readers import Query, ReadError, files
from readers._otlp import document, document_of, pair

TREE = agent("planner", llm(1.0, tokens=(10, 5)), tool("search", 0.5, args={"q": "tea"}), http("http://api/x", 0.2))
OTHER = agent("writer", llm(0.3))
METRICS = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "sum": {}}]}]}]}
LOGS = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "hello"}}]}]}]}

A = document(TREE, trace_id="a" * 32)
B = document(OTHER, trace_id="b" * 32)
NAMES = ["planner", "gpt", "search", "http://api/x", "writer", "gpt"]


def jsonl(*documents: Any) -> str:
    return "".join(json.dumps(each) + "\n" for each in documents)


def read(path: Path | str) -> list[SpanRecord]:
    return list(files.read(str(path), Query()))


def read_both(path: Path | str) -> tuple[list[SpanRecord], str]:
    """The good spans, and what was said about the rest."""
    found: list[SpanRecord] = []
    try:
        for record in files.read(str(path), Query()):
            found.append(record)
    except ReadError as error:
        return found, str(error)
    return found, ""


def operations(found: list[SpanRecord]) -> list[str]:
    return [record.operation for record in found]


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(content: str | bytes, name: str = "traces.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


SHAPES: dict[str, str | bytes] = {
    "JSON lines": jsonl(A, B),
    "one document": json.dumps({"resourceSpans": A["resourceSpans"] + B["resourceSpans"]}),
    "pretty printed": json.dumps({"resourceSpans": A["resourceSpans"] + B["resourceSpans"]}, indent=2),
    "several pretty printed": json.dumps(A, indent=2) + "\n" + json.dumps(B, indent=2),
    "one after another": json.dumps(A) + json.dumps(B),
    "a list of documents": json.dumps([A, B]),
    "text sequences (RFC 7464)": "".join(f"\x1e{json.dumps(each)}\n" for each in (A, B)),
    "no newline at the end": jsonl(A, B).rstrip("\n"),
    "blank lines": "\n\n" + json.dumps(A) + "\n\n\n" + json.dumps(B) + "\n\n",
    "CRLF": jsonl(A, B).replace("\n", "\r\n"),
    "byte order mark": codecs.BOM_UTF8 + jsonl(A, B).encode(),
    "two files with marks joined": codecs.BOM_UTF8 + jsonl(A).encode() + codecs.BOM_UTF8 + jsonl(B).encode(),
    "UTF-16, as PowerShell redirects": jsonl(A, B).encode("utf-16"),
    "gzip": gzip.compress(jsonl(A, B).encode()),
    "gzip of several members": gzip.compress(jsonl(A).encode()) + gzip.compress(jsonl(B).encode()),
    "metrics and logs in between": jsonl(METRICS, A, LOGS, B, METRICS),
    "bare resource spans in a result": jsonl({"result": A}, {"result": B}),
}


@pytest.mark.parametrize("content", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_holds_the_same_spans(file: Any, content: str | bytes) -> None:
    assert operations(read(file(content))) == NAMES


def test_a_file_gives_the_report_that_the_spans_give_directly(file: Any) -> None:
    (from_file,) = find_runs(read(file(jsonl(A))))
    (direct,) = find_runs(records(TREE))
    read_back, expected = analyze(from_file), analyze(direct)
    assert read_back.operations == expected.operations
    assert read_back.findings == expected.findings
    assert read_back.tokens == expected.tokens
    assert from_file.root.service == "svc"


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(gzip.compress(jsonl(A, B).encode())))
    monkeypatch.setattr("sys.stdin", stdin)
    assert operations(read("-")) == NAMES


def test_snake_case_base64_ids_numeric_times_and_names_of_enums(file: Any) -> None:
    span = {
        "trace_id": base64.b64encode(bytes.fromhex("ab" * 16)).decode(),
        "span_id": base64.b64encode(bytes.fromhex("cd" * 8)).decode(),
        "parent_span_id": base64.b64encode(bytes(8)).decode(),
        "name": "GET",
        "kind": "SPAN_KIND_CLIENT",
        "start_time_unix_nano": 1_700_000_000_000_000_000,
        "end_time_unix_nano": 1_700_000_001_000_000_000,
        "attributes": [
            {"key": "http.request.method", "value": {"string_value": "GET"}},
            {"key": "http.response.status_code", "value": {"int_value": "503"}},
        ],
        "status": {"code": "STATUS_CODE_ERROR"},
        "flags": "256",
    }
    snake = {"resource_spans": [{"resource": {}, "scope_spans": [{"scope": {"name": "s"}, "spans": [span]}]}]}
    (found,) = read(file(json.dumps(snake)))
    assert (found.trace_id, found.span_id, found.parent_id) == ("ab" * 16, "cd" * 8, None)
    assert (found.kind, found.duration_s, found.error, found.scope) == ("http", 1.0, "error", "s")


def test_capital_letters_in_ids_are_the_same_ids(file: Any) -> None:
    (found,) = read(file(json.dumps(document(agent("a", 1.0), trace_id="AB" * 16))))
    assert found.trace_id == "ab" * 16


def test_optional_fields_may_be_missing_or_null(file: Any) -> None:
    bare = {"traceId": "a" * 32, "spanId": "b" * 16, "startTimeUnixNano": "5", "endTimeUnixNano": "7"}
    nulls = {**bare, "spanId": "c" * 16, "parentSpanId": None, "name": None, "attributes": None, "status": None,
             "kind": None, "flags": None}  # fmt: skip
    holders = [
        {"scopeSpans": [{"spans": [bare]}]},
        {"resource": None, "scopeSpans": [{"scope": None, "spans": [nulls]}]},
        {"scopeSpans": None},
    ]
    found = read(file(json.dumps({"resourceSpans": holders})))
    assert [(record.operation, record.kind, record.error) for record in found] == [("unnamed", "other", None)] * 2


def test_values_of_every_type_arrive(file: Any) -> None:
    values = {
        "gen_ai.usage.input_tokens": {"intValue": "12"},
        "gen_ai.usage.output_tokens": {"intValue": 3},
        "gen_ai.operation.name": {"stringValue": "chat"},
        "gen_ai.input.messages": {"arrayValue": {"values": [{"kvlistValue": {"values": [pair("role", "user")]}}]}},
        "agentperf.depends_on": {"arrayValue": {"values": [{"stringValue": "s1"}]}},
        "agentperf.cpu_time": {"doubleValue": "0.5"},
        "empty": {},
        "nothing": {"arrayValue": None},
        "blob": {"bytesValue": "aGVsbG8="},
        "odd": {"intValue": "twelve"},
    }
    span = document(agent("a", 1.0))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span["attributes"] = [{"key": key, "value": value} for key, value in values.items()]
    (found,) = read(file(json.dumps(document_of([span]))))
    assert found.kind == "llm"
    assert (found.tokens.input, found.tokens.output) == (12, 3)
    assert found.args_text == '[{"role":"user"}]'
    assert found.depends_on == ("s1",)
    assert found.cpu_ns == 500_000_000


def test_a_truncated_last_line_is_named_and_the_others_come(file: Any) -> None:
    found, said = read_both(file(jsonl(A, METRICS) + json.dumps(B)[:-300]))
    assert operations(found) == NAMES[:4]
    assert said.startswith("line 3: not JSON, or cut off (")


def test_a_line_cut_within_a_character_is_named_and_the_others_come(file: Any) -> None:
    cut = '{"resourceSpans": "日本'.encode()[:-1]
    found, said = read_both(file(jsonl(A).encode() + cut))
    assert len(found) == 4
    assert said.startswith("line 2: ")


def test_a_line_that_is_no_json_is_named_and_the_rest_is_read(file: Any) -> None:
    found, said = read_both(file(jsonl(A) + "2026-11-20 12:00 INFO started\n" + '{"half": \n' + jsonl(B)))
    assert operations(found) == NAMES
    assert said.startswith("line 2: ")
    assert "(of what starts on line 3): not JSON" in said


def test_the_line_of_the_fault_is_named_inside_of_a_pretty_printed_document(file: Any) -> None:
    lines = json.dumps(A, indent=2).splitlines()
    at = next(number for number, line in enumerate(lines) if '"spans"' in line)
    lines[at] = lines[at].replace(":", ";")
    found, said = read_both(file("\n".join(lines) + "\n" + json.dumps(B, indent=2)))
    assert operations(found) == NAMES[4:]
    assert said.startswith(f"line {at + 1} (of what starts on line 1): ")


BAD_SPANS = {
    "no trace id": ({"traceId": ""}, "it has no trace id"),
    "no span id": ({"spanId": None}, "it has no span id"),
    "zeros": ({"spanId": "0" * 16}, "it has no span id"),
    "short id": ({"traceId": "abc"}, "its trace id 'abc' is not 32 hexadecimal digits"),
    "id of no letters": ({"spanId": "xyz!" * 4}, "its span id"),
    "odd parent": ({"parentSpanId": "12"}, "its parent span id '12' is not 16 hexadecimal digits"),
    "id that is a number": ({"spanId": 12}, "its span id '12'"),
    "no start": ({"startTimeUnixNano": None}, "it has no startTimeUnixNano"),
    "no end": ({"endTimeUnixNano": ""}, "it has no endTimeUnixNano"),
    "negative": ({"startTimeUnixNano": "-5"}, "its startTimeUnixNano '-5' is no time in nanoseconds"),
    "text": ({"endTimeUnixNano": "noon"}, "its endTimeUnixNano 'noon' is no time"),
    "beyond fixed64": ({"endTimeUnixNano": 10**30}, "is no time in nanoseconds"),
    "infinite": ({"endTimeUnixNano": float("inf")}, "is no time in nanoseconds"),
    "odd flags": ({"flags": "many"}, "many"),
    "odd kind": ({"kind": [1]}, "list"),
}


@pytest.mark.parametrize(("change", "expected"), BAD_SPANS.values(), ids=BAD_SPANS.keys())
def test_a_bad_span_is_named_with_its_line_and_the_others_come(
    file: Any, change: dict[str, Any], expected: str
) -> None:
    broken = document(TREE, trace_id="a" * 32)
    broken["resourceSpans"][0]["scopeSpans"][0]["spans"][2].update(change)
    found, said = read_both(file(jsonl(METRICS, broken, B)))
    assert operations(found) == ["planner", "gpt", "http://api/x", "writer", "gpt"]
    assert said.startswith("line 2: span 'execute_tool search': ")
    assert expected in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("agentperf.cpu_time", {"doubleValue": 1e308}),
        ("db.system", {"kvlistValue": {"values": []}}),
        ("rpc.grpc.status_code", {"kvlistValue": {"values": []}}),
        ("agentperf.depends_on", {"arrayValue": {"values": [{"kvlistValue": {}}]}}),
    ],
)
def test_an_attribute_that_cannot_be_understood_costs_no_other_span(file: Any, key: str, value: Any) -> None:
    broken = document(TREE, trace_id="a" * 32)
    span = broken["resourceSpans"][0]["scopeSpans"][0]["spans"][2]
    span["attributes"] = [{"key": key, "value": value}]
    span["status"] = {"code": 2}
    found, _ = read_both(file(jsonl(broken, B)))
    assert [record.operation for record in found if record.span_id != span["spanId"]] == [
        "planner", "gpt", "http://api/x", "writer", "gpt",
    ]  # fmt: skip


def test_many_bad_spans_make_one_short_line(file: Any) -> None:
    found, said = read_both(file("".join(f"{{broken {number}\n" for number in range(50)) + jsonl(A)))
    assert len(found) == 4
    assert said.endswith("and 47 more")
    assert "\n" not in said


@pytest.mark.parametrize(
    "odd",
    [
        {"resourceSpans": [None, 3, "x", {"scopeSpans": [None, 7, {"spans": [None, 5, "x", []]}]}]},
        {"resourceSpans": {"scopeSpans": 3}},
        {"resourceSpans": [{"resource": {"attributes": [None, 4, {"value": 3}, {"key": "k"}]}, "scopeSpans": "x"}]},
        [[[]]],
    ],
)
def test_objects_of_the_wrong_shape_do_no_harm(file: Any, odd: Any) -> None:
    found, _ = read_both(file(jsonl(odd, A)))
    assert operations(found) == NAMES[:4]


def test_nesting_without_end_is_named(file: Any) -> None:
    found, said = read_both(file("[" * 100_000 + "\n" + jsonl(A)))
    assert len(found) == 4
    assert said.startswith("line 1: ")


def test_an_error_that_a_server_put_into_the_stream_is_passed_on(file: Any) -> None:
    found, said = read_both(file(jsonl({"result": A}, {"error": {"httpCode": 500, "message": "storage is gone"}})))
    assert len(found) == 4
    assert said == "line 2: the server says: storage is gone"


def test_a_damaged_gzip_gives_what_is_before_the_damage(file: Any) -> None:
    packed = gzip.compress(jsonl(*[A] * 200).encode() + os.urandom(2_000).hex().encode())
    found, said = read_both(file(packed[:-500]))
    assert len(found) == 800
    assert said.startswith("damaged gzip (")
    assert said.count("damaged") == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (gzip.compress(b""), "empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "not text"),
        (b"\x1f\x8bnot gzip", "damaged gzip"),
        (b"hello world\n", "line 1: not JSON"),
        (b"42", "no spans in it"),
        (b'{"some": "json"}', "no spans in it"),
        (json.dumps(METRICS).encode(), "no spans in it"),
    ],
)
def test_a_file_of_something_else_is_said_to_be_so(file: Any, content: bytes, expected: str) -> None:
    found, said = read_both(file(content))
    assert found == []
    assert expected in said


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    assert read_both(tmp_path / "none.jsonl") == ([], "No such file or directory")


def test_a_jaeger_address_without_http_gets_a_hint() -> None:
    _, said = read_both("localhost:16686")
    assert "starts with http://" in said


def test_an_impossible_path_is_an_error_like_others() -> None:
    assert "not a path" in read_both("a\0b")[1] or "No such file" in read_both("a\0b")[1]


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """As root, permissions mean nothing."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_file_that_may_not_be_read_is_said_to_be_so(file: Any, request: pytest.FixtureRequest) -> None:
    path = file(jsonl(A))
    path.chmod(0)
    request.getfixturevalue("unprivileged")
    assert read_both(path) == ([], "Permission denied")


def test_a_folder_is_read_with_the_folders_in_it(file: Any, tmp_path: Path) -> None:
    file(jsonl(A), "2026/traces.jsonl")
    file(gzip.compress(jsonl(B).encode()), "2026/11/old-2026-11-20T12.JSONL.gz")
    file("print()", "app.py")
    file("not json", "notes.txt")
    file(json.dumps({"name": "package"}), "package.json")
    file("", "just-rotated.jsonl")
    assert sorted(operations(read(tmp_path))) == sorted(NAMES)


def test_a_bad_file_in_a_folder_is_named_and_the_others_come(file: Any, tmp_path: Path) -> None:
    file(jsonl(A), "good.json")
    file(b"\xff\x00\xfe", "sub/bad.json")
    found, said = read_both(tmp_path)
    assert len(found) == 4
    assert said.startswith("sub/bad.json: not text")


def test_a_folder_without_traces_is_said_to_be_so(file: Any, tmp_path: Path) -> None:
    assert "no trace files in it" in read_both(tmp_path)[1]
    file("{}", "package.json")
    assert "no spans in any of its 1 files" in read_both(tmp_path)[1]


def test_20_megabytes_are_read_in_reasonable_time(file: Any) -> None:
    line = json.dumps(document(agent("a", *[tool(f"t{number}", 0.01) for number in range(40)])))
    path = file((line + "\n") * (20_000_000 // len(line)))
    started = time.process_time()
    assert len(read(path)) > 20_000
    assert time.process_time() - started < 20
