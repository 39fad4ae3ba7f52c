"""What several integrations ask about spans, and streams whose items they look at on the way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Any

from ..capture.tracing import SCOPE


def own_attributes(span: Any) -> Mapping[str, Any]:
    """The attributes of a span of ours; nothing of others'."""
    scope = getattr(span, "instrumentation_scope", None)
    return span.attributes or {} if scope is not None and scope.name == SCOPE else {}


def named_error(error_type: str) -> Exception:
    """A failure that is told instead of raised, as an exception whose type has that name."""
    failure: Exception = type(error_type, (Exception,), {"__module__": "builtins"})()
    return failure


def tapped(items: Iterator[Any], look: Callable[[Any], None]) -> Generator[Any, None, None]:
    """The same items, each looked at; closed with the reader."""
    try:
        for item in items:
            look(item)
            yield item
    finally:
        getattr(items, "close", lambda: None)()


async def atapped(items: AsyncIterator[Any], look: Callable[[Any], None]) -> AsyncGenerator[Any, None]:
    """The same for an async stream."""
    try:
        async for item in items:
            look(item)
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
