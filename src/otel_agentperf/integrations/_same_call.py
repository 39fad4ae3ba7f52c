"""One span for what is one call, though it goes through several methods of one object: a class's own that calls its
base's, a synchronous one that calls the asynchronous one, an agent that tries again.

A description's arguments are then `(key, arguments)`: whose call it is, and what was given.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.trace import get_current_span

from .. import _guard
from ..capture.invocation import Invocation, start
from ..model import Kind

_keys: WeakKeyDictionary[Any, Hashable] = WeakKeyDictionary()
"""by the span of a call: whose it is"""


def is_under_way(key: Hashable) -> bool:
    """Is the current span that of a call of `key`?"""
    return _keys.get(get_current_span()) == key


def begin(kind: Kind, name: str, attributes: Mapping[str, Any] | None, arguments: Any) -> Invocation | None:
    """`invocation.start`, remembering the key."""
    key, given = arguments
    invocation = start(kind, name, attributes, given)
    if invocation is not None and invocation.span.is_recording():
        with _guard.guard("same call"):
            _keys[invocation.span] = key
    return invocation
