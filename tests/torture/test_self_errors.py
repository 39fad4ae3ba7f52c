"""Errors that we swallow: all of them counted, each kind said once, whatever threads and forks do meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from cli._receiver import Received, receiving

PROGRAM = """
import os, sys, threading
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from otel_agentperf import AgentPerfSpanProcessor, agent, instrument, on_report

def set_up():
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], Resource.create())
    provider = TracerProvider(shutdown_on_exit=False)
    instrument(tracer_provider=provider, meter_provider=meters)
    return meters

@on_report
def broken(report):
    raise {"a": ValueError, "b": TypeError, "c": LookupError}[report.root.operation]("secret")

def run(name, times):
    for _ in range(times):
        with agent(name):
            pass

def at_once(*arguments):
    threads = [threading.Thread(target=run, args=arguments) for _ in range(8)]
    for thread in threads:
        thread.start()
    return threads
"""

THREADS = """
sys.setswitchinterval(1e-6)
meters = set_up()
for thread in at_once("a", 100) + at_once("b", 50):
    thread.join()
meters.shutdown()
"""

FORK = """
sys.setswitchinterval(1e-6)
meters = set_up()
run("a", 10)
threads = at_once("a", 100) + at_once("b", 50)
for number in range(10):
    child = os.fork()
    if child == 0:
        from otel_agentperf import _guard
        before = dict(_guard.counts)
        run("c", 5)
        run("a", 5)
        after = {kind: count - before.get((place, kind), 0) for (place, kind), count in _guard.counts.items()}
        os._exit(0 if after.get("LookupError") == 5 and after["ValueError"] == 5 else 1)
    assert os.waitpid(child, 0)[1] == 0, number
for thread in threads:
    thread.join()
meters.shutdown()
"""


def run(code: str, received: Received, tmp_path: Path) -> list[str]:
    """What it logs."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTEST_", "COV_"))}
    log = tmp_path / "log"
    log_file = f"import logging\nlogging.basicConfig(filename={str(log)!r}, level='WARNING')\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", log_file + PROGRAM + code],
        env={**inherited, "OTEL_EXPORTER_OTLP_ENDPOINT": received.url},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "secret" not in log.read_text()
    return re.findall(r"otel-agentperf: (\w+) in on_report \(logged once", log.read_text())


def counted(received: Received) -> dict[tuple[str, str], int]:
    """`agentperf.self.errors` as it was sent last, by place and type; these are its only labels."""
    found = {}
    for path, body in received.requests:
        assert path == "/v1/metrics"
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                if metric.name == "agentperf.self.errors":
                    for point in metric.sum.data_points:
                        labels = {label.key: label.value.string_value for label in point.attributes}
                        found[labels.pop("place"), labels.pop("error.type")] = point.as_int
                        assert labels == {}
    return found


def test_by_many_threads_at_once(tmp_path: Path) -> None:
    with receiving() as received:
        logged = run(THREADS, received, tmp_path)
    assert counted(received) == {("on_report", "ValueError"): 800, ("on_report", "TypeError"): 400}
    assert Counter(logged) == {"ValueError": 1, "TypeError": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_while_the_process_forks(tmp_path: Path) -> None:
    """A child goes on counting from what it was forked with, says what is new to it, and does not hang at a log file
    that a thread of its parent's was writing to."""
    with receiving() as received:
        logged = run(FORK, received, tmp_path)
    assert counted(received) == {("on_report", "ValueError"): 810, ("on_report", "TypeError"): 400}
    assert Counter(logged)["ValueError"] == 1
    assert Counter(logged)["LookupError"] == 10
