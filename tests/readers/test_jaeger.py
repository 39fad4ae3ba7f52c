"""Jaeger's HTTP API of both generations, and what answers at an address that is no Jaeger."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from _traces import agent, llm, tool
from otel_agentperf.model import SpanRecord
from otel_agentperf.readers import Query, ReadError, jaeger
from readers._jaeger import FakeJaeger, serving
from readers._otlp import document

PLANNER = [document(agent("planner", llm(1.0), tool(f"t{n}", 0.5)), trace_id=f"{n:032x}") for n in range(1, 4)]
WRITER = [document(agent("writer", llm(0.3)), trace_id="b" * 32, service="writer")]


def read(source: str, **query: Any) -> tuple[list[SpanRecord], str]:
    """The good spans, and what was said about the rest."""
    found: list[SpanRecord] = []
    try:
        for record in jaeger.read(source, Query(**query)):
            found.append(record)
    except ReadError as error:
        return found, str(error)
    return found, ""


def roots(found: list[SpanRecord]) -> list[str]:
    return [record.operation for record in found if record.kind == "agent"]


@pytest.fixture(params=[13, 20], ids=["2.13", "2.20"])
def server(request: pytest.FixtureRequest) -> Iterator[FakeJaeger]:
    fake = FakeJaeger(request.param, {"planner": PLANNER, "jaeger": [], "writer": WRITER})
    with serving(fake.answer) as fake.url:
        yield fake


def test_all_services_are_read_but_jaegers_own(server: FakeJaeger) -> None:
    found, said = read(server.url)
    assert said == ""
    assert roots(found) == ["planner"] * 3 + ["writer"]
    assert {asked["query.service_name"] for asked in server.asked} == {"planner", "writer"}


def test_only_the_services_asked_for_are_read(server: FakeJaeger) -> None:
    found, said = read(server.url, services=("writer",))
    assert (roots(found), said) == (["writer"], "")
    assert [asked["query.service_name"] for asked in server.asked] == ["writer"]


def test_lookback_and_limit_are_passed_on_in_both_spellings(server: FakeJaeger) -> None:
    found, _ = read(server.url, services=("planner",), lookback_s=600.0, limit=2)
    assert len(roots(found)) == 2
    (asked,) = server.asked
    assert asked["query.num_traces"] == asked["query.searchDepth"] == "2"
    assert asked["query.start_time_min"] == asked["query.startTimeMin"]
    first = datetime.fromisoformat(asked["query.start_time_min"].replace("Z", "+00:00"))
    assert abs(datetime.now(timezone.utc) - timedelta(minutes=10) - first) < timedelta(seconds=30)
    assert asked["query.start_time_max"] > asked["query.start_time_min"]


def test_a_lookback_beyond_all_time_is_no_error(server: FakeJaeger) -> None:
    assert len(roots(read(server.url, lookback_s=1e12)[0])) == 4


def test_a_service_without_traces_is_said_to_be_so(server: FakeJaeger) -> None:
    assert read(server.url, services=("nobody",), lookback_s=7_200.0) == (
        [],
        "no traces of nobody in the last 2 h (see --lookback)",
    )


def test_a_service_without_traces_does_not_matter_beside_others(server: FakeJaeger) -> None:
    found, said = read(server.url, services=("nobody", "writer"))
    assert (roots(found), said) == (["writer"], "")


@pytest.mark.parametrize("page", ["/trace/{}", "/trace/{}?uiFind=abc", "/trace/{}/", "/api/v3/traces/{}"])
def test_the_address_of_a_trace_is_that_trace(server: FakeJaeger, page: str) -> None:
    found, said = read(server.url + page.format(f"{2:032x}"))
    assert said == ""
    assert {record.trace_id for record in found} == {f"{2:032x}"}
    assert len(found) == 3


def test_a_trace_that_is_gone_is_said_to_be_so(server: FakeJaeger) -> None:
    found, said = read(f"{server.url}/trace/{'d' * 32}")
    assert found == []
    assert said == f"{server.url} has no trace {'d' * 32} (any more)"


@pytest.mark.parametrize("page", ["/", "/search", "/search?service=planner", "/monitor/"])
def test_the_address_of_a_page_of_the_ui_is_the_server(server: FakeJaeger, page: str) -> None:
    assert len(roots(read(server.url + page)[0])) == 4


def test_a_base_path_stays_in_front(server: FakeJaeger) -> None:
    server.base = "/tools/jaeger"
    assert len(roots(read(f"{server.url}/tools/jaeger/")[0])) == 4
    assert len(roots(read(f"{server.url}/tools/jaeger/search")[0])) == 4
    assert roots(read(f"{server.url}/tools/jaeger/trace/{2:032x}")[0]) == ["planner"]


def test_an_error_of_one_service_is_named_and_the_others_are_read(server: FakeJaeger) -> None:
    def answer(path: str, query: dict[str, str]) -> tuple[int, str]:
        if query.get("query.serviceName") == "planner":
            return 500, '{"error":{"httpCode":500,"message":"storage is gone"}}'
        return server.answer(path, query)

    with serving(answer) as url:
        found, said = read(url)
    assert roots(found) == ["writer"]
    assert said == f"service planner: HTTP 500 from {url}/api/v3/traces: storage is gone"


def test_a_server_without_services_is_said_to_be_so() -> None:
    with serving(FakeJaeger(13).answer) as url:
        assert read(url) == ([], "it has no services yet")


def test_an_error_in_the_middle_of_a_stream_is_named() -> None:
    fake = FakeJaeger(20, {"writer": [*WRITER, {"resourceSpans": []}]})

    def answer(path: str, query: dict[str, str]) -> tuple[int, str]:
        status, body = fake.answer(path, query)
        return status, body + '{"error":{"message":"deadline exceeded"}}' * path.endswith("traces")

    with serving(answer) as url:
        found, said = read(url)
    assert roots(found) == ["writer"]
    assert "deadline exceeded" in said


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, "<!DOCTYPE html><html></html>", "answered with a page, not with JSON; is it a Jaeger v2?"),
        (200, "hello", "answered with something else, not with JSON"),
        (200, "", "answered with something else, not with JSON"),
        (200, "[1, 2]", "does not answer as a Jaeger v2 does"),
        (200, '{"services": 3}', "does not answer as a Jaeger v2 does"),
        (200, '{"services": ', "does not answer as a Jaeger v2 does"),
        (404, "404 page not found", "HTTP 404 from"),
        (403, "<html>\n <b>Forbidden</b>\n</html>", "<html> <b>Forbidden</b> </html>"),
        (502, b"\xff\xfe", "HTTP 502 from"),
    ],
)
def test_what_is_no_jaeger_is_said_to_be_none(status: int, body: str | bytes, expected: str) -> None:
    with serving(lambda path, query: (status, body)) as url:
        found, said = read(url)
    assert found == []
    assert expected in said
    assert "\n" not in said


def test_an_unreachable_server_is_said_to_be_so() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        found, said = read(url)
    assert found == []
    assert said.startswith(f"no answer from {url} (")
    assert "refused" in said


def test_a_port_that_speaks_something_else_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00 h2 preface\r\n\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        found, said = read(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert found == []
    assert said.startswith("no answer from http://127.0.0.1:")


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://a b"]
)
def test_an_impossible_address_is_named(url: str) -> None:
    found, said = read(url)
    assert found == []
    assert said
    assert "\n" not in said


def test_https_is_spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate, and is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(FakeJaeger(20, {"writer": WRITER}).answer, context) as url:
        assert "certificate" in read(url)[1].lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert roots(read(url)[0]) == ["writer"]
