"""The MCP SDK: tools that a client calls on a server, whichever of the two the program is, or both.

Version 2 makes spans of its own: a server's for each request, and a client's, but without the tool's arguments and
result, and none where client and server talk in memory. So a tool call gets a span of ours around it on the client's
side, and the server's span is completed. Version 1 makes none: see `_mcp_v1`.

The same call may be told four times: by the agent framework, by us, by the client and by the server. The analysis
counts the outermost; this is why ours is named `tools/call …`, as the conventions for MCP say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry.trace import get_current_span

from .. import _guard
from ..capture.callables import Description
from ..capture.invocation import Invocation
from ..capture.patching import Patches, when_imported
from ..capture.usage import get
from . import _mcp_spans as spans
from . import _mcp_v1 as v1
from ._spans import named_error

MODULES = ("mcp",)
DISTRIBUTION = "mcp"
VERSIONS = ">=1.23,<3"
SOURCE = "native"
COVERS = ("tools",)
PARTS = (
    "mcp.client.session", "mcp.client.client", "mcp.shared.jsonrpc_dispatcher", "mcp.server._otel",
    "mcp.shared.session", "mcp.server.lowlevel.server",
)  # fmt: skip
LIMITS = (
    "What a tool does on a server in another process is told by that process only: start the server with "
    "opentelemetry-instrument and both export to one place, and it is the same trace.",
)


def patch(patches: Patches) -> None:
    """Each part when the program imports it: a server needs no client."""
    for module in PARTS:
        when_imported((module,), partial(_patch_part, patches, module))


def _patch_part(patches: Patches, module: str) -> None:
    there = vars(sys.modules[module])
    if module == "mcp.client.session":
        patches.trace(module, "ClientSession.call_tool", _call, _answered, _begin)
    elif module == "mcp.client.client":
        patches.trace(module, "Client.call_tool", _call, _answered, _begin)
    elif module == "mcp.shared.jsonrpc_dispatcher":
        patches.wrap(module, "inject_trace_context", _injected)
    elif module == "mcp.server._otel":
        patches.wrap(module, "extract_trace_context", _extracted)
        patches.wrap(module, "OpenTelemetryMiddleware.__call__", _handled)
    elif "BaseSession" in there:
        v1.patch_sessions(patches, module)
    elif hasattr(there.get("Server"), "_handle_request"):
        v1.patch_servers(patches, module)


def _call(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    tool = kwargs.get("name", args[0] if args else None)
    if not isinstance(tool, str):
        return None
    arguments = kwargs.get("arguments", args[1] if len(args) > 1 else None)
    return "tool", tool, None, arguments or {}


@_guard.guarded("mcp.call", None)
def _begin(kind: str, tool: str, attributes: None, arguments: Any) -> Invocation | None:
    # A client goes through its session, and asks it again where the server wants to know more first.
    invocation = None if spans.is_calling(tool) else spans.begin(spans.CALL, tool)
    if invocation is not None:
        invocation.arguments(arguments)
    return invocation


def _answered(invocation: Invocation, result: Any) -> Any:
    for value in spans.said(result):
        invocation.result(value)
    if spans.has_failed(result):
        invocation.fail(named_error("tool_error"))
    else:
        invocation.stop()
    return result


def _injected(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("mcp.injected"):
        spans.sent_from_here()
    return wrapped(*args, **kwargs)


def _extracted(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = wrapped(*args, **kwargs)
    with _guard.guard("mcp.extracted"):
        return spans.with_local_parent(found)
    return found


def _handled(wrapped: Callable[..., Any], middleware: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Inside the SDK's span for a request, which it has started when it calls on."""
    if len(args) != 2 or get(args[0], "method") != spans.CALL:
        return wrapped(*args, **kwargs)
    request, call_next = args

    async def call_on(context: Any) -> Any:
        result = await call_next(context)
        with _guard.guard("mcp.handled"):
            spans.complete(get_current_span(), get(get(request, "params"), "arguments") or {}, result)
        return result

    return wrapped(request, call_on)
