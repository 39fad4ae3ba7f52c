"""Secrets that a value or a name holds are recognised by their form or by their key."""

from __future__ import annotations

import json

import pytest

from otel_agentperf import sanitize


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("planner sk-proj-abcDEF1234567890xyz", "planner [redacted]"),
        ("GET /x?token=abc123", "GET /x?token=[redacted]"),
        ("password=hunter", "password=[redacted]"),
        ("https://me:pass@host/x", "https://[redacted]@host/x"),
        ("sk_learn_pipeline_builder", "sk_learn_pipeline_builder"),
        ("token:refresh", "token:refresh"),
        ("openai/gpt-4o:latest", "openai/gpt-4o:latest"),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
    ],
)
def test_a_name_shows_no_secret_and_stays_a_name(given: str, shown: str) -> None:
    assert sanitize.name(given) == shown


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2x", "Password: hunter2x", 'api_key="hunter2x"', '{"token": "hunter2x"}',
        "DB_PASSWORD=hunter2x",
        "Authorization: Basic hunter2x", "Cookie: session=hunter2x; b=hunter2x", "postgres://user:hunter2x@host/db",
        "glpat-hunter2xhunter2x00", "hf_hunter2xhunter2xhunter2x", '{"a": "{\\"secret\\": \\"hunter2x\\"}"}',
    ],
)  # fmt: skip
def test_secrets_in_all_sorts_of_texts(text: str) -> None:
    shown = sanitize.content(text, 4_096)
    assert "hunter2x" not in shown
    assert sanitize.REDACTED in shown


def test_json_stays_json_where_a_secret_was() -> None:
    given = {"password": "hunter2", "days": 3, "headers": {"Authorization": "Bearer abcdefgh12345"}}
    assert json.loads(sanitize.content(given, 4_096)) == {
        "password": "[redacted]", "days": 3, "headers": {"Authorization": "[redacted]"}
    }  # fmt: skip


def test_a_cut_secret_does_not_move_to_where_it_is_shown() -> None:
    many = sanitize.content(["sk-proj-abcDEF1234567890xyz"] * 2_000, 4_096)
    assert "sk-proj" not in many
