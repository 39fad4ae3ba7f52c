"""Programs whose workers come and go, under `opentelemetry-instrument`: gunicorn, uvicorn, Celery, process pools.

Each run of each worker arrives once, with its report, at a real receiver, also when its worker is recycled, reloaded
or told to end; and standard error is what it is without us.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from _redis_server import redis_server
from cli._receiver import Received, receiving

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no prefork servers on this platform")
LONGEST_S = 60.0

WSGI = """
import time
from otel_agentperf import agent, tool

search = tool(name="search")(lambda number: number)

def calls(number):
    # Some runs are long: these are analysed on a thread of ours.
    for times in range(600 if int(number) % 10 == 3 else 2):
        search(times)

def application(environ, start_response):
    _, number, seconds = environ["PATH_INFO"].split("/")
    with agent(f"run {number}"):
        calls(number)
        time.sleep(float(seconds))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""

ASGI = """
import asyncio
from otel_agentperf import agent, tool

search = tool(name="search")(lambda number: number)

def calls(number):
    # Some runs are long: these are analysed on a thread of ours.
    for times in range(600 if int(number) % 10 == 3 else 2):
        search(times)

async def application(scope, receive, send):
    assert scope["type"] == "http"
    _, number, seconds = scope["path"].split("/")
    with agent(f"run {number}"):
        calls(number)
        await asyncio.sleep(float(seconds))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""

TASKS = """
import os, time
from pathlib import Path
from celery import Celery
from otel_agentperf import agent, tool

app = Celery("app", broker=os.environ["BROKER"])
app.conf.broker_connection_retry_on_startup = True
search = tool(name="search")(lambda number: number)

def calls(number):
    # Some runs are long: these are analysed on a thread of ours.
    for times in range(600 if int(number) % 10 == 3 else 2):
        search(times)

def run(number, work):
    try:
        with agent(f"run {number}"):
            calls(number)
            work()
    finally:
        Path(os.environ["DONE"], str(number)).touch()

@app.task
def plan(number):
    run(number, lambda: None)

@app.task
def fail(number):
    run(number, lambda: 1 / 0)

@app.task(soft_time_limit=1)
def slow(number):
    run(number, lambda: time.sleep(60))

@app.task(time_limit=1)
def stuck(number):
    Path(os.environ["DONE"], str(number)).touch()
    with agent(f"run {number}"):
        time.sleep(60)
"""

POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from otel_agentperf import agent, tool

search = tool(name="search")(lambda number: number)

def calls(number):
    # Some runs are long: these are analysed on a thread of ours.
    for times in range(600 if int(number) % 10 == 3 else 2):
        search(times)

def work(number):
    with agent(f"run {number}"):
        calls(number)
    return number

if __name__ == "__main__":
    method = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(2, mp_context=method) as pool:
        assert list(pool.map(work, range(10))) == list(range(10))
    alone = [method.Process(target=work, args=(number,)) for number in (10, 11)]
    for process in alone:
        process.start()
    for process in alone:
        process.join()
"""


def runs(received: Received) -> dict[str, list[Span]]:
    """The roots that carry a report, by name."""
    found: dict[str, list[Span]] = {}
    for path, body in received.requests:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    if any(attribute.key == "agentperf.score" for attribute in span.attributes):
                        found.setdefault(span.name.removeprefix("invoke_agent "), []).append(span)
    return found


def told(standard_error: str) -> list[str]:
    """Its lines, without what differs from one time to the next, in no order."""
    lines = (re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "#", line) for line in standard_error.splitlines())
    return sorted(line for line in lines if line.strip())


@contextmanager
def program(folder: Path, command: Sequence[str], received: Received | None = None, **environ: str) \
        -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """`python -m …`, under `opentelemetry-instrument` where somebody receives what it sends."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTEST_", "COV_"))}
    started = [sys.executable, *command]
    if received is not None:
        started.insert(0, str(Path(sys.executable).with_name("opentelemetry-instrument")))
        environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    process = subprocess.Popen(
        started, cwd=folder, env={**inherited, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> str:
    """Standard error of one that ends well, in time."""
    _, errors = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, errors
    return errors


def until(condition: object, what: str) -> None:
    end = time.monotonic() + LONGEST_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Client:
    """Asks until it is answered; each attempt is a run of its own, as one that was begun may have been done."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._numbers = itertools.count()
        self.answered: set[str] = set()

    def try_once(self, seconds: float = 0) -> bool:
        number = next(self._numbers)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{number}/{seconds}", timeout=10) as answer:
                answer.read()
        except OSError:
            return False
        self.answered.add(f"run {number}")
        return True

    def ask(self, times: int) -> None:
        for _ in range(times):
            until(self.try_once, "an answer")

    def talk(self, process: subprocess.Popen[str], reload: bool) -> str:
        """Before, while and after the server reloads, and while it ends."""
        self.ask(10)
        if reload:
            process.send_signal(signal.SIGHUP)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.ask, [8] * 4))
            last = pool.submit(self.try_once, 0.5)
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            errors = ended(process)
            last.result()
        return errors


def assert_each_arrived(client: Client, received: Received) -> None:
    found = {name: len(spans) for name, spans in runs(received).items()}
    assert found.keys() >= client.answered
    assert set(found.values()) == {1}, found


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_gunicorn(worker: str, preload: tuple[str, ...], tmp_path: Path) -> None:
    """Workers recycled after a few requests, a reload, and an end in the middle of a request."""
    (tmp_path / "app.py").write_text(WSGI)
    options = ("--workers", "2", "--threads", "2", "--max-requests", "7", "--log-level", "warning", *preload)

    def serve(received: Received | None) -> tuple[Client, str]:
        client = Client()
        command = ("-m", "gunicorn", "-k", worker, "-b", f"127.0.0.1:{client.port}", "--no-control-socket", *options)
        with program(tmp_path, (*command, "app:application"), received) as process:
            return client, client.talk(process, reload=True)

    with receiving() as received:
        client, errors = serve(received)
    assert_each_arrived(client, received)
    assert set(told(errors)) <= set(told(serve(None)[1]))


def test_uvicorn(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(ASGI)
    client = Client()
    options = ("--port", str(client.port), "--workers", "2", "--log-level", "warning")
    with (
        receiving() as received,
        program(tmp_path, ("-m", "uvicorn", *options, "app:application"), received) as process,
    ):
        errors = client.talk(process, reload=False)
    assert_each_arrived(client, received)
    assert errors == ""


@pytest.mark.filterwarnings("ignore:::(celery|kombu|billiard|amqp|vine)")
def test_celery(tmp_path: Path) -> None:
    """Processes recycled after a few tasks; a task that fails, one that is too slow, one whose process is killed."""
    from celery import Celery

    (tmp_path / "app.py").write_text(TASKS)
    kinds = {30: "fail", 31: "slow", 32: "stuck"}
    options = ("-c", "2", "--loglevel", "warning", "--max-tasks-per-child", "5", "--without-mingle")

    def work(received: Received | None) -> str:
        done = tmp_path / "done"
        shutil.rmtree(done, ignore_errors=True)
        done.mkdir()
        with redis_server() as port:
            broker = f"redis://127.0.0.1:{port}/0"
            command = ("-m", "celery", "-A", "app", "worker", *options)
            with program(tmp_path, command, received, BROKER=broker, DONE=str(done)) as process:
                with Celery(broker=broker) as client:
                    for number in range(40):
                        client.send_task(f"app.{kinds.get(number, 'plan')}", [number])
                until(lambda: len(list(done.iterdir())) == 40, "all tasks")
                process.send_signal(signal.SIGTERM)
                return ended(process)

    with receiving() as received:
        errors = work(received)
    found = runs(received)
    assert {f"run {number}" for number in range(40) if number != 32} <= found.keys()
    assert {name: len(spans) for name, spans in found.items() if len(spans) > 1} == {}
    types = {name: Counter(a.value.string_value for a in span.attributes if a.key == "error.type")
             for name, (span,) in found.items()}  # fmt: skip
    assert types["run 30"] == {"ZeroDivisionError": 1}
    assert types["run 31"] == {"billiard.exceptions.SoftTimeLimitExceeded": 1}
    assert not any(types[f"run {number}"] for number in range(30))
    # Whether Celery itself says so of the process that it kills is a race.
    plain, ours = ([line for line in told(text) if "(SIGKILL)" not in line] for text in (work(None), errors))
    assert ours == plain


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_process_pools(method: str, tmp_path: Path) -> None:
    """Forked workers leave without `atexit`."""
    (tmp_path / "app.py").write_text(POOL)
    command = ("-W", "ignore::DeprecationWarning", "app.py", method)
    with receiving() as received, program(tmp_path, command, received) as process:
        errors = ended(process)
    assert Counter({name: len(spans) for name, spans in runs(received).items()}) == Counter(
        f"run {number}" for number in range(12)
    )
    assert errors == ""
