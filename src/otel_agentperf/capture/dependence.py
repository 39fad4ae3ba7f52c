"""Which earlier sibling's result a call's arguments hold, found in the process, so that no content need leave it.

Remembers the arguments and results of the last calls under each open parent, within a bound, and forgets them
when the parent ends. Without a lock: each step on the shared containers is atomic, and a lock held over a fork
or by an interrupted signal handler would be worse than a lost entry.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import NamedTuple

from opentelemetry.trace import format_span_id

from .._visible import distinctive_values, holds, searchable

_SIBLINGS = 16
_LONGEST_TEXT = 16_384
_MOST_CHARACTERS = 8_000_000


class _Call(NamedTuple):
    span_id: int
    brought: str
    given: str


class _Calls:
    """The calls under one parent that have ended well, in `searchable` form."""

    __slots__ = ("all_brought", "all_known", "calls", "size")

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.all_brought = ""
        """all results in one text: most arguments hold nothing of any, which one look tells"""
        self.all_known = True
        self.size = 100

    def add(self, span_id: int, args: str | None, result: str | None) -> int:
        """Returns the characters that are kept of it."""
        if result is None or len(result) > _LONGEST_TEXT:
            self.all_known = False
        if not self.all_known or len(self.calls) >= _SIBLINGS:
            return 0  # nothing will be told any more of the calls to come
        given = searchable(args) if args is not None and len(args) <= _LONGEST_TEXT else ""
        call = _Call(span_id, searchable(result or ""), given)
        self.calls.append(call)
        self.all_brought += f" {call.brought}"
        size = 2 * len(call.brought) + len(given) + 100
        self.size += size
        return size


class Siblings:
    """The last calls by parent span id."""

    def __init__(self) -> None:
        self._calls: OrderedDict[int, _Calls] = OrderedDict()
        self._characters = 0

    def depends_on(self, parent: int, args: str | None) -> tuple[str, ...] | None:
        """The span ids of the earlier siblings whose result `args` hold; None: unknown."""
        earlier = self._calls.get(parent)
        if earlier is None or not earlier.all_known or len(earlier.calls) >= _SIBLINGS:
            return None
        if args is None or len(args) > _LONGEST_TEXT:
            return None
        values = distinctive_values(args)
        if values is None:
            return None
        brought = [value for value in values if value in earlier.all_brought]
        if not brought:
            return ()
        calls = list(earlier.calls)
        return tuple(format_span_id(call.span_id) for call in calls if holds(brought, call.brought, call.given))

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
