"""TLS, client certificates and tokens: who may send is heard, who may not is refused, and no program suffers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cli._run import PLANNER, environment
from e2e._stack import Ports, collector, free_ports, installed

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("programs")]

SETUPS = {
    "TLS": ("tls.yaml",),
    "client certificates": ("tls.yaml", "mtls.yaml"),
    "token": ("tls.yaml", "bearer-token.yaml"),
}
TRUSTING = {"CERTIFICATE": "ca.crt"}
OWN = {"CLIENT_CERTIFICATE": "client.crt", "CLIENT_KEY": "client.key"}
STRANGER = {"CLIENT_CERTIFICATE": "stranger.crt", "CLIENT_KEY": "stranger.key"}
HEARD = {
    "TLS": TRUSTING,
    "client certificates": TRUSTING | OWN,
    "token": TRUSTING | {"HEADERS": "authorization=Bearer%20second-token"},
}
REFUSED = {
    "TLS": {"another CA": {"CERTIFICATE": "other-ca.crt"}, "no CA": {}},
    "client certificates": {"no certificate": TRUSTING, "another CA's": TRUSTING | STRANGER},
    "token": {"no token": TRUSTING, "wrong token": TRUSTING | {"HEADERS": "authorization=Bearer%20third-token"}},
}
"""What a program sets, as OTEL_EXPORTER_OTLP_*."""
REASONS = {
    "TLS": "CERTIFICATE_VERIFY_FAILED",
    # Over TLS 1.3 a client hears of it when it already believes to be connected.
    "client certificates": "SSL|TSI_|reset|aborted",
    "token": "UNAUTHENTICATED|401",
}
IMPATIENT = {"TIMEOUT": "6"}
"""Over HTTP an exporter tells the reason only when it tries again: there has to be time for that."""


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of certificates and tokens: everything that anybody in these tests has."""
    folder = tmp_path_factory.mktemp("secrets")
    for authority in ("ca", "client-ca", "other-ca"):
        openssl(folder, authority)
    openssl(folder, "server", "-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
    openssl(folder, "client", "-CA", "client-ca.crt", "-CAkey", "client-ca.key")
    openssl(folder, "stranger", "-CA", "other-ca.crt", "-CAkey", "other-ca.key")
    (folder / "tokens").write_text("first-token\nsecond-token # of the team that came second\n")
    (folder / "app.py").write_text(PLANNER + "\nprint(planner())\n")
    return folder


def openssl(folder: Path, name: str, *options: str) -> None:
    """Make the certificate `name`.crt and its key, self-signed unless the options say otherwise."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
    command = [installed("openssl", "openssl"), "req", "-x509", *key, "-out", f"{name}.crt", "-days", "2"]
    subprocess.run([*command, "-subj", f"/CN={name}", *options], cwd=folder, check=True, capture_output=True)


def start(secrets: Path, service: str, ports: Ports, protocol: str, settings: dict[str, str]) -> subprocess.Popen[str]:
    port = ports.otlp_grpc if protocol == "grpc" else ports.otlp_http
    exporting = {
        "OTEL_SERVICE_NAME": service,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"https://127.0.0.1:{port}",
        **{f"OTEL_EXPORTER_OTLP_{name}": value for name, value in settings.items()},
    }
    # `requests`, which exports over HTTP, takes these before it takes the exporter's CERTIFICATE.
    env = environment(**exporting, REQUESTS_CA_BUNDLE="", CURL_CA_BUNDLE="")
    instrument = Path(sys.executable).with_name("opentelemetry-instrument")
    return subprocess.Popen(
        [instrument, sys.executable, "app.py"],
        cwd=secrets,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def services(path: Path) -> set[str]:
    """Who sent what is in the Collector's file."""
    return {
        attribute["value"]["stringValue"]
        for line in path.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for attribute in resource["resource"]["attributes"]
        if attribute["key"] == "service.name"
    }


@pytest.mark.parametrize("setup", SETUPS)
def test_only_who_may_send_is_heard(setup: str, secrets: Path, tmp_path: Path) -> None:
    senders = {"heard": HEARD[setup], **{who: settings | IMPATIENT for who, settings in REFUSED[setup].items()}}
    cases = {f"{who}, {protocol}": who for who in senders for protocol in ("grpc", "http/protobuf")}
    ports = free_ports()
    where = {"COLLECTOR_CERTS": secrets, "COLLECTOR_TOKENS": secrets / "tokens"}
    with collector(tmp_path, ports, *SETUPS[setup], **where):
        programs = {
            case: start(secrets, case, ports, case.partition(", ")[2], senders[who]) for case, who in cases.items()
        }
        said = {case: program.communicate(timeout=60) for case, program in programs.items()}
    assert {(program.returncode, said[case][0]) for case, program in programs.items()} == {(0, "[0, 1, 2]\n")}
    heard = {case for case, who in cases.items() if who == "heard"}
    assert services(tmp_path / "traces.jsonl") == heard
    complaints = {case: errors for case, (_, errors) in said.items() if "Failed to export" in errors}
    assert complaints.keys() == cases.keys() - heard
    assert [errors for errors in complaints.values() if not re.search(REASONS[setup], errors)] == []


def test_without_settings_nothing_listens_beyond_loopback(secrets: Path, tmp_path: Path) -> None:
    where = {"COLLECTOR_CERTS": secrets, "COLLECTOR_TOKENS": secrets / "tokens"}
    overlays = dict.fromkeys(name for names in SETUPS.values() for name in names)
    with collector(tmp_path, free_ports(), *overlays, **where) as process:
        listening = [each for each in psutil.Process(process.pid).net_connections() if each.status == "LISTEN"]
    assert len(listening) == 5
    assert {each.laddr.ip for each in listening} == {"127.0.0.1"}


def test_a_collector_without_its_secrets_does_not_start(tmp_path: Path) -> None:
    """Rather than to listen in the clear, or to everybody."""
    for overlays in SETUPS.values():
        with (
            pytest.raises(RuntimeError, match="no such file"),
            collector(tmp_path, free_ports(), *overlays, COLLECTOR_CERTS=tmp_path, COLLECTOR_TOKENS=tmp_path / "none"),
        ):
            pass
