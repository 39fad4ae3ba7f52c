"""What the real Collector writes and the real Jaeger's UI downloads is read, each in every format they have."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from _traces import agent, llm, records, tool
from e2e._stack import CI, Missing, _process, collector_binary, free_ports, jaeger, local, wait_until
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.model import Report, SpanRecord
from otel_agentperf.readers import Query, files
from readers._proto import request

pytestmark = pytest.mark.e2e

CONFIG = Path(__file__).with_name("collector-files.yaml")
TREE = agent(
    "planner",
    llm(1.0, tokens=(10, 5)),
    *[tool("search", 0.2, args={"q": n}, result=n, depends_on=()) for n in range(6)],
    tool("save", 0.3, error="TimeoutError", depends_on=("0" * 15 + "3",)),
)
TRACE_ID = "ab" * 16


@pytest.fixture(autouse=True)
def skipped_without_programs() -> None:
    try:
        collector_binary()
    except Missing as missing:
        if CI:
            raise
        pytest.skip(str(missing))


def read(path: Path) -> list[SpanRecord]:
    return [item for item in files.read(str(path), Query()) if isinstance(item, SpanRecord)]


def same(report: Report, expected: Report) -> None:
    assert report.operations == expected.operations
    assert report.findings == expected.findings
    assert report.tokens == expected.tokens
    assert [span.depends_on for span in report.run.spans] == [span.depends_on for span in expected.run.spans]


def send(port: int, body: bytes) -> None:
    headers = {"Content-Type": "application/x-protobuf"}
    urllib.request.urlopen(urllib.request.Request(local(port, "/v1/traces"), body, headers), timeout=10).close()


def test_every_format_of_the_collectors_file_exporter_gives_the_same_report(tmp_path: Path) -> None:
    ports = free_ports()
    env = {
        "FOLDER": tmp_path,
        "COLLECTOR_OTLP_HTTP_PORT": ports.otlp_http,
        "COLLECTOR_HEALTH_PORT": ports.collector_health,
    }
    ids = ["1" * 32, "2" * 32, "3" * 32]
    command: list[str | Path] = [collector_binary(), f"--config={CONFIG}"]
    with _process(command, env, tmp_path / "collector.log", local(ports.collector_health)):
        for trace_id in ids:
            send(ports.otlp_http, request(TREE, trace_id=trace_id))
    (expected,) = map(analyze, find_runs(records(TREE)))
    for folder in ("proto", "json", "proto_zstd", "json_zstd"):
        if folder.endswith("zstd"):
            pytest.importorskip("zstandard")
        runs = find_runs(read(tmp_path / folder))
        assert [run.root.trace_id for run in runs] == ids, folder
        for run in runs:
            same(analyze(run), expected)


def test_what_jaegers_ui_downloads_gives_the_same_report(tmp_path: Path) -> None:
    ports = free_ports()
    with jaeger(tmp_path, ports):
        send(ports.jaeger_otlp_http, request(TREE, trace_id=TRACE_ID))

        def downloaded() -> bytes:
            with urllib.request.urlopen(local(ports.jaeger_http, f"/api/traces/{TRACE_ID}"), timeout=5) as answer:
                content: bytes = answer.read()
            return content

        wait_until(lambda: len(json.loads(downloaded())["data"][0]["spans"]) == 9, what="the trace to be in Jaeger")
        (tmp_path / "trace.json").write_bytes(downloaded())
    (run,) = find_runs(read(tmp_path / "trace.json"))
    (expected,) = map(analyze, find_runs(records(TREE)))
    same(analyze(run), expected)
    assert run.root.service == "svc"
