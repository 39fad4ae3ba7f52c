"""What a span can be."""

from __future__ import annotations

from typing import Literal

Kind = Literal["agent", "workflow", "tool", "llm", "embedding", "retrieval", "cache", "db", "http", "mcp", "other"]


RUN_KINDS: frozenset[Kind] = frozenset({"agent", "workflow"})
