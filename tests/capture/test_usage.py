"""Tokens out of whatever a client answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from _recording import Recording, attributes
from otel_agentperf import llm
from otel_agentperf.capture.usage import Usage, get, tokens_of, usage

ANSWERS: dict[str, tuple[Any, Usage]] = {
    "openai chat": (
        {"usage": {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}}},
        Usage(10, 3, 8, None),
    ),
    "openai responses": (
        SimpleNamespace(
            usage=SimpleNamespace(
                input_tokens=10, output_tokens=3, input_tokens_details=SimpleNamespace(cached_tokens=8)
            )
        ),
        Usage(10, 3, 8, None),
    ),
    "langchain": (
        SimpleNamespace(
            usage_metadata={"input_tokens": 9, "output_tokens": 2, "input_token_details": {"cache_read": 0}}
        ),
        Usage(9, 2, 0, None),
    ),
    "anthropic, whose input leaves out what its cache held": (
        SimpleNamespace(
            usage=SimpleNamespace(
                input_tokens=18, output_tokens=7, cache_read_input_tokens=4, cache_creation_input_tokens=32
            )
        ),
        Usage(54, 7, 4, 32),
    ),
    "anthropic without a cache": (
        {"usage": {"input_tokens": 18, "output_tokens": 7, "cache_read_input_tokens": None}},
        Usage(18, 7, None, None),
    ),
    "litellm, whose input holds them": (
        {
            "usage": {
                "prompt_tokens": 54,
                "completion_tokens": 7,
                "cache_read_input_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 4},
            }
        },
        Usage(54, 7, 4, None),
    ),
    "google": (
        SimpleNamespace(usage_metadata=SimpleNamespace(prompt_token_count=5, candidates_token_count=6)),
        Usage(5, 6, None, None),
    ),
    "nothing": ({"text": "hi"}, Usage()),
    "no numbers": ({"usage": {"prompt_tokens": "ten", "completion_tokens": True}}, Usage()),
    "text": ("hi", Usage()),
    "None": (None, Usage()),
    "a mock": (MagicMock(), Usage()),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_spellings(answer: str) -> None:
    given, expected = ANSWERS[answer]
    assert tokens_of(given) == expected


def test_an_answer_whose_attributes_raise_costs_nothing_but_the_tokens(recorded: Recording) -> None:
    class Lazy:
        @property
        def usage(self) -> None:
            raise RuntimeError("connection closed")

    assert tokens_of(Lazy()) == Usage()
    answer = Lazy()
    assert llm(model="m")(lambda: answer)() is answer
    found = attributes(recorded.only())
    assert found["agentperf.result.type"] == "Lazy"
    assert "gen_ai.usage.input_tokens" not in found


def test_what_the_call_told_itself_wins(recorded: Recording) -> None:
    with llm(model="m") as call:
        call.usage(1, 2)
        call.result({"usage": {"prompt_tokens": 100}})
    assert attributes(recorded.only())["gen_ai.usage.input_tokens"] == 1


def test_what_a_pydantic_object_tells() -> None:
    """Its fields, what a provider has told besides, properties, and what it keeps to itself."""
    pydantic = pytest.importorskip("pydantic")

    class Told(pydantic.BaseModel, extra="allow"):
        prompt_tokens: int = 12
        _original: str = "kept"

        @property
        def output_tokens(self) -> int:
            return 3

    told = Told.model_validate({"cache_read": 5})
    assert usage(told) == Usage(12, 3, 5)
    assert get(told, "_original") == "kept"
    assert get(told, "nothing") is None
