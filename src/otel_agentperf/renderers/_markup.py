"""Text of a trace in Markdown: shown as it is, never read as markup, and nobody is mentioned by it."""

from __future__ import annotations

import re

from ._text import plain

_SIMPLE = re.compile(r"[A-Za-z0-9_ ./:+-]+")
_HARMLESS = re.compile(r"[(]?(?:[A-Za-z0-9]|[^\x00-\x7f])(?:[A-Za-z0-9.%'-]|[^\x00-\x7f])*[).,:;]*")
_NUMBER_OF_LIST = re.compile(r"\d+[.)]")
_LINKED = re.compile(r"[(]?(?:[0-9a-f]{7,}|GH-\d+|www\..*)[).,:;]*", re.IGNORECASE)
"""what GitHub makes a link of: commits, issues, addresses"""
_ASCII_SIGN = re.compile(r"[!-/:-@\[-`{-~]")
_SPACES = re.compile(r"\s+")


def code(name: str, longest: int = 60) -> str:
    """A name, in the type of code: there GitHub looks for no mentions, issues, commits or addresses."""
    shown = plain(name, longest) or "(no name)"
    if _SIMPLE.fullmatch(shown) and shown.strip():
        return f"`{shown}`"
    # No escape works inside backticks, and a table's cell ends at a pipe even there.
    return f"<code>{_ASCII_SIGN.sub(lambda sign: f'&#{ord(sign[0])};', shown)}</code>"


def prose(text: str, longest: int = 600) -> str:
    """A sentence that may hold names: whatever is more than a word becomes code."""
    first, *others = _SPACES.split(plain(text, longest).strip())
    starts_list = _NUMBER_OF_LIST.fullmatch(first) is not None
    words = [code(first, longest) if starts_list else _word(first, longest), *(_word(word, longest) for word in others)]
    return " ".join(words)


def _word(word: str, longest: int) -> str:
    if _HARMLESS.fullmatch(word) and not _LINKED.fullmatch(word):
        return word
    core = word.rstrip(",.:;") or word
    return code(core, longest) + word[len(core) :]
