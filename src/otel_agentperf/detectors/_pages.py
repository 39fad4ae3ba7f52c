"""Tells pages of one listing, and batches of items, from the items of a loop: page two is asked for after page one,
and what asks for many at once is batched already."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

from ..model import SpanRecord

_PAGE_KEYS = frozenset(
    """
    after continuation continuationtoken cursor endcursor exclusivestartkey lastid marker next nextcursor nextpage
    nextpagetoken nexttoken offset page pageindex pageno pagenumber pagetoken position since skip start startafter
    startat startindex startingafter token
    """.split()
)
_PAGED_QUERY = re.compile(r"\boffset\b|>.*\blimit\b", re.IGNORECASE)
_MANY = 5
_MANY_VALUES = re.compile(rf"\bin\s*\((?:[^(),]*,){{{_MANY - 1},}}[^()]*\)", re.IGNORECASE)
_NO_LETTERS = re.compile(r"[\W_]+")


def are_pages(calls: Sequence[SpanRecord]) -> bool:
    """Do the calls differ in nothing but which page of one listing they ask for?"""
    if calls[0].kind == "db":
        return bool(_PAGED_QUERY.search(calls[0].operation))
    arguments = [_arguments(call) for call in calls]
    first = arguments[0] or next(filter(None, arguments), None)
    return first is not None and all(given is not None and _is_other_page(first, given) for given in arguments)


def are_batches(calls: Sequence[SpanRecord]) -> bool:
    """Does each call ask for many items at once?"""
    return all(_is_batch(call) for call in calls)


def _is_batch(call: SpanRecord) -> bool:
    if call.args_text is None:
        return False
    if call.kind == "db":
        return _MANY_VALUES.search(call.args_text) is not None
    if "[" not in call.args_text:
        return False
    try:
        parsed = json.loads(call.args_text)
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, dict) and any(
        isinstance(value, list) and len(value) >= _MANY for value in parsed.values()
    )


def _arguments(call: SpanRecord) -> Mapping[str, str] | None:
    """Named arguments as texts; of a URL its query, and what comes before it."""
    if call.args_text is None:
        return None
    if call.kind == "http":
        return _of_url(call.args_text)
    try:
        parsed = json.loads(call.args_text)
    except (ValueError, RecursionError):
        return None
    return {key: str(value) for key, value in parsed.items()} if isinstance(parsed, dict) else None


def _of_url(url: str) -> Mapping[str, str] | None:
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL, whatever the attribute is called
        return None
    return {**dict(parse_qsl(parts.query, keep_blank_values=True)), "": parts.netloc + parts.path}


def _is_other_page(first: Mapping[str, str], given: Mapping[str, str]) -> bool:
    different = {key for key in {*first, *given} if first.get(key) != given.get(key)}
    return all(_NO_LETTERS.sub("", key).lower() in _PAGE_KEYS for key in different)
