"""A local HTTP server that speaks the Anthropic messages API, streamed or not.

    with AnthropicServer(calls(("get_weather", {"city": "Paris"})), "It is sunny.") as server:
        client = Anthropic(base_url=server.url, api_key="none")

Takes the same answers as `ModelServer`, and each costs the same: INPUT, of which CACHED are read from the provider's
cache and WRITTEN are written to it, and OUTPUT. The API's own `input_tokens` excludes both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from _model_server import CACHED, INPUT, OUTPUT, Answer, Calls, Handler, ModelServer, Refusal, text_of, words_of

WRITTEN = 4
_ERRORS = {429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}


class _Handler(Handler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer, number = self.model.answer(body)
        if isinstance(answer, Refusal):
            error = {"type": _ERRORS.get(answer.status, "invalid_request_error"), "message": "no"}
            self.send_json({"type": "error", "error": error}, answer.status, answer.headers)
        else:
            self.send_answer(body, answer, _message(body, answer, number), _events(body, answer, number))


class AnthropicServer(ModelServer):
    """Listens on a free loopback port while it is entered; `requests` holds the bodies it was sent."""

    handler = _Handler

    def __init__(self, *answers: Answer) -> None:
        super().__init__(*answers)
        self.url = self.url.removesuffix("/v1")


def _blocks(answer: Answer, number: int) -> list[dict[str, Any]]:
    if isinstance(answer, Calls):
        return [
            {"type": "tool_use", "id": f"toolu_{number}_{place}", "name": name, "input": arguments}
            for place, (name, arguments) in enumerate(answer.tools)
        ]
    return [{"type": "text", "text": text_of(answer)}]


def _message(body: dict[str, Any], answer: Answer, number: int) -> dict[str, Any]:
    return {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": body["model"],
        "content": _blocks(answer, number), "stop_reason": "tool_use" if isinstance(answer, Calls) else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": INPUT - CACHED - WRITTEN, "output_tokens": OUTPUT, "cache_read_input_tokens": CACHED,
            "cache_creation_input_tokens": WRITTEN,
        },
    }  # fmt: skip


def _events(body: dict[str, Any], answer: Answer, number: int) -> Iterator[str]:
    whole = _message(body, answer, number)
    start = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    yield _event("message_start", message=start)
    for place, block in enumerate(whole["content"]):
        is_text = block["type"] == "text"
        empty = {**block, "text": ""} if is_text else {**block, "input": {}}
        yield _event("content_block_start", index=place, content_block=empty)
        for delta in _deltas(answer, block):
            yield _event("content_block_delta", index=place, delta=delta)
        yield _event("content_block_stop", index=place)
    yield _event(
        "message_delta",
        delta={"stop_reason": whole["stop_reason"], "stop_sequence": None},
        usage={"output_tokens": OUTPUT},
    )
    yield _event("message_stop")


def _deltas(answer: Answer, block: dict[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "text":
        return [{"type": "text_delta", "text": word} for word in words_of(answer)]
    return [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"
