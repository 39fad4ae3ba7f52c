"""`agentperf doctor`: what is here, who instruments it, whether telemetry arrives, and an exit code that says so."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from cli._receiver import receiving
from cli._run import AGENTPERF, Done, Folder


@pytest.fixture
def doctor(tmp_path: Path) -> Any:
    folder = Folder(tmp_path)

    def run(*args: str, **env: str) -> Done:
        return folder.run(AGENTPERF, "doctor", *args, env=env)

    return run


def document(done: Done) -> dict[str, Any]:
    return dict(json.loads(done.out))


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def distribution(folder: Path, name: str, version: str, entry_points: str = "", requires: str = "") -> None:
    """Another distribution, as far as its metadata tells."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}\n")
    (info / "entry_points.txt").write_text(entry_points)


def test_without_settings_nothing_is_wrong_and_nobody_needs_a_collector(doctor: Any) -> None:
    done = doctor()
    assert (done.code, done.err) == (0, "")
    assert "otel-agentperf" in done.out
    assert "openai" in done.out
    assert "agentperf run needs none" in " ".join(done.out.split())
    assert done.out.endswith("No problem was found.\n")
    assert not any(line.endswith(" ") for line in done.out.splitlines())


def test_the_document(doctor: Any) -> None:
    told = document(doctor("--format", "json", "--no-connect"))
    assert told["schema"] == "agentperf.doctor/v1"
    assert set(told["versions"]) >= {"otel-agentperf", "opentelemetry-sdk", "wrapt"}
    (openai,) = (library for library in told["libraries"] if library["integration"] == "openai")
    assert (openai["source"], openai["in_range"], openai["disabled"]) == ("wrapped", True, False)
    assert any("include_usage" in limit for limit in openai["limits"])
    assert [export["problem"] for export in told["exports"]] == [None, None]
    assert told["problems"] == []


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_endpoint_that_does_not_answer_is_a_problem(doctor: Any, protocol: str) -> None:
    where = f"http://127.0.0.1:{closed_port()}"
    done = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=where, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    text = " ".join(done.out.split())
    assert done.code == 1
    assert where.removeprefix("http://") in text
    assert "does not take traces" in text
    assert "No problem" not in text


def test_an_endpoint_that_answers_is_named(doctor: Any) -> None:
    with receiving() as received:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        done = doctor(**env, OTEL_EXPORTER_OTLP_HEADERS="authorization=secret")
    assert done.code == 0, done.out
    assert f"traces: otlp, {received.url}/v1/traces" in done.out
    assert {where for where, _ in received.requests} == {"/v1/traces", "/v1/metrics"}
    assert received.spans == {}
    assert "secret" not in done.out


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_login_and_the_query_of_an_endpoint_are_not_shown(doctor: Any, protocol: str) -> None:
    address = f"http://maria:hunter2@127.0.0.1:{closed_port()}/v1?token=hunter3"
    done = doctor(
        OTEL_EXPORTER_OTLP_ENDPOINT=address,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20hunter4",
    )
    assert done.code == 1
    assert "***@127.0.0.1" in done.out
    assert "hunter" not in done.out + done.err
    assert "maria" not in done.out + done.err


def test_our_sampler_leaves_no_run_without_a_report(doctor: Any) -> None:
    told = document(doctor("--format", "json", "--no-connect", OTEL_TRACES_SAMPLER="agentperf"))
    assert not any("OTEL_TRACES_SAMPLER" in note for note in told["notes"])


def test_without_connecting_nobody_is_asked(doctor: Any) -> None:
    with receiving() as received:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        assert doctor("--no-connect", **env).code == 0
    assert received.requests == []


def test_exporters_that_have_no_endpoint(doctor: Any) -> None:
    done = doctor(OTEL_TRACES_EXPORTER="console,none", OTEL_METRICS_EXPORTER="none")
    assert done.code == 0
    assert "traces: console, no endpoint to try" in done.out


def test_a_certificate_that_is_not_there(doctor: Any) -> None:
    done = doctor(
        OTEL_EXPORTER_OTLP_ENDPOINT="https://127.0.0.1:1", OTEL_EXPORTER_OTLP_CERTIFICATE="/nowhere.pem",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )  # fmt: skip
    assert done.code == 1
    assert "Traceback" not in done.out + done.err


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("OTEL_SDK_DISABLED", "true", "nothing is traced"),
        ("OTEL_AGENTPERF_ENABLED", "false", "nothing is instrumented"),
        ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis,agentperf", "leaves it out"),
        ("OTEL_AGENTPERF_MAX_RUNS", "many", "OTEL_AGENTPERF_MAX_RUNS"),
    ],
)
def test_settings_that_are_in_the_way(doctor: Any, setting: str, value: str, told: str) -> None:
    done = doctor("--no-connect", **{setting: value})
    assert done.code == 1
    assert told in " ".join(done.out.split("Problems")[1].split())


def test_settings_that_cost_something_are_worth_knowing(doctor: Any) -> None:
    told = document(
        doctor("--format", "json", "--no-connect", OTEL_TRACES_SAMPLER="traceidratio", OTEL_ATTRIBUTE_COUNT_LIMIT="32")
    )
    assert [note.split(":")[0] for note in told["notes"]] == [
        "OTEL_TRACES_SAMPLER=traceidratio", "OTEL_ATTRIBUTE_COUNT_LIMIT=32",
    ]  # fmt: skip


def test_an_integration_that_is_left_out(doctor: Any) -> None:
    told = document(doctor("--format", "json", "--no-connect", OTEL_AGENTPERF_DISABLED_INTEGRATIONS="openai"))
    assert [it["integration"] for it in told["libraries"] if it["disabled"]] == ["openai"]


def test_what_is_instrumented_twice(doctor: Any, tmp_path: Path) -> None:
    distribution(
        tmp_path, "openinference-instrumentation-openai", "1.0",
        "[opentelemetry_instrumentor]\nopenai = openinference:Instrumentor\n",
        'Requires-Dist: openai>=1.0; extra == "instruments"\nRequires-Dist: wrapt\n',
    )  # fmt: skip
    told = document(doctor("--format", "json", "--no-connect", PYTHONPATH=str(tmp_path)))
    (openai,) = (library for library in told["libraries"] if library["integration"] == "openai")
    assert openai["others"] == ["openinference-instrumentation-openai"]
    (note,) = (note for note in told["notes"] if "openinference" in note)
    assert "OTEL_AGENTPERF_DISABLED_INTEGRATIONS=openai" in note
    off = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "openai"}
    told = document(doctor("--format", "json", "--no-connect", PYTHONPATH=str(tmp_path), **off))
    assert not any(library["others"] for library in told["libraries"])


def test_a_version_out_of_the_tested_range_and_pins_that_do_not_fit(doctor: Any, tmp_path: Path) -> None:
    distribution(tmp_path, "cachetools", "99.0")
    distribution(
        tmp_path, "opentelemetry-distro", "0.48b0", "[opentelemetry_distro]\ndistro = nowhere:Distro\n",
        "Requires-Dist: opentelemetry-sdk~=1.13; extra == 'x'\nRequires-Dist: opentelemetry-instrumentation==0.48b0\n",
    )  # fmt: skip
    done = doctor("--format", "json", "--no-connect", PYTHONPATH=str(tmp_path))
    told = document(done)
    assert done.code == 1
    assert told["problems"] == [
        f"opentelemetry-distro 0.48b0 needs opentelemetry-instrumentation==0.48b0, and "
        f"{told['versions']['opentelemetry-instrumentation']} is installed."
    ]
    assert any(note.startswith("cachetools 99.0 is not in the range") for note in told["notes"])
    assert any("OTEL_PYTHON_DISTRO=agentperf" in note for note in told["notes"])
