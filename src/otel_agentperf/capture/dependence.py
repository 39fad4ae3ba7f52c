"""Which earlier sibling's result a call's arguments hold, found in the process, so that no content need leave it.

Remembers the arguments and results of the last calls under each open parent, within a bound, and forgets them
when the parent ends.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

from opentelemetry.trace import format_span_id

from .._visible import holds_result

_SIBLINGS = 16
_LONGEST_TEXT = 16_384
_MOST_CHARACTERS = 8_000_000


class _Call(NamedTuple):
    span_id: int
    args: str | None
    result: str | None
    size: int


class Siblings:
    """The last calls by parent span id."""

    def __init__(self) -> None:
        self._calls: OrderedDict[int, deque[_Call]] = OrderedDict()
        self._characters = 0

    def depends_on(self, parent: int, args: str | None) -> tuple[str, ...] | None:
        """The span ids of the earlier siblings whose result `args` hold; None: unknown."""
        earlier = self._calls.get(parent)
        if not earlier or args is None or len(args) > _LONGEST_TEXT or len(earlier) == _SIBLINGS:
            return None
        found = []
        for call in list(earlier):
            holds = None if call.result is None else holds_result(args, call.result, call.args)
            if holds is None:
                return None
            if holds:
                found.append(format_span_id(call.span_id))
        return tuple(found)

    def ended(self, parent: int, span_id: int, args: str | None, result: str | None) -> None:
        """Remember a call that has ended well."""
        calls = self._calls.get(parent)
        if calls is None:
            calls = self._calls[parent] = deque()
        elif len(calls) == _SIBLINGS:
            self._characters -= calls.popleft().size
        if result is not None and len(result) > _LONGEST_TEXT:
            result = None
        if args is not None and len(args) > _LONGEST_TEXT:
            args = None
        size = len(args or "") + len(result or "") + 100
        calls.append(_Call(span_id, args, result, size))
        self._characters += size
        while self._characters > _MOST_CHARACTERS and self._calls:
            self.forget(next(iter(self._calls)))

    def forget(self, parent: int) -> None:
        """The parent has ended."""
        calls = self._calls.pop(parent, None)
        if calls:
            self._characters -= sum(call.size for call in calls)
