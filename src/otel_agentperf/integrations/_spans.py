"""What several integrations ask about spans, and streams whose items they look at on the way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Any

from opentelemetry.trace import Span, Status, StatusCode

from .. import _semconv as names
from ..capture.tracing import SCOPE


def own_attributes(span: Any) -> Mapping[str, Any]:
    """The attributes of a span of ours; nothing of others'."""
    scope = getattr(span, "instrumentation_scope", None)
    return span.attributes or {} if scope is not None and scope.name == SCOPE else {}


def named_error(error_type: str) -> Exception:
    """A failure that is told instead of raised, as an exception whose type has that name."""
    failure: Exception = type(error_type, (Exception,), {"__module__": "builtins"})()
    return failure


def mark_failed(span: Span, kind: str) -> None:
    """Say of a tool's span that is still open that the call failed, where its caller is only told."""
    attributes = own_attributes(span)
    if attributes.get(names.GEN_AI_OPERATION_NAME) == names.EXECUTE_TOOL and names.ERROR_TYPE not in attributes:
        span.set_attribute(names.ERROR_TYPE, kind)
        span.set_status(Status(StatusCode.ERROR))


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
