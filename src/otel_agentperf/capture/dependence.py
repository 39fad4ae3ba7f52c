"""Which earlier sibling's result a call's arguments hold, found in the process, so that no content need leave it.

Remembers the arguments and results of the last calls under each open parent, within a bound, and forgets them
when the parent ends. Without a lock: each step on the shared containers is atomic, and a lock held over a fork
or by an interrupted signal handler would be worse than a lost entry.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from opentelemetry.trace import format_span_id

from .._visible import distinctive_values, distinctive_words, holds, searchable
from ..sanitize import PLAIN

_SIBLINGS = 16
_LONGEST_TEXT = 16_384
_MOST_CHARACTERS = 8_000_000


class _Call(NamedTuple):
    span_id: int
    brought: str
    given: str


class _Calls:
    """The calls under one parent that have ended well."""

    __slots__ = ("_all_brought", "_found", "_read", "_unread", "is_open", "size")

    def __init__(self) -> None:
        self._unread: list[tuple[int, str, str]] = []
        self._read: list[_Call] = []
        self._all_brought = ""
        """all results in one text: most arguments hold nothing of any, which one look tells"""
        self._found: dict[str, tuple[int, tuple[int, ...]]] = {}
        """by value: of how many calls it is known whether they brought it, and the places of those that did. What is
        given to each call, such as a user's id, is looked for once in each result, not again for each later call."""
        self.is_open = True
        """all are known, and one more has room; when not, nothing is told of the calls to come"""
        self.size = 100

    def add(self, span_id: int, args: str | None, result: str | None) -> int:
        """Returns the characters that are kept of it."""
        if not self.is_open:
            return 0
        if result is None or len(result) > _LONGEST_TEXT:
            self.is_open = False
            return 0
        given = args if args is not None and len(args) <= _LONGEST_TEXT else ""
        self._unread.append((span_id, given, result))
        self.is_open = len(self._read) + len(self._unread) < _SIBLINGS
        size = 2 * len(result) + len(given) + 100
        self.size += size
        return size

    def holding(self, values: Iterable[str]) -> list[int]:
        """The calls whose result held one of `values`, which they had not been given themselves."""
        self._read_all()
        places: set[int] = set()
        for value in values:
            if value in self._all_brought:
                places.update(self._bringing(value))
        return [self._read[place].span_id for place in sorted(places)]

    def _bringing(self, value: str) -> tuple[int, ...]:
        known, places = self._found.get(value, (0, ()))
        count = len(self._read)
        for place in range(known, count):
            call = self._read[place]
            if holds((value,), call.brought, call.given):
                places = (*places, place)
        self._found[value] = count, places
        return places

    def _read_all(self) -> None:
        while self._unread:
            try:
                span_id, given, result = self._unread.pop(0)
            except IndexError:  # another thread took the last one
                return
            call = _Call(span_id, searchable(result), searchable(given))
            self._read.append(call)
            self._all_brought += f" {call.brought}"


class Siblings:
    """The last calls by parent span id."""

    def __init__(self) -> None:
        self._calls: OrderedDict[int, _Calls] = OrderedDict()
        self._characters = 0

    def are_compared(self, parent: int) -> bool:
        """Is more to be known of the calls under `parent`? No, once there were too many, or one too large."""
        calls = self._calls.get(parent)
        return calls is None or calls.is_open

    def depends_on(self, parent: int, args: str | None, values: Any = None) -> tuple[str, ...] | None:
        """The span ids of the earlier siblings whose result `args` hold; None: unknown. `values`: what `args` is the
        text of, which spares parsing it where it is flat."""
        earlier = self._calls.get(parent)
        if earlier is None or not earlier.is_open:
            return None
        if args is None or len(args) > _LONGEST_TEXT:
            return None
        flat = type(values) is dict and PLAIN.issuperset(map(type, values.values()))
        words = distinctive_words(values.values()) if flat else distinctive_values(args)
        return None if words is None else tuple(map(format_span_id, earlier.holding(words)))

    def ended(self, parent: int, span_id: int, args: str | None, result: str | None) -> None:
        """Remember a call that has ended well."""
        calls = self._calls.get(parent)
        if calls is None:
            calls = self._calls[parent] = _Calls()
            self._characters += calls.size
        self._characters += calls.add(span_id, args, result)
        while self._characters > _MOST_CHARACTERS and self._calls:
            with suppress(KeyError):  # another thread was faster
                self._forgotten(self._calls.popitem(last=False)[1])

    def forget(self, parent: int) -> None:
        """The parent has ended."""
        calls = self._calls.pop(parent, None)
        if calls is not None:
            self._forgotten(calls)

    def _forgotten(self, calls: _Calls) -> None:
        self._characters -= calls.size
        if not self._calls:
            self._characters = 0  # where threads met, they may have miscounted
