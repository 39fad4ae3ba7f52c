"""Beside the older official instrumentation of the OpenAI client, which needs an environment of its own."""

from __future__ import annotations

from integrations.test_beside_others import (  # noqa: F401
    pytestmark,
    test_theirs_alone_tell_the_same,
    test_together_each_call_counts_once,
)

ENVIRONMENTS = ("beside-openai-v2",)
REQUIRES = (
    "langchain>=1.4", "langchain-openai>=1.7", "openai>=3", "openai-agents>=0.24",
    "opentelemetry-instrumentation-openai-v2>=2.4b0", "opentelemetry-util-genai<1",
)  # fmt: skip
