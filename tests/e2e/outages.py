"""What it costs when Jaeger or the Collector is down: the numbers of docs/reliability.md.

`PYTHONPATH=tests python -m e2e.outages 60` prints them for outages of 60 seconds; the tests take short ones.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from cli._run import environment
from e2e._read_back import get_json, spans_of
from e2e._stack import Ports, collector, free_ports, jaeger, local, wait_until

SPANS = 10
"""in each request, which is one trace"""
PATIENT = {
    "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
    "OTEL_BSP_MAX_QUEUE_SIZE": "65536",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64",
}
"""Settings of a program that bear more than the defaults do."""
PROGRAM = """\
import os, sys, time
from opentelemetry import trace
from otel_agentperf import agent, tool

@tool
def search(number):
    return number

@agent
def planner():
    print(f"{trace.get_current_span().get_span_context().trace_id:032x}", flush=True)
    return [search(number) for number in range(3)]

while not os.path.exists(sys.argv[1]):
    planner()
    time.sleep(0.05)
"""
"""About 20 runs a second until the file appears. Prints the trace of each."""
RUN_SPANS = 4


def request(number: int, padding: int = 0) -> bytes:
    """An ExportTraceServiceRequest with the trace `number`. The padding is where no processor looks at it."""
    now = time.time_ns()
    spans = [
        Span(
            trace_id=number.to_bytes(16, "big"),
            span_id=(each + 1).to_bytes(8, "big"),
            name="invoke_agent planner",
            trace_state="k=" + "v" * (padding // SPANS),
            start_time_unix_nano=now,
            end_time_unix_nano=now + 1_000_000,
        )
        for each in range(SPANS)
    ]
    service = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value="outages"))])
    resource = ResourceSpans(resource=service, scope_spans=[ScopeSpans(spans=spans)])
    return ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()


@dataclass(slots=True)
class Sent:
    """Traces, each sent in one request, by the Collector's answer."""

    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    def all(self) -> list[str]:
        return self.accepted + self.refused + self.unanswered

    def send(self, ports: Ports, padding: int = 0) -> list[str]:
        """Send one more, once. The answer: the list it went to."""
        number = len(self.all()) + 1
        answer = self._answer(ports, request(number, padding))
        answer.append(f"{number:032x}")
        return answer

    def _answer(self, ports: Ports, body: bytes) -> list[str]:
        headers = {"Content-Type": "application/x-protobuf"}
        try:
            url = local(ports.otlp_http, "/v1/traces")
            urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10).close()
        except urllib.error.HTTPError as error:
            with error:
                return self.refused
        except OSError:
            return self.unanswered
        return self.accepted


@contextlib.contextmanager
def traffic(ports: Ports, pause_s: float = 0.05) -> Iterator[Sent]:
    """Send a request after every pause in the background, whatever becomes of it, until the block ends."""
    sent, stop = Sent(), threading.Event()

    def run() -> None:
        while not stop.wait(pause_s):
            sent.send(ports)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join()


def arrived(ports: Ports, trace_id: str) -> Counter[str]:
    """How often Jaeger holds each span of a trace."""
    try:
        # `raw_traces`: otherwise Jaeger shows equal spans once.
        found = get_json(local(ports.jaeger_http, f"/api/v3/traces/{trace_id}"), raw_traces="true")
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                return Counter()
            raise
    return Counter(span["spanId"] for span in spans_of(found["result"]))


def lost(ports: Ports, sent: Sent) -> list[str]:
    """The accepted traces that Jaeger does not hold whole."""
    return [trace_id for trace_id in sent.accepted if len(arrived(ports, trace_id)) < SPANS]


def repeated(ports: Ports, sent: Sent) -> list[str]:
    """The traces of which Jaeger holds a span more than once."""
    return [trace_id for trace_id in sent.all() if max(arrived(ports, trace_id).values(), default=0) > 1]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of what was sent in an outage, and how long it took to arrive after it (seconds)."""

    sent: int
    accepted: Sequence[str]
    lost: Sequence[str]
    repeated: Sequence[str]
    caught_up_s: float


def both_killed(folder: Path, seconds: float) -> Outcome:
    """In the middle of traffic Jaeger, which keeps its traces in badger, is killed and stays away for `seconds`.
    Half way the Collector is killed as well, with all that it took in its queue, and is started again."""
    ports = free_ports()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(jaeger(folder, ports, "badger"))
        gateway = stack.enter_context(collector(folder, ports))
        with traffic(ports) as sent:
            time.sleep(1)
            kill(store)
            time.sleep(seconds / 2)
            kill(gateway)
            stack.enter_context(collector(folder, ports))
            time.sleep(seconds / 2)
            stack.enter_context(jaeger(folder, ports, "badger"))
        return outcome(ports, sent, patience_s=30 + 2 * seconds)


def killed_often(folder: Path, seconds: float) -> Outcome:
    """The Collector is killed every second, with traffic and a Jaeger that is there all the time."""
    ports = free_ports()
    with jaeger(folder, ports), contextlib.ExitStack() as stack:
        with traffic(ports, pause_s=0.005) as sent:
            for _ in range(int(seconds)):
                with collector(folder, ports) as gateway:
                    time.sleep(1)
                    kill(gateway)
            stack.enter_context(collector(folder, ports))
        return outcome(ports, sent, patience_s=30)


def outcome(ports: Ports, sent: Sent, patience_s: float) -> Outcome:
    """Wait for all that was accepted, and tell what came."""
    start = time.monotonic()
    with contextlib.suppress(AssertionError):  # the outcome tells what is missing
        wait_until(lambda: not lost(ports, sent), what="all to arrive", timeout=patience_s)
    waited_s = time.monotonic() - start
    return Outcome(len(sent.all()), sent.accepted, lost(ports, sent), repeated(ports, sent), waited_s)


def file_traces(path: Path) -> Iterator[str]:
    """The trace of each span in the Collector's file."""
    for line in path.read_text().splitlines():
        yield from (span["traceId"] for span in spans_of(json.loads(line)))


def kill(process: subprocess.Popen[bytes]) -> None:
    """`kill -9`: nothing is flushed, nothing is said goodbye to."""
    process.kill()
    process.wait()


def collector_down(folder: Path, seconds: float, **settings: str) -> Outcome:
    """A program exports to a Collector that is stopped for `seconds`; what the program's exporter gives up is lost."""
    ports, stop, runs, log = free_ports(), folder / "stop", folder / "runs", folder / "program.log"
    (folder / "program.py").write_text(PROGRAM)
    command = [Path(sys.executable).with_name("opentelemetry-instrument"), sys.executable, folder / "program.py", stop]
    exporting = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": local(ports.otlp_grpc),
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
    }
    with contextlib.ExitStack() as stack, runs.open("wb") as out, log.open("wb") as errors:
        with collector(folder, ports):
            program = subprocess.Popen(command, env=environment(**exporting, **settings), stdout=out, stderr=errors)
            stack.callback(program.kill)
            wait_until(lambda: len(runs.read_text().split()) > 20, what="the program's first runs")
        time.sleep(seconds)
        with collector(folder, ports):
            back = time.monotonic()
            time.sleep(2)
            stop.touch()
            assert program.wait(timeout=90) == 0, log.read_text()
            caught_up_s = time.monotonic() - back
    sent, spans = runs.read_text().split(), Counter(file_traces(folder / "traces.jsonl"))
    whole = [run for run in sent if spans[run] >= RUN_SPANS]
    repeated = [run for run in sent if spans[run] > RUN_SPANS]
    return Outcome(len(sent), whole, sorted(set(sent) - set(whole)), repeated, caught_up_s)


def main() -> None:
    seconds = float(sys.argv[1]) if sys.argv[1:] else 60
    outages = {
        "Jaeger down, Collector killed": both_killed,
        "Collector killed every second": killed_often,
        "Collector down, exporter as it comes": collector_down,
        "Collector down, patient exporter": partial(collector_down, **PATIENT),
    }
    for name, outage in outages.items():
        with tempfile.TemporaryDirectory() as folder:
            told = outage(Path(folder), seconds)
        print(  # noqa: T201
            f"{name} for {seconds:g} s: {told.sent} sent, {len(told.accepted)} accepted, {len(told.lost)} lost, "
            f"{len(told.repeated)} repeated, the last there {told.caught_up_s:.0f} s later"
        )


if __name__ == "__main__":
    main()
