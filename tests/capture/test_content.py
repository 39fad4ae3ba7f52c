"""Content stays at home unless the user asks for it; then it is bounded and redacted."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from _recording import Recording, everything, recording
from otel_agentperf import AgentPerfSpanProcessor, _config, agent, cached, llm, retrieval, tool
from otel_agentperf._config import Config

SECRET = "xyzzy-plugh"


class SecretError(Exception):
    """xyzzy-plugh"""


class Secretive:
    def __init__(self) -> None:
        self.field = SECRET

    def __repr__(self) -> str:
        return SECRET

    __str__ = __repr__


def secrets_everywhere() -> None:
    """Plants the secret in arguments, keyword arguments, results, exceptions, docstrings and objects."""

    def leak(*args: Any, **kwargs: Any) -> Any:
        """xyzzy-plugh"""
        return {"result": SECRET, "nested": [SECRET], SECRET: 1}

    def fail(text: str) -> None:
        try:
            raise ValueError(SECRET)
        except ValueError as cause:
            raise SecretError(text) from cause

    async def leak_async(text: str) -> str:
        """xyzzy-plugh"""
        return text

    def stream(text: str) -> Iterator[str]:
        yield text

    async def stream_async(text: str) -> AsyncIterator[str]:
        yield text

    async def read(text: str) -> list[str]:
        return [chunk async for chunk in tool(stream_async)(text)]

    with agent("run") as run:
        run.arguments({"task": SECRET})
        for marker in (agent, tool, llm, retrieval, cached):
            for arguments in ((SECRET,), ([SECRET],), ({SECRET: SECRET},), (Secretive(),)):
                marker(leak)(*arguments, key=SECRET)
            with pytest.raises(SecretError):
                marker(fail)(SECRET)
            for _ in range(6):  # enough for findings to speak
                marker(leak)(SECRET)
        asyncio.run(tool(leak_async)(SECRET))
        list(tool(stream)(SECRET))
        asyncio.run(read(SECRET))
        run.result(SECRET)


def test_nothing_of_it_leaves_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reader = InMemoryMetricReader()
    with recording(AgentPerfSpanProcessor(meter_provider=MeterProvider([reader]))) as recorded:
        secrets_everywhere()
        assert len(recorded.spans) > 50
        assert SECRET not in everything(recorded.spans)
        assert SECRET.encode() not in recorded.encoded()
        assert SECRET not in reader.get_metrics_data().to_json()
        assert SECRET not in caplog.text
        assert not any(event.name == "exception" for span in recorded.spans for event in span.events)


def test_not_even_in_the_log_of_a_swallowed_error(caplog: pytest.LogCaptureFixture, swallow: None) -> None:
    @cached(hit=lambda result: 1 / 0 if result else int(SECRET))
    def look_up(key: str) -> str:
        return key

    with recording() as recorded:
        look_up(SECRET)
        look_up("")
        assert len(recorded.spans) == 2
    assert "logged once" in caplog.text
    assert SECRET not in caplog.text


@pytest.fixture
def open_book() -> Iterator[Recording]:
    """Content is on."""
    with recording(config=Config(content=True)) as found:
        yield found


def test_with_content_on_it_is_there(open_book: Recording) -> None:
    tool(lambda **kwargs: {"answer": [1, 2]})(question="why", number=3)
    span = open_book.only()
    assert json.loads(span.attributes["gen_ai.tool.call.arguments"]) == {"question": "why", "number": 3}
    assert json.loads(span.attributes["gen_ai.tool.call.result"]) == {"answer": [1, 2]}


@pytest.mark.parametrize("marker", [agent, llm])
def test_messages_have_keys_of_their_own(open_book: Recording, marker: Any) -> None:
    marker(lambda prompt: "fine")(prompt="how are you")
    span = open_book.only()
    assert "how are you" in span.attributes["gen_ai.input.messages"]
    assert span.attributes["gen_ai.output.messages"] == "fine"


def test_the_keys_and_values_of_caches_are_never_shown(open_book: Recording) -> None:
    cached(lambda key: SECRET)(SECRET)
    assert SECRET not in everything(open_book.spans)


def test_exception_messages_are_not_shown_either(open_book: Recording) -> None:
    def fail() -> None:
        raise ValueError(SECRET)

    with pytest.raises(ValueError):
        tool(fail)()
    assert SECRET not in everything(open_book.spans)


@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * 50_000_000,
        lambda: ["x" * 1_000] * 50_000,
        lambda: {str(number): "x" * 100 for number in range(100_000)},
    ],
    ids=["text", "list", "dict"],
)
def test_content_is_bounded(open_book: Recording, make: Callable[[], Any]) -> None:
    value = make()
    assert tool(lambda value: value)(value) is value
    span = open_book.only()
    for key in ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"):
        text = span.attributes[key]
        assert 4_000 < len(text) <= 4_096
        assert text.endswith("…")


def test_the_bound_is_a_setting() -> None:
    with recording(config=Config(content=True, content_limit=100)) as recorded:
        tool(lambda text: text)("x" * 1_000)
        assert len(recorded.only().attributes["gen_ai.tool.call.result"]) == 100


SECRETS = [
    "sk-proj-abcdefghijklmnopqrstuvwx",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "xoxb-1234567890-abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "Bearer abcdefghijklmnop",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_known_kinds_of_secrets_are_redacted(open_book: Recording, secret: str) -> None:
    tool(lambda text: [secret])(f"call it with {secret} please")
    text = everything(open_book.spans)
    for line in secret.splitlines():
        assert line not in text
    assert "[redacted]" in text
    assert "please" in text


@pytest.mark.parametrize("key", ["password", "api_key", "apiKey", "Authorization", "client_secret", "access_token"])
@pytest.mark.parametrize("value", ["hunter2", "it's hunter2", 'say "hunter2"', "back\\hunter2", ["hunter2"], 22222222])
def test_secrets_are_recognised_by_their_key(open_book: Recording, key: str, value: Any) -> None:
    tool(lambda **kwargs: json.dumps(kwargs))(**{key: value, "other": "kept"})
    text = everything(open_book.spans)
    assert "hunter2" not in text
    assert "22222222" not in text
    assert "kept" in text


def test_a_secret_across_the_cut_is_redacted(open_book: Recording) -> None:
    for length in range(4_050, 4_100):
        tool(lambda text: None)("x" * length + " " + SECRETS[0])
    assert "sk-proj" not in everything(open_book.spans)


def test_the_users_own_pattern() -> None:
    with recording(config=Config(content=True, redact=r"\d{4}-\d{4}")) as recorded:
        tool(lambda text: text)("card 1234-5678 of Bob")
        text = everything(recorded.spans)
        assert "1234" not in text
        assert "Bob" in text


def test_an_invalid_pattern_is_reported_once_and_hides_all_content(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_AGENTPERF_REDACT", "(unclosed")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    with recording(config=_config.load()) as recorded:
        assert tool(lambda text: text)("still works") == "still works"
        text = everything(recorded.spans)
    assert "still works" not in text
    assert "[redacted]" in text
    assert len(re.findall("OTEL_AGENTPERF_REDACT", caplog.text)) == 1


@pytest.mark.parametrize(
    ("value", "on"), [("true", True), ("SPAN_ONLY", True), ("NO_CONTENT", False), ("false", False), ("nonsense", False)]
)
def test_the_switch(monkeypatch: pytest.MonkeyPatch, value: str, on: bool) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", value)
    with recording(config=_config.load()) as recorded:
        tool(lambda text: text)(SECRET)
        assert (SECRET in everything(recorded.spans)) is on
