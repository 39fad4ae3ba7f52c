"""Identity of visible arguments and results, and whether one call's arguments hold another's result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

_LONGEST_TEXT = 16_384
"""characters; what is longer is not kept for comparison"""
_TRUNCATION_MARKS = ("...", "…", "[truncated]", "<truncated>", "(truncated)")
_WORD = re.compile(r"[\w.@/:+-]+")
_JOINTS = re.compile(r"[/:@+]+")
_ESCAPED_SPACE = re.compile(r"\\[nrt]")
_TRIVIAL = frozenset({"", "0", "1", "true", "false", "null", "none", "ok", "yes", "no", "http", "https", "www"})
"""values that occur everywhere, so that meeting one twice says nothing"""
_INSIDE_NUMBERS = frozenset(".-:/")
_MOST_VALUES = 32
_ENVELOPE_MARKS = ('"tool_call_id"', '"tags"')
_CALLBACK_INPUT = frozenset({"inputs", "tags", "metadata", "kwargs"})
_CALLBACK_OUTPUTS = ({"output", "kwargs"}, {"outputs", "kwargs"})


def visible_text(value: Any) -> str | None:
    """The canonical text of an attribute that shows arguments or a result; None when absent or cut off.

    JSON is parsed and written again with sorted keys, so that spelling does not matter; and without what frameworks
    wrap around it that differs from call to call.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        return _dump(value)
    if len(value) > _LONGEST_TEXT or is_cut_off(value):
        return None
    if value.lstrip()[:1] in ("{", "["):
        try:
            parsed = json.loads(value)
            # The look at the text first spares nearly all values the walk.
            shown = _content(parsed) if any(mark in value for mark in _ENVELOPE_MARKS) else parsed
            return shown if isinstance(shown, str) else _dump(shown)
        except (ValueError, RecursionError):
            # A text that opens like JSON and does not parse was most likely cut off, or is a repr.
            return value if value.rstrip().endswith(("}", "]")) else None
    return value


def is_cut_off(text: str) -> bool:
    """Does the text end in a mark that something was left out?"""
    return text.rstrip('"').endswith(_TRUNCATION_MARKS)


def _content(value: Any) -> Any:
    """What was meant, without LangChain's envelopes (seen in the spans of OpenInference and OpenLLMetry): the id in a
    message that answers a tool call, and the callback's metadata, where each step of a graph has a number."""
    if isinstance(value, list):
        return [_content(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() >= _CALLBACK_INPUT:
        return _content(value["inputs"] or value.get("input_str"))
    if value.keys() in _CALLBACK_OUTPUTS and isinstance(value["kwargs"], dict) and "tags" in value["kwargs"]:
        return _content(value.get("output", value.get("outputs")))
    left_out = ("tool_call_id", "id") if "tool_call_id" in value else ()
    return {key: _content(item) for key, item in value.items() if key not in left_out}


def holds_result(args_text: str, result_text: str, earlier_args_text: str | None) -> bool | None:
    """Does a call's argument text hold a value that an earlier call's result brought?

    Whole words count: the `7` of an argument is not in `17`. A value that the earlier call was itself given
    proves nothing. None: too many values to tell.
    """
    values = distinctive_values(args_text)
    if values is None:
        return None
    return holds(values, searchable(result_text), searchable(earlier_args_text or ""))


def distinctive_values(args_text: str) -> tuple[str, ...] | None:
    """The values of a call's argument text that are worth looking for; None: too many to tell."""
    return distinctive_words(_leaves(args_text))


def distinctive_words(leaves: Iterable[object]) -> tuple[str, ...] | None:
    """The same for its leaf values, where they are at hand."""
    values: dict[str, None] = {}
    for leaf in leaves:
        text = str(leaf).lower()
        if text.isalnum():
            if _is_distinctive(text):
                values[text] = None
        else:
            values.update(dict.fromkeys(_words(text)))
    return tuple(values) if len(values) <= _MOST_VALUES else None


def holds(values: Iterable[str], brought: str, given: str) -> bool:
    """Is one of `values` in what was `brought`, and not in what was `given`? Both are `searchable`."""
    for value in values:
        if value in brought and _occurs(value, brought) and not (value in given and _occurs(value, given)):
            return True
    return False


def searchable(text: str) -> str:
    """Lower case, and a line break written as an escape sequence does not stick to the next word."""
    return (_ESCAPED_SPACE.sub(" ", text) if "\\" in text else text).lower()


def _occurs(word: str, text: str) -> bool:
    """Is `word` in `text`, as a word of its own? A number is not when it is part of a longer one, or of a date."""
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        sticks = at > 0 and _sticks(text[at - 1], text[at - 2 : at - 1], word[0])
        if not (sticks or (end < len(text) and _sticks(text[end], text[end + 1 : end + 2], word[-1]))):
            return True
        at = text.find(word, at + 1)
    return False


def _sticks(beside: str, beyond: str, edge: str) -> bool:
    """Do the characters beside a word continue it? `edge`: the word's own next to them."""
    return beside.isalnum() or beside == "_" or (beside in _INSIDE_NUMBERS and edge.isdigit() and beyond.isdigit())


def _leaves(text: str) -> Iterator[object]:
    """The leaf values of a canonical text."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = text
    stack = [parsed]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        else:
            yield value


def _words(text: str) -> Iterator[str]:
    for found in _WORD.findall(text):
        whole = found.strip(".:/+-")
        for word in (whole,) if whole.isalnum() else dict.fromkeys((whole, *_JOINTS.split(whole))):
            if _is_distinctive(word):
                yield word


def _is_distinctive(word: str) -> bool:
    return word not in _TRIVIAL and (len(word) > 2 or not word.isalpha())


def _dump(value: Any) -> str | None:
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return None
    return text if len(text) <= _LONGEST_TEXT else None
