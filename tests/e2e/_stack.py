"""The real Collector, Jaeger and Prometheus, run from the very files that docker-compose mounts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "collector-config"
BUILD = Path(__file__).with_name("build_tools.sh")
CI = os.environ.get("CI", "").lower() in {"1", "true"}

T = TypeVar("T")
Process = subprocess.Popen[bytes]


class Missing(Exception):
    """A program that the stack needs is not on this machine; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where to send to and where to read back from."""

    otlp_grpc: str
    otlp_http: str
    jaeger: str
    prometheus: str
    traces_file: Path
    logs: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Ports:
    """One free loopback port for everything that listens."""

    otlp_grpc: int
    otlp_http: int
    span_metrics: int
    collector_health: int
    collector_telemetry: int
    jaeger_otlp_grpc: int
    jaeger_otlp_http: int
    jaeger_http: int
    jaeger_grpc: int
    jaeger_health: int
    jaeger_telemetry: int
    prometheus: int


def free_ports() -> Ports:
    """Ports that were free a moment ago. All are held until the last is chosen, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in Ports.__dataclass_fields__]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return Ports(*(each.getsockname()[1] for each in sockets))


def pinned(tool: str) -> str:
    """The version of `tool` (COLLECTOR, JAEGER) that build_tools.sh builds."""
    found = re.search(rf"^{tool}=([\d.]+)", BUILD.read_text(), re.MULTILINE)
    assert found, f"{BUILD} does not say {tool}=VERSION"
    return found[1]


def collector_binary() -> Path:
    return _built(f"otelcol-{pinned('COLLECTOR')}")


def jaeger_binary() -> Path:
    return _built(f"jaeger-{pinned('JAEGER')}")


def installed(program: str, package: str) -> Path:
    """The path of a program from the distribution's package."""
    found = shutil.which(program)
    if not found:
        raise Missing(f"{program} is not installed: apt-get install {package}")
    return Path(found)


def _built(name: str) -> Path:
    """The path of a binary in the cache. Only CI builds: elsewhere 15 minutes would come as a surprise."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    binary = cache / "otel-agentperf" / name
    if not binary.exists() and CI:
        subprocess.run(["bash", BUILD], check=True, stdout=subprocess.DEVNULL)
    if not binary.exists():
        raise Missing(f"{binary} is missing: bash {BUILD.relative_to(ROOT)}")
    return binary


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """Start all three, wait until each says it is healthy, stop them at the end. Logs and data go to `folder`.

    Raises:
        Missing: a program is not on this machine.
        RuntimeError: one of them did not come up; the message holds the end of its log.
    """
    ports = free_ports()
    with prometheus(folder, ports), jaeger(folder, ports), collector(folder, ports):
        yield Stack(
            otlp_grpc=local(ports.otlp_grpc),
            otlp_http=local(ports.otlp_http),
            jaeger=local(ports.jaeger_http),
            prometheus=local(ports.prometheus),
            traces_file=folder / "traces.jsonl",
            logs=tuple(sorted(folder.glob("*.log"))),
        )


def local(port: int, path: str = "") -> str:
    return f"http://127.0.0.1:{port}{path}"


@contextlib.contextmanager
def collector(folder: Path, ports: Ports, *overlays: str, **settings: object) -> Iterator[Process]:
    """The Collector with the file that docker-compose mounts, files of the same folder over it, and settings."""
    command = [collector_binary(), *(f"--config={CONFIG / name}" for name in ("otel-collector.yaml", *overlays))]
    env = {
        "COLLECTOR_OTLP_GRPC_PORT": ports.otlp_grpc,
        "COLLECTOR_OTLP_HTTP_PORT": ports.otlp_http,
        "COLLECTOR_PROMETHEUS_PORT": ports.span_metrics,
        "COLLECTOR_HEALTH_PORT": ports.collector_health,
        "COLLECTOR_TELEMETRY_PORT": ports.collector_telemetry,
        "COLLECTOR_TRACES_FILE": folder / "traces.jsonl",
        "COLLECTOR_QUEUE_DIR": folder / "queue",
        "COLLECTOR_SPAN_METRICS_FLUSH": "1s",
        "JAEGER_OTLP_ENDPOINT": f"127.0.0.1:{ports.jaeger_otlp_grpc}",
    }
    with _process(command, env | settings, folder / "collector.log", local(ports.collector_health)) as process:
        yield process


@contextlib.contextmanager
def jaeger(folder: Path, ports: Ports, storage: str = "memory") -> Iterator[Process]:
    command = [jaeger_binary(), f"--config={CONFIG / f'jaeger-{storage}.yaml'}"]
    env = {
        "JAEGER_OTLP_GRPC_PORT": ports.jaeger_otlp_grpc,
        "JAEGER_OTLP_HTTP_PORT": ports.jaeger_otlp_http,
        "JAEGER_HTTP_PORT": ports.jaeger_http,
        "JAEGER_GRPC_PORT": ports.jaeger_grpc,
        "JAEGER_HEALTH_PORT": ports.jaeger_health,
        "JAEGER_TELEMETRY_PORT": ports.jaeger_telemetry,
        "JAEGER_PROMETHEUS_URL": local(ports.prometheus),
        "JAEGER_UI_CONFIG": CONFIG / "jaeger-ui.json",
        "JAEGER_DATA": folder / "jaeger",
    }
    with _process(command, env, folder / "jaeger.log", local(ports.jaeger_health, "/status")) as process:
        yield process


@contextlib.contextmanager
def prometheus(folder: Path, ports: Ports) -> Iterator[None]:
    """Prometheus looks for the targets beside the file it was given, so a link brings the two together."""
    config = folder / "prometheus.yml"
    config.symlink_to(CONFIG / "prometheus.yml")
    targets = [f"127.0.0.1:{ports.span_metrics}", f"127.0.0.1:{ports.collector_telemetry}"]
    config.with_name("prometheus-targets.yml").write_text(f"- targets: {targets}\n")
    command = [
        installed("prometheus", "prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{ports.prometheus}",
    ]
    with _process(command, {}, folder / "prometheus.log", local(ports.prometheus, "/-/ready")):
        yield


@contextlib.contextmanager
def _process(command: list[str | Path], env: Mapping[str, object], log: Path, health: str) -> Iterator[Process]:
    """Run a server and wait until its health address answers 200; stop it afterwards, if it still runs."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | {key: str(value) for key, value in env.items()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def healthy() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{log.stem} ended with {process.returncode}:\n{tail(log)}")
        with urllib.request.urlopen(health, timeout=2) as answer:
            return bool(answer.status == 200)

    try:
        try:
            wait_until(healthy, what=f"{log.stem} to be healthy")
        except AssertionError as error:
            raise RuntimeError(f"{error}\n{tail(log)}") from error
        yield process
    finally:
        _stop(process)


def _stop(process: Process) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(probe: Callable[[], T], *, what: str, timeout: float = 30, pause: float = 0.2) -> T:
    """The first true answer of `probe`. Data takes its time through queues, so every look-up asks again.

    A refused connection or an HTTP error is "not yet". Raises AssertionError after `timeout` seconds, with
    the last answer or error.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            last = answer = probe()
            if answer:
                return answer
        except urllib.error.HTTPError as error:
            with error:
                last = f"{error}: {error.read(500)!r}"
        except OSError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}; last answer: {last!r}")
        time.sleep(pause)


def tail(log: Path, lines: int = 40) -> str:
    """The end of a log, which is where the reason is."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
