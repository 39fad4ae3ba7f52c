"""A local HTTP server that speaks the OpenAI API: chat completions, responses and embeddings, streamed or not.

    with ModelServer(calls(("get_weather", {"city": "Paris"})), "It is sunny.") as server:
        client = OpenAI(base_url=server.url, api_key="none")

Each request takes the next answer; when none is left it is "ok". Every answer costs INPUT, OUTPUT and CACHED tokens.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from types import TracebackType
from typing import Any

INPUT, OUTPUT, CACHED = 50, 7, 32
EMBEDDING_INPUT = 5


@dataclass(frozen=True)
class Calls:
    """An answer that asks for tools."""

    tools: tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True)
class Refusal:
    """An HTTP error."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Slow:
    """A text whose words come one by one, `pause` seconds apart, when streamed; all after `pause` otherwise."""

    text: str
    pause: float


Answer = str | Calls | Refusal | Slow


def calls(*tools: tuple[str, dict[str, Any]]) -> Calls:
    return Calls(tools)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: ModelServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer, number = self.model.answer(body)
        if isinstance(answer, Refusal):
            self.send_json({"error": {"message": "no", "type": "refused"}}, answer.status, answer.headers)
        elif self.path.endswith("/embeddings"):
            self.send_json(_embeddings(body))
        elif self.path.endswith("/responses"):
            self.send_answer(body, answer, _response(body, answer, number), _response_events(body, answer, number))
        else:
            self.send_answer(body, answer, _completion(body, answer, number), _chunks(body, answer, number))

    def send_answer(self, body: dict[str, Any], answer: Answer, whole: dict[str, Any], parts: Iterator[str]) -> None:
        pause = answer.pause if isinstance(answer, Slow) else 0.0
        if not body.get("stream"):
            time.sleep(pause)
            self.send_json(whole)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for part in parts:
                time.sleep(pause)
                self.wfile.write(part.encode())
                self.wfile.flush()
        except OSError:  # the client went away: what some tests are about
            pass
        self.close_connection = True

    def send_json(self, body: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class ModelServer:
    """Listens on a free loopback port while it is entered; `requests` holds the bodies it was sent."""

    handler: type[Handler] = Handler

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[dict[str, Any]] = []
        self._answers = list(answers)
        self._lock = threading.Lock()
        self._numbers = count(1)
        handler = type("Handler", (self.handler,), {"model": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ModelServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, body: dict[str, Any]) -> tuple[Answer, int]:
        with self._lock:
            self.requests.append(body)
            return (self._answers.pop(0) if self._answers else "ok"), next(self._numbers)


def text_of(answer: Answer) -> str:
    return answer.text if isinstance(answer, Slow) else str(answer)


def words_of(answer: Answer) -> list[str]:
    words = text_of(answer).split(" ")
    return [word if place == 0 else f" {word}" for place, word in enumerate(words)]


def _tool_calls(answer: Calls, number: int) -> list[dict[str, Any]]:
    return [
        {"index": place, "id": f"call_{number}_{place}", "type": "function",
         "function": {"name": name, "arguments": json.dumps(arguments)}}
        for place, (name, arguments) in enumerate(answer.tools)
    ]  # fmt: skip


def _chat_usage() -> dict[str, Any]:
    return {
        "prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
        "prompt_tokens_details": {"cached_tokens": CACHED},
    }  # fmt: skip


def _completion(body: dict[str, Any], answer: Answer, number: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text_of(answer)}
    if isinstance(answer, Calls):
        message = {"role": "assistant", "content": None, "tool_calls": _tool_calls(answer, number)}
    reason = "tool_calls" if isinstance(answer, Calls) else "stop"
    return {
        "id": f"chat_{number}", "object": "chat.completion", "created": 1, "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": _chat_usage(),
    }  # fmt: skip


def _chunks(body: dict[str, Any], answer: Answer, number: int) -> Iterator[str]:
    head = {"id": f"chat_{number}", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
        return _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    if isinstance(answer, Calls):
        yield chunk({"role": "assistant", "tool_calls": _tool_calls(answer, number)})
        yield chunk({}, "tool_calls")
    else:
        for word in words_of(answer):
            yield chunk({"role": "assistant", "content": word})
        yield chunk({}, "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _event({**head, "choices": [], "usage": _chat_usage()})
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any], name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"


def _output(answer: Answer, number: int) -> list[dict[str, Any]]:
    if isinstance(answer, Calls):
        return [
            {"type": "function_call", "id": f"fc_{number}_{place}", "call_id": f"call_{number}_{place}",
             "name": name, "arguments": json.dumps(arguments), "status": "completed"}
            for place, (name, arguments) in enumerate(answer.tools)
        ]  # fmt: skip
    content = [{"type": "output_text", "text": text_of(answer), "annotations": []}]
    return [{"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": content}]


def _response(body: dict[str, Any], answer: Answer, number: int) -> dict[str, Any]:
    return {
        "id": f"resp_{number}", "object": "response", "created_at": 1, "status": "completed", "model": body["model"],
        "output": _output(answer, number), "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": {
            "input_tokens": INPUT, "output_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
            "input_tokens_details": {"cached_tokens": CACHED, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }  # fmt: skip


def _response_events(body: dict[str, Any], answer: Answer, number: int) -> Iterator[str]:
    whole = _response(body, answer, number)
    numbers = count()

    def event(kind: str, **fields: Any) -> str:
        return _event({"type": kind, "sequence_number": next(numbers), **fields}, kind)

    yield event("response.created", response={**whole, "status": "in_progress", "output": [], "usage": None})
    for place, item in enumerate(whole["output"]):
        yield event("response.output_item.added", output_index=place, item=item)
        if item["type"] == "message":
            where = {"item_id": item["id"], "output_index": place, "content_index": 0}
            yield event("response.content_part.added", part={**item["content"][0], "text": ""}, **where)
            for word in words_of(answer):
                yield event("response.output_text.delta", delta=word, logprobs=[], **where)
        yield event("response.output_item.done", output_index=place, item=item)
    yield event("response.completed", response=whole)


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    return {
        "object": "list", "model": body["model"],
        "data": [{"object": "embedding", "index": i, "embedding": [0.1, 0.2]} for i in range(len(texts))],
        "usage": {"prompt_tokens": EMBEDDING_INPUT, "total_tokens": EMBEDDING_INPUT},
    }  # fmt: skip
