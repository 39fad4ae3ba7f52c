"""What a model call's span shows of its prompt, as hashes of its blocks from the beginning.

A provider's prompt cache holds beginnings of prompts: tools, then instructions, then messages. Two prompts have as
many leading blocks in common as a cache could have read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .. import _semconv as names
from .._visible import is_cut_off
from ..model import PROMPT_BLOCK, Prompt

Attributes = Mapping[str, Any]

_WHOLE = ("gen_ai.tool.definitions", "gen_ai.system_instructions", names.GEN_AI_INPUT_MESSAGES, "gen_ai.prompt")
_SPREAD = ("llm.tools.", "llm.request.functions.", "llm.input_messages.", "gen_ai.prompt.")
_MESSAGES = re.compile(r"(?:llm\.input_messages|gen_ai\.prompt)\.(\d+)\.")
_NUMBER = re.compile(r"(\d+)")
_MOST_BLOCKS = 256
"""32,000 tokens: more are not compared"""


def visible_prompt(attributes: Attributes) -> Prompt | None:
    """The prompt, as far as the span shows it from its beginning; None when it shows nothing."""
    pieces = list(_pieces(attributes))
    if not pieces:
        return None
    return Prompt(_blocks(pieces), sum(map(len, pieces)), _messages(attributes))


def _pieces(attributes: Attributes) -> Iterator[str]:
    """The texts in the order the model reads them, up to the first that was cut off: what follows it would stand
    in the wrong place."""
    for text in (*_spread(attributes), *(attributes.get(key) for key in _WHOLE)):
        if isinstance(text, str) and text:
            yield text
            if is_cut_off(text):
                return


def _spread(attributes: Attributes) -> list[Any]:
    keys = [key for key in attributes if key.startswith(_SPREAD)]
    return [attributes[key] for key in sorted(keys, key=_place)] if keys else []


def _place(key: str) -> tuple[int, list[str | int]]:
    """Tools before messages; the tenth message after the ninth."""
    convention = next(place for place, prefix in enumerate(_SPREAD) if key.startswith(prefix))
    return convention, [int(part) if part.isdigit() else part for part in _NUMBER.split(key)]


def _blocks(pieces: list[str]) -> tuple[int, ...]:
    text = "".join(pieces) if len(pieces) > 1 else pieces[0]
    whole = min(len(text) // PROMPT_BLOCK, _MOST_BLOCKS)
    return tuple(hash(text[place * PROMPT_BLOCK : (place + 1) * PROMPT_BLOCK]) for place in range(whole))


def _messages(attributes: Attributes) -> int | None:
    numbers = {found.group(1) for key in attributes if (found := _MESSAGES.match(key))}
    if numbers:
        return len(numbers)
    try:
        parsed = json.loads(attributes.get(names.GEN_AI_INPUT_MESSAGES) or "")
    except (ValueError, TypeError, RecursionError):
        return None
    return len(parsed) if isinstance(parsed, list) else None
