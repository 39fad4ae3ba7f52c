"""A secret that a program handles appears in nothing that leaves it: spans, metrics, logs, and report files of every
format, live and by the command."""

from __future__ import annotations

import asyncio
import functools
import io
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_agentperf
from _recording import everything, recording
from otel_agentperf import AgentPerfSpanProcessor, agent, cached, llm, on_report, retrieval, tool
from otel_agentperf._config import Config
from otel_agentperf._discover import discover
from otel_agentperf.model import Report
from otel_agentperf.processor import off_report

RENDERERS = discover("renderers")
SECRET = "xyzzyplughnothinghappens"
PATTERNED = "sk-proj-abcdefghijklmnopqrstuvwx"
OTHER_PATTERNS = ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "AKIAIOSFODNN7EXAMPLE")


class SecretError(Exception):
    """xyzzyplughnothinghappens"""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.response = {"body": SECRET, "headers": {"authorization": SECRET}}
        self.add_note(SECRET) if hasattr(self, "add_note") else None


def program(secret: str) -> None:
    """Plants it in prompts, arguments, their names, results, messages, notes and causes of exceptions, stack frames,
    docstrings, contexts, caches and threads; often enough for findings to speak."""

    class Client:
        """xyzzyplughnothinghappens"""

        def __init__(self) -> None:
            self.key = secret

        def __repr__(self) -> str:
            return secret

        @tool
        def call(self, **kwargs: Any) -> Any:
            """xyzzyplughnothinghappens"""
            time.sleep(0.03)
            return {"answer": secret, secret: [secret]}

        @tool
        def fail(self, text: str) -> Any:
            local = secret
            try:
                raise LookupError(local)
            except LookupError as cause:
                raise SecretError(text, local) from cause

        @retrieval
        async def find(self, query: str) -> list[str]:
            await asyncio.sleep(0)
            return [query, secret]

        @llm(model="m")
        def ask(self, prompt: str) -> Any:
            return {"choices": [{"message": {"content": secret}}], "usage": {"prompt_tokens": 5}}

        @cached
        def look_up(self, key: str) -> str | None:
            return None

        @tool
        def stream(self, text: str) -> Any:
            yield text
            raise SecretError(text)

    @functools.lru_cache
    def remembered(key: str) -> str:
        return key + secret

    with agent("planner") as run, ThreadPoolExecutor(2) as pool:
        run.arguments({secret: secret})
        client = Client()
        for _ in range(6):
            client.call(text=secret, **{secret: secret})
            client.ask([{"role": "user", "content": secret}])
            asyncio.run(client.find(secret))
            client.look_up(secret)
            remembered(secret)
            pool.submit(client.call, text=secret).result()
            with pytest.raises(SecretError):
                client.fail(secret)
            with pytest.raises(SecretError):
                list(client.stream(secret))
        run.result(secret)


@pytest.mark.parametrize(
    ("config", "secret"),
    [(Config(), SECRET), *((Config(content=True), one) for one in (PATTERNED, *OTHER_PATTERNS))],
    ids=["no content", "redacted", "redacted token", "redacted key id"],
)
def test_it_leaves_by_no_way(config: Config, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reader, reports = InMemoryMetricReader(), list[Report]()
    on_report(reports.append)
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with recording(AgentPerfSpanProcessor(config, meter_provider=meters), config=config) as recorded:
        otel_agentperf.instrument(tracer_provider=recorded.provider, config=config)
        try:
            program(secret)
        finally:
            otel_agentperf.uninstrument()
            off_report(reports.append)
        assert len(recorded.spans) > 40
        texts = {
            "spans": everything(recorded.spans),
            "export": recorded.encoded().decode("latin-1"),
            "metrics": reader.get_metrics_data().to_json(),  # type: ignore[union-attr]
            "log": caplog.text,
            "report": repr(reports),
        }
        for name, renderer in RENDERERS.items():
            output = io.StringIO()
            renderer.render(reports, output)
            texts[name] = output.getvalue()
    assert reports[-1].findings, "nothing was found, so nothing was said"
    assert {name for name, text in texts.items() if secret in text} == set()
    if config.content:
        assert "[redacted]" in texts["spans"]


FOREIGN = {
    "http": {"http.request.method": "GET", "url.full": f"https://me:{SECRET}@example.com/a?api_key={SECRET}#{SECRET}"},
    "old http": {"http.method": "GET", "http.url": f"https://example.com/a?token={SECRET}"},
    "db": {"db.system.name": "postgresql", "db.query.text": f"SELECT a FROM t WHERE a='{SECRET}' OR b IN ('{SECRET}')"},
    "bound": {"db.system.name": "postgresql", "db.query.text": "SELECT $1", "db.query.parameter.1": SECRET},
    "redis": {"db.system.name": "redis", "db.query.text": f"GET {SECRET}"},
    "tool": {"openinference.span.kind": "TOOL", "tool.name": "t", "input.value": SECRET, "output.value": SECRET},
    "llm": {"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.input_messages.0.message.content": SECRET},
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_others_recorded_is_not_repeated_by_a_report(kind: str) -> None:
    """What another instrumentation puts on its own spans is its decision; the report says no more of it than it
    needs."""
    reports: list[Report] = []
    on_report(reports.append)
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with recording(AgentPerfSpanProcessor(meter_provider=meters)) as recorded:
        tracer = recorded.provider.get_tracer("somebody.else")
        with tracer.start_as_current_span("invoke_agent planner", start_time=10**18, end_on_exit=False) as root:
            for number in range(6):
                start = 10**18 + number * 300_000_000
                call = tracer.start_span("call", start_time=start)
                call.set_attributes(FOREIGN[kind])
                call.end(start + 300_000_000)
        root.end(10**18 + 2 * 10**9)
        off_report(reports.append)
        texts = {
            "root": everything([recorded.one("invoke_agent planner")]),
            "metrics": reader.get_metrics_data().to_json(),  # type: ignore[union-attr]
        }
    assert reports[0].findings or kind == "llm"
    for name, renderer in RENDERERS.items():
        output = io.StringIO()
        renderer.render(reports, output)
        texts[name] = output.getvalue()
    assert {name for name, text in texts.items() if SECRET in text} == set()


COMMAND = f"""
from otel_agentperf import agent, tool

@tool
def search(query, **more):
    "{SECRET}"
    if more:
        raise ValueError(query)
    return query

@agent
def planner(task):
    for _ in range(6):
        search(task)
        try:
            search(task, {SECRET}=task)
        except ValueError:
            pass
    return task

planner("{SECRET}")
"""


@pytest.mark.parametrize("format", RENDERERS)
def test_nor_by_the_command(format: str, tmp_path: Path) -> None:
    """Its own report, and everything that it writes besides, whatever the program fails with inside."""
    (tmp_path / "app.py").write_text(COMMAND)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("agentperf")), "run", "--format", format, "--output", "out", "app.py"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "planner" in (tmp_path / "out").read_text() or format == "sarif"
    written = done.stdout + done.stderr + "".join(
        path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    )  # fmt: skip
    assert SECRET not in written
