"""Says what a span is, whoever made it: GenAI conventions, OpenInference, OpenLLMetry, LangSmith, db, http.

Decided when a span has ended, because instrumentations add their attributes after the start. Key spellings
are those seen in real traces of the frameworks that docs/frameworks.md lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _semconv as names
from .. import sanitize
from ..model import Kind, SpanRecord, Tokens
from ..model._quick import quick
from . import content, prompts, refusals, templates
from .agents import AGENT_OPERATIONS, Attributes, is_chain, is_log
from .measurements import (
    USAGE_KEYS,
    cache_counts,
    cache_lookup,
    first,
    first_chunk_s,
    history,
    model,
    nanoseconds,
    number,
    profile,
    provider,
    resource_usage,
    stalls,
    strings,
    text,
    tokens,
)


class RawSpan(NamedTuple):
    """A span as a reader or the processor has it, before it is classified."""

    trace_id: str
    """32 hexadecimal digits"""
    span_id: str
    """16 hexadecimal digits"""
    parent_id: str | None
    name: str
    attributes: Attributes
    start_ns: int
    end_ns: int
    failed: bool = False
    scope: str = ""
    service: str = ""
    side: str = "internal"
    """the span kind: internal, server, client, producer, consumer"""
    remote_parent: bool = False
    process: str = ""
    """whatever tells one process from another in a source; empty inside the process itself"""
    exception: str | None = None
    """the type of the last exception that the span recorded"""


_LONGEST_NAME = 1_024
_LONGEST_TEXT = 16_384
"""characters that are kept of arguments and results: a run may have thousands of spans, and wait for hours"""
_OPERATIONS: dict[str, Kind] = {
    **AGENT_OPERATIONS,
    names.EXECUTE_TOOL: "tool",
    names.CHAT: "llm",
    names.TEXT_COMPLETION: "llm",
    names.GENERATE_CONTENT: "llm",
    names.EMBEDDINGS: "embedding",
    names.RETRIEVAL: "retrieval",
    # Steps around calls. They stay so even where another convention's attribute on the span says more.
    "create_agent": "other",
    "execute_task": "other",
    "execute_event_loop_cycle": "other",
    "chain": "other",
}
_OPENINFERENCE: dict[str, Kind] = {
    "AGENT": "agent",
    "LLM": "llm",
    "TOOL": "tool",
    "RETRIEVER": "retrieval",
    "EMBEDDING": "embedding",
}
_TRACELOOP: dict[str, Kind] = {"workflow": "workflow", "agent": "agent", "tool": "tool"}
_LANGSMITH: dict[str, Kind] = {
    "llm": "llm",
    "tool": "tool",
    "retriever": "retrieval",
    "embedding": "embedding",
}
_REQUEST_TYPES: dict[str, Kind] = {"chat": "llm", "completion": "llm", "embedding": "embedding"}

_CONVENTIONS: tuple[tuple[str, Mapping[str, Kind]], ...] = (
    (names.GEN_AI_OPERATION_NAME, _OPERATIONS),
    ("openinference.span.kind", _OPENINFERENCE),
    ("traceloop.span.kind", _TRACELOOP),
    ("langsmith.span.kind", _LANGSMITH),
    ("llm.request.type", _REQUEST_TYPES),
)

_NAME_KEYS: dict[Kind, tuple[str, ...]] = {
    "agent": (names.GEN_AI_AGENT_NAME, "agent.name", "graph.node.id", "traceloop.entity.name"),
    "workflow": ("gen_ai.workflow.name", names.GEN_AI_AGENT_NAME, "traceloop.entity.name"),
    "tool": (names.GEN_AI_TOOL_NAME, "tool.name", "traceloop.entity.name"),
    "llm": (names.GEN_AI_REQUEST_MODEL, names.GEN_AI_RESPONSE_MODEL, "llm.model_name", "llm.request.model"),
    "embedding": (names.GEN_AI_REQUEST_MODEL, names.GEN_AI_RESPONSE_MODEL, "embedding.model_name"),
    "retrieval": (names.GEN_AI_DATA_SOURCE_ID, "traceloop.entity.name"),
    "cache": (names.CACHE_NAME,),
    "mcp": (names.GEN_AI_TOOL_NAME, "mcp.tool.name", "mcp.prompt.name", "mcp.resource.uri"),
    "other": ("traceloop.entity.name",),
}
_OPENINFERENCE_AGENTS = "openinference.instrumentation.openai_agents"
_LOGFIRE_AGENTS = "logfire.openai_agents"
_LOGFIRE_KINDS: dict[str, Kind] = {
    "OpenAI Agents trace: ": "workflow",
    "Agent run: ": "agent",
    "Function: ": "tool",
    "Chat completion with ": "llm",
    "Responses API": "llm",
}
"""by the beginning of the span's name, a template: its spans follow no convention, and tell their name as `name`"""
_SPEAKER = (names.GEN_AI_AGENT_NAME, "agent.name")
"""on a model call: whose it is"""
_PREFIXES: dict[Kind, tuple[str, ...]] = {
    "agent": ("invoke_agent ",),
    "workflow": ("invoke_workflow ",),
    "tool": ("execute_tool ",),
    "llm": ("chat ", "generate_content ", "text_completion "),
    "embedding": ("embeddings ",),
    "retrieval": ("retrieval ",),
    "mcp": ("MCP send tools/call ", "tools/call ", "MCP send "),
}

_ADK = dict.fromkeys(("(merged", "transfer_to_agent", "set_model_response", "finish_task"), "gcp.vertex.agent")
_PSEUDO_TOOLS = _ADK | {
    "handoff_to_agent": "strands",
    "delegate_task_to_member": "agno",
    "handoff to ": _OPENINFERENCE_AGENTS,
    "final_answer": "smolagents",
    "finish": "dspy",
}
_OUTPUT_FUNCTION = "running output function"
"""what Pydantic AI calls a tool, named as the user likes, is told by this message: how a run ends"""


def classify(raw: RawSpan) -> SpanRecord:
    """The record of an ended span. Unknown spans become `other`; nothing is guessed from missing attributes."""
    attributes = raw.attributes
    kind = _kind(raw)
    # Most spans of ours show nothing, and need not be searched for it.
    shows = not names.BOUNDED.issuperset(attributes)
    if kind in ("db", "http"):
        call = templates.db_call(raw.name, attributes) if kind == "db" else templates.http_call(raw.name, attributes)
        operation, mutating, shown = short(call.operation), call.mutating, call.args
        args, args_text = _kept(None, shown)
    else:
        operation = short(_operation(kind, raw))
        mutating = kind == "tool" and templates.is_mutating_name(operation)
        args, args_text = _kept(
            attributes.get(names.ARGS_HASH), content.arguments_text(kind, attributes) if shows else None
        )
    cache = cache_lookup(attributes) if kind == "cache" else None
    error = _error(raw, kind)
    refused, retry_after_s = refusals.refusal(attributes, error, raw.end_ns)
    result, result_text = _kept(
        attributes.get(names.RESULT_HASH), content.result_text(kind, attributes) if shows else None
    )
    return _made(
        trace_id=raw.trace_id,
        span_id=raw.span_id,
        parent_id=raw.parent_id,
        name=short(raw.name),
        kind=kind,
        operation=operation,
        start_ns=raw.start_ns,
        end_ns=max(raw.start_ns, raw.end_ns),
        error=error,
        scope=raw.scope,
        service=raw.service,
        process=raw.process,
        # Logfire gives what it logs about a call a parent of this very process as if it were another's.
        remote_parent=raw.remote_parent and not is_log(attributes),
        mutating=mutating,
        args=cache.key if cache else args,
        args_text=args_text,
        result=result,
        result_text=result_text,
        result_size=content.result_size(attributes),
        depends_on=strings(attributes.get(names.DEPENDS_ON)),
        asked=names.GEN_AI_TOOL_CALL_ID in attributes,
        chain=kind == "other" and is_chain(attributes),
        cpu_ns=nanoseconds(attributes.get(names.CPU_TIME)),
        tokens=tokens(attributes) if kind in ("llm", "embedding", "agent", "workflow") else _NO_TOKENS,
        cache=cache,
        args_size=content.arguments_size(attributes),
        shown_size=content.shown_size(kind, attributes) if shows else None,
        refused=refused,
        retry_after_s=retry_after_s,
        **(_of_model_call(kind, attributes, shows) if kind in _MODEL_CALLS else {}),
        **({} if attributes.keys().isdisjoint(_ON_ROOTS) else _of_root(attributes)),
    )


if TYPE_CHECKING:
    _made = SpanRecord
else:
    _made = quick(SpanRecord)
_MODEL_CALLS: frozenset[Kind] = frozenset({"llm", "embedding"})


def _of_model_call(kind: Kind, attributes: Attributes, shows: bool) -> dict[str, Any]:
    told = {"provider": short(provider(attributes)), "model": short(model(attributes))}
    if kind == "embedding":
        return told
    return {
        **told,
        "agent": short(text(first(attributes, _SPEAKER)) or ""),
        "first_chunk_s": first_chunk_s(attributes),
        "asks": content.asks(attributes) if shows else None,
        "prompt": prompts.visible_prompt(attributes) if shows else None,
    }


_NO_TOKENS = Tokens()
_ON_ROOTS = USAGE_KEYS | {
    names.CACHES, names.STALLS, names.INCOMPLETE, names.PROFILE, names.PROFILE_NOTE, names.HISTORY,
}  # fmt: skip


def _of_root(attributes: Attributes) -> dict[str, Any]:
    """What only the process of a run could tell of it, and has told with the report."""
    return {
        "counts": cache_counts(attributes.get(names.CACHES)),
        "usage": resource_usage(attributes),
        "stalls": stalls(attributes.get(names.STALLS)),
        "incomplete": attributes.get(names.INCOMPLETE) is True,
        "profile": profile(attributes.get(names.PROFILE)),
        "profile_note": text(attributes.get(names.PROFILE_NOTE)) or "",
        "history": history(attributes.get(names.HISTORY)),
    }


def _kind(raw: RawSpan) -> Kind:
    attributes = raw.attributes
    if names.CACHE_OPERATION in attributes:
        return "cache"
    told = False
    for key, kinds in _CONVENTIONS:
        if key not in attributes:
            continue
        told, value = True, attributes[key]
        kind = kinds.get(value) if isinstance(value, str) else None
        if kind == "agent" and raw.scope == _OPENINFERENCE_AGENTS and "graph.node.id" not in attributes:
            return "workflow"  # a whole trace of the SDK
        if kind is not None:
            return "other" if kind == "tool" and _is_pseudo_tool(raw) else kind
    return "other" if told else _kind_without_convention(raw)


def _kind_without_convention(raw: RawSpan) -> Kind:
    attributes = raw.attributes
    if raw.scope == _LOGFIRE_AGENTS:
        return next((kind for name, kind in _LOGFIRE_KINDS.items() if raw.name.startswith(name)), "other")
    if "mcp.method.name" in attributes:
        return "mcp"
    if "db.system.name" in attributes or "db.system" in attributes:
        return "db"
    if ("http.request.method" in attributes or "http.method" in attributes) and raw.side != "server":
        return "http"
    return next((kind for kind, prefixes in _PREFIXES.items() if raw.name.startswith(prefixes)), "other")


def _is_pseudo_tool(raw: RawSpan) -> bool:
    """Frameworks' own steps that they trace as tools; a user's tool of the same name is left alone."""
    if raw.attributes.get(names.STEP) is True:
        return True
    if raw.scope == "pydantic-ai" and str(raw.attributes.get("logfire.msg", "")).startswith(_OUTPUT_FUNCTION):
        return True
    pseudo = _pseudo_tools(raw.scope)
    tool = str(raw.attributes.get(names.GEN_AI_TOOL_NAME) or raw.attributes.get("tool.name") or raw.name)
    return bool(pseudo) and tool.startswith(pseudo)


@lru_cache(maxsize=64)
def _pseudo_tools(scope: str) -> tuple[str, ...]:
    """What the names of an instrumentation's pseudo tools begin with."""
    return tuple(pseudo for pseudo, known in _PSEUDO_TOOLS.items() if known in scope)


def _operation(kind: Kind, raw: RawSpan) -> str:
    keys = _NAME_KEYS.get(kind, ())
    told = first(raw.attributes, (*keys, "name") if raw.scope == _LOGFIRE_AGENTS else keys)
    if isinstance(told, str) and told:
        return told
    for prefix in _PREFIXES.get(kind, ()):
        if raw.name.startswith(prefix):
            return raw.name[len(prefix) :] or raw.name
    return raw.name or "unnamed"


def _error(raw: RawSpan, kind: Kind) -> str | None:
    told = raw.attributes.get(names.ERROR_TYPE)
    if told:
        return short(str(told).partition(": ")[0])  # some put the message behind it
    if raw.failed:
        return short(raw.exception or "error")  # OpenInference names the error nowhere else
    if kind == "http":
        status = number(first(raw.attributes, ("http.response.status_code", "http.status_code")))
        if status is not None and status >= 400:
            return str(status)
    return None


def short(name: str) -> str:
    """A name as it is; of one that is as long as a text, enough to know it by and to tell it from others."""
    shown = sanitize.without_secrets(name[:_LONGEST_NAME])
    return shown if len(name) <= _LONGEST_NAME else f"{shown}… {_digest(name)}"


def _kept(told: object, shown: str | None) -> tuple[str | None, str | None]:
    """The identity of arguments or a result (the hash that the span tells, otherwise what it shows), and the text."""
    if shown is not None and len(shown) > _LONGEST_TEXT:
        return text(told) or _digest(shown), None
    return text(told) or shown, shown


def _digest(value: str) -> str:
    return sanitize.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
