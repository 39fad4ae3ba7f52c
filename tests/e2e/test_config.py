"""The files that people start the stack with are valid, agree with each other, and publish nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from e2e._stack import CI, CONFIG, ROOT, Missing, collector_binary, installed, jaeger_binary, pinned
from otel_agentperf import _semconv

pytestmark = pytest.mark.e2e


def run(*command: object, **env: str) -> str:
    """The standard output of a command that has to succeed."""
    done = subprocess.run(
        [str(part) for part in command], env=os.environ | env, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command} exited {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tool() -> Any:
    """Find a program, or skip: `tool(collector_binary)`."""

    def find(where: Any, *args: str) -> Path:
        try:
            return where(*args)
        except Missing as missing:
            if CI:
                raise
            pytest.skip(str(missing))

    return find


@pytest.fixture(scope="module")
def compose(tool: Any) -> dict[str, Any]:
    """docker-compose.yml as docker-compose understands it, with the defaults filled in."""
    program = tool(installed, "docker-compose", "docker-compose")
    return yaml.safe_load(run(program, "config"))


def test_the_collector_accepts_its_file_with_every_default(tool: Any) -> None:
    run(tool(collector_binary), "validate", "--config", CONFIG / "otel-collector.yaml")


def test_what_goes_over_the_collectors_file_keeps_its_extensions() -> None:
    base, *overlays = (
        yaml.safe_load((CONFIG / name).read_text())
        for name in ("otel-collector.yaml", "tls.yaml", "mtls.yaml", "bearer-token.yaml")
    )
    for overlay in overlays:
        named = overlay.get("service", {}).get("extensions", base["service"]["extensions"])
        assert [*base["service"]["extensions"], *overlay.get("extensions", {})] == named


def test_no_measurement_is_mistaken_for_a_secret() -> None:
    config = yaml.safe_load((CONFIG / "otel-collector.yaml").read_text())
    patterns = config["processors"]["redaction"]["blocked_key_patterns"]
    blocked = re.compile("|".join(pattern.replace("$$", "$").removeprefix("(?i)") for pattern in patterns), re.I)
    names = {
        value
        for module in (_semconv, gen_ai_attributes)
        for value in vars(module).values()
        if isinstance(value, str) and value.startswith(("agentperf.", "gen_ai."))
    }
    assert "gen_ai.usage.input_tokens" in names
    assert [name for name in names if blocked.search(name)] == []
    assert blocked.search("OpenAI.apiKey")


@pytest.mark.parametrize("storage", ["memory", "badger"])
def test_jaeger_accepts_its_file_with_every_default(tool: Any, storage: str) -> None:
    run(tool(jaeger_binary), "validate", "--config", CONFIG / f"jaeger-{storage}.yaml")


def test_the_two_jaeger_files_differ_in_storage_only() -> None:
    memory, badger = (
        yaml.safe_load((CONFIG / f"jaeger-{storage}.yaml").read_text()) for storage in ("memory", "badger")
    )
    for each in (memory, badger):
        each["extensions"]["jaeger_storage"].pop("backends")
    assert memory == badger


def test_prometheus_accepts_its_file_and_finds_its_targets(tool: Any) -> None:
    said = run(tool(installed, "promtool", "prometheus"), "check", "config", CONFIG / "prometheus.yml")
    assert "SUCCESS" in said
    assert "WARNING" not in said


def test_the_ui_file_is_json_and_brings_our_attributes_to_the_top() -> None:
    ui = json.loads((CONFIG / "jaeger-ui.json").read_text())
    assert ui["topTagPrefixes"][0] == "agentperf."
    assert ui["monitor"]["menuEnabled"]
    assert ui["criticalPathEnabled"]
    assert all({"type", "url", "text"} <= set(link) for link in ui["linkPatterns"])


def test_compose_publishes_ports_on_loopback_only(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published
    for port in published:
        address = port if isinstance(port, str) else f"{port.get('host_ip')}:"
        assert address.startswith("127.0.0.1:"), f"{port} can be reached from other machines"


def test_compose_runs_the_collector_that_the_tests_run(compose: dict[str, Any]) -> None:
    assert compose["services"]["collector"]["image"].endswith(f":{pinned('COLLECTOR')}")


def test_compose_pins_every_image(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        _, _, tag = service["image"].partition(":")
        assert tag not in {"", "latest"}, service["image"]


def test_compose_keeps_traces_on_disk_when_asked(tool: Any) -> None:
    program = tool(installed, "docker-compose", "docker-compose")
    assert "/etc/agentperf/jaeger-badger.yaml" in run(program, "config", JAEGER_CONFIG="jaeger-badger.yaml")


def test_compose_keeps_the_collectors_queue_in_a_volume_that_its_user_may_write(tool: Any) -> None:
    program = tool(installed, "docker-compose", "docker-compose")
    services = yaml.safe_load(run(program, "config", COLLECTOR_USER="1000:1000"))["services"]
    queue = services["collector"]["environment"]["COLLECTOR_QUEUE_DIR"]
    assert f"collector-queue:{queue}:rw" in services["collector"]["volumes"]
    assert services["collector"]["user"] == "1000:1000"
    assert services["collector-queue"]["command"] == ["chown", "-R", "1000:1000", queue]
    needed = services["collector"]["depends_on"]["collector-queue"]
    assert needed == {"condition": "service_completed_successfully"}
