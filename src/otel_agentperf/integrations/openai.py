"""The OpenAI client: chat completions, responses, completions and embeddings; sync, async, streamed, raw.

`parse` has a way of its own to the wire; everything else (`stream`, `with_raw_response`, …) goes through `create`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import _semconv as names
from ..capture.callables import Describe, Description
from ..capture.invocation import Invocation
from ..capture.patching import Patches, when_imported
from ..capture.usage import get
from ..model import Kind
from ._client_streams import closed, iterated, watched
from ._openai_answers import FAILED, failure, said, tell
from ._openai_attempts import patch_attempts
from ._unread_responses import UnreadResponses

MODULES = ("openai",)
DISTRIBUTION = "openai"
VERSIONS = ">=2,<4"
SOURCE = "wrapped"
COVERS = ("llm", "tokens", "streaming")
LIMITS = ("Streamed chat completions carry no tokens unless stream_options={'include_usage': True} is passed.",)

_RESOURCES: dict[str, tuple[Kind, str, tuple[str, ...]]] = {
    "openai.resources.chat.completions.completions": (
        "llm", names.CHAT, ("Completions.create", "Completions.parse",
                            "AsyncCompletions.create", "AsyncCompletions.parse")),
    "openai.resources.responses.responses": (
        "llm", names.CHAT, ("Responses.create", "Responses.parse", "AsyncResponses.create", "AsyncResponses.parse")),
    "openai.resources.completions": (
        "llm", names.TEXT_COMPLETION, ("Completions.create", "AsyncCompletions.create")),
    "openai.resources.embeddings": (
        "embedding", names.EMBEDDINGS, ("Embeddings.create", "AsyncEmbeddings.create")),
}  # fmt: skip
PARTS = tuple(_RESOURCES)
_PROVIDERS = {
    "azure.com": "azure.ai.openai",
    "x.ai": "x_ai",
    "groq.com": "groq",
    "deepseek.com": "deepseek",
    "mistral.ai": "mistral_ai",
    "perplexity.ai": "perplexity",
    "anthropic.com": "anthropic",
    "googleapis.com": "gcp.gemini",
    "amazonaws.com": "aws.bedrock",
}
"""by the end of the host's name: others speak this API too; who is not listed counts as OpenAI"""
_NOTHING_YET = ("response.created", "response.queued", "response.in_progress")
"""events of a streamed response before its first piece of content"""


def patch(patches: Patches) -> None:
    """Each resource when the client imports it, which it does when it is first used."""
    for module in _RESOURCES:
        when_imported((module,), partial(_patch_resource, patches, module))
    for path in ("Stream.close", "AsyncStream.close"):
        patches.wrap("openai._streaming", path, closed)
    patches.wrap("openai._streaming", "AsyncStream.__aiter__", iterated)
    _unread.patch(patches, "openai._response")
    patch_attempts(patches, "openai._base_client")


def unpatch() -> None:
    """End the calls whose answers nobody has read yet."""
    _unread.unpatch()


def _patch_resource(patches: Patches, module: str) -> None:
    kind, operation, paths = _RESOURCES[module]
    for path in paths:
        patches.trace(module, path, _describe(kind, operation), _answered)


def _describe(kind: Kind, operation: str) -> Describe:
    def describe(resource: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
        model = kwargs.get("model")
        given = next((kwargs[key] for key in ("messages", "input", "prompt") if key in kwargs), None)
        attributes = {names.GEN_AI_OPERATION_NAME: operation, names.GEN_AI_PROVIDER_NAME: _provider(resource)}
        return kind, model if isinstance(model, str) and model else "unknown", attributes, given

    return describe


def _provider(resource: Any) -> str:
    try:
        host = str(resource._client.base_url.host)
    except AttributeError:
        return "openai"
    return next((name for end, name in _PROVIDERS.items() if host == end or host.endswith(f".{end}")), "openai")


def _answered(invocation: Invocation, answer: Any) -> Any:
    """An answer ends the call; a stream ends it when it has been read."""
    if not _unread.add(answer, invocation):
        _finish(invocation, _parsed(answer))
    return answer


def _finish(invocation: Invocation, answer: Any) -> None:
    if watched(invocation, answer, _note):
        return
    tell(invocation, answer)
    if get(answer, "status") == "failed":
        invocation.fail(failure(answer))
    else:
        invocation.stop(*said(answer))


_unread = UnreadResponses(_finish)


def _parsed(answer: Any) -> Any:
    """What a raw response holds; it keeps what it has parsed, so this is what its caller will get, too."""
    if type(answer).__name__ != "LegacyAPIResponse":
        return answer
    try:
        return answer.parse()
    except Exception:  # noqa: BLE001 - the caller's own `parse` will raise it again
        return None


def _note(invocation: Invocation, chunk: Any) -> None:
    kind = get(chunk, "type")
    if kind not in _NOTHING_YET:
        invocation.chunk()
    told = get(chunk, "response") or chunk
    if get(told, "usage") is not None:
        tell(invocation, told)
    if kind in FAILED:
        invocation.fail(failure(told))
