"""Jaeger's own JSON, as its UI downloads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from _traces import Node, agent, http, llm, raw_spans, records, tool
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.classify import RawSpan
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.model import SpanRecord
from otel_agentperf.readers import Query, ReadError, files
from readers._otlp import document

TREE = agent(
    "planner",
    llm(1.0, tokens=(10, 5)),
    *[tool("search", 0.2, args={"q": n}, depends_on=()) for n in range(6)],
    http("http://api/x", 0.2, status=503),
)


def download(*tops: Node, service: str = "svc", **where: Any) -> dict[str, Any]:
    """What the UI's "Trace JSON" holds."""
    spans = [span_object(raw) for raw in raw_spans(*tops, **where)]
    process = {"serviceName": service, "tags": [tag("host.name", "h")]}
    trace = {"traceID": spans[0]["traceID"], "spans": spans, "processes": {"p1": process}, "warnings": None}
    return {"data": [trace], "total": 0, "limit": 0, "offset": 0, "errors": None}


def span_object(raw: RawSpan) -> dict[str, Any]:
    trace_id = raw.trace_id.lstrip("0")
    above = {"refType": "CHILD_OF", "traceID": trace_id, "spanID": (raw.parent_id or "").lstrip("0")}
    tags = [tag(key, value) for key, value in raw.attributes.items()]
    tags += [tag("span.kind", raw.side), tag("otel.scope.name", raw.scope)] + [tag("error", True)] * raw.failed
    return {
        "traceID": trace_id,
        "spanID": raw.span_id.lstrip("0"),
        "operationName": raw.name,
        "references": [above] if raw.parent_id else [],
        "startTime": raw.start_ns // 1_000,
        "duration": (raw.end_ns - raw.start_ns) // 1_000,
        "tags": tags,
        "logs": [],
        "processID": "p1",
        "warnings": None,
    }


def tag(key: str, value: Any) -> dict[str, Any]:
    kinds = {bool: "bool", int: "int64", float: "float64"}
    told = value if type(value) in kinds else json.dumps(value) if isinstance(value, (list, tuple)) else str(value)
    return {"key": key, "type": kinds.get(type(value), "string"), "value": told}


def read(path: Path | str) -> tuple[list[SpanRecord], str]:
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
    def write(content: Any, name: str = "trace.json") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.mark.parametrize("indent", [None, 4])
def test_a_download_gives_the_report_that_the_spans_give_directly(file: Any, indent: int | None) -> None:
    found, said = read(file(json.dumps(download(TREE), indent=indent)))
    assert said == ""
    (from_file,), (direct,) = find_runs(found), find_runs(records(TREE))
    assert analyze(from_file).operations == analyze(direct).operations
    assert analyze(from_file).findings == analyze(direct).findings
    assert analyze(from_file).findings
    assert analyze(from_file).tokens == analyze(direct).tokens
    assert from_file.root.service == "svc"


def test_the_api_v3_form_is_read_too(file: Any) -> None:
    found, said = read(file({"result": document(TREE)}))
    assert (len(found), said) == (9, "")


def test_a_bare_trace_and_a_list_of_traces_are_read(file: Any) -> None:
    one, other = (download(TREE, trace_id=letter * 32)["data"][0] for letter in "ab")
    assert len(read(file(one))[0]) == 9
    assert len(read(file([one, other]))[0]) == 18
    assert len(read(file({"data": [one, other]}))[0]) == 18


def test_ids_without_their_leading_zeros_are_whole_again(file: Any) -> None:
    found, _ = read(file(download(TREE, trace_id="0" * 16 + "12" * 8)))
    assert found[0].trace_id == "0" * 16 + "12" * 8
    assert found[1].parent_id == found[0].span_id == "0" * 15 + "1"


def test_links_from_a_run_to_its_evidence_make_no_circle(file: Any) -> None:
    whole = download(TREE)
    spans = whole["data"][0]["spans"]
    spans[0]["references"] = [
        {"refType": "FOLLOWS_FROM", "traceID": spans[0]["traceID"], "spanID": spans[n]["spanID"]} for n in (2, 3)
    ]
    found, _ = read(file(whole))
    assert found[0].parent_id is None
    assert [run.root.operation for run in find_runs(found)] == ["planner"]


def test_a_span_that_only_follows_from_another_is_below_it(file: Any) -> None:
    whole = download(TREE)
    spans = whole["data"][0]["spans"]
    for span in spans[1:]:
        span["references"][0]["refType"] = "FOLLOWS_FROM"
    spans[1]["startTime"] += 1
    found, _ = read(file(whole))
    assert found[2].parent_id == found[0].span_id


def test_a_reference_to_another_trace_is_no_parent(file: Any) -> None:
    whole = download(TREE)
    whole["data"][0]["spans"][1]["references"][0]["traceID"] = "77"
    assert read(file(whole))[0][1].parent_id is None


def test_two_services_of_a_trace_are_two_processes(file: Any) -> None:
    whole = download(TREE)
    trace = whole["data"][0]
    trace["processes"]["p2"] = {"serviceName": "other"}
    trace["spans"][-1]["processID"] = "p2"
    found, _ = read(file(whole))
    assert (found[0].service, found[-1].service) == ("svc", "other")
    assert found[0].process != found[-1].process


BAD_SPANS: dict[str, tuple[dict[str, Any], str]] = {
    "no trace id": ({"traceID": ""}, "it has no trace id"),
    "no span id": ({"spanID": None}, "it has no span id"),
    "long id": ({"spanID": "1" * 20}, "its span id"),
    "no start": ({"startTime": None}, "its startTime 'None' is no time in microseconds"),
    "text": ({"duration": "long"}, "its duration 'long' is no time in microseconds"),
    "negative": ({"duration": -3}, "its duration '-3' is no time"),
    "endless": ({"startTime": 10**30}, "is no time in microseconds"),
}


@pytest.mark.parametrize(("change", "expected"), BAD_SPANS.values(), ids=BAD_SPANS.keys())
def test_a_bad_span_is_named_and_the_others_come(file: Any, change: dict[str, Any], expected: str) -> None:
    whole = download(TREE)
    whole["data"][0]["spans"][2].update(change)
    found, said = read(file(whole))
    assert len(found) == 8
    assert said.startswith("line 1: span 'execute_tool search': ")
    assert expected in said


@pytest.mark.parametrize(
    "odd",
    [
        {"traceID": "1", "spans": [None, 3, "x", {}], "processes": [1]},
        {"data": [{"spans": [{"references": [None, 5], "tags": {"a": 1}}], "processes": {"p1": None}}]},
        {"data": {"spans": 3}},
    ],
)
def test_objects_of_the_wrong_shape_do_no_harm(file: Any, odd: Any) -> None:
    found, said = read(file(json.dumps(odd) + "\n" + json.dumps(download(TREE))))
    assert len(found) == 9
    assert "\n" not in said


def test_an_error_in_place_of_the_trace_is_passed_on(file: Any) -> None:
    answer = {"data": None, "errors": [{"code": 404, "msg": "trace not found"}]}
    assert read(file(answer)) == ([], "line 1: the server says: trace not found")
