"""A local server that speaks the Gemini API: `generateContent`, streamed or not, and embeddings.

    with GeminiServer(calls(("get_weather", {"city": "Paris"})), "it is sunny") as server:
        genai.Client(api_key="test", http_options={"base_url": server.url}).models.generate_content(...)

It gives its answers in the order given; when none is left it is "ok". Every answer costs INPUT, OUTPUT, THOUGHTS and
CACHED tokens; a stream tells its usage with every chunk, growing, as the service does.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from _model_server import Answer, Calls, Refusal, Slow

INPUT, OUTPUT, THOUGHTS, CACHED = 60, 9, 4, 24
VERSION = "-001"
"""what the server adds to the name of the model that was asked for"""


class GeminiServer:
    """Listens on a free loopback port while it is entered; `requests` holds the bodies it was sent."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[dict[str, Any]] = []
        self._answers = list(answers)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"gemini": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> GeminiServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, body: dict[str, Any]) -> Answer:
        with self._lock:
            self.requests.append(body)
            return self._answers.pop(0) if self._answers else "ok"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gemini: GeminiServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, _, method = self.path.partition("?")[0].rpartition("/")[2].partition(":")
        answer = self.gemini.answer(body)
        if isinstance(answer, Refusal):
            error = {"code": answer.status, "message": "no", "status": "RESOURCE_EXHAUSTED"}
            self._send_json({"error": error}, answer.status, answer.headers)
        elif "embed" in method.lower():
            self._send_json({"embeddings": [{"values": [0.1, 0.2]} for _ in body.get("requests", [1])]})
        elif method == "streamGenerateContent":
            self._send_stream(answer, model)
        else:
            time.sleep(answer.pause if isinstance(answer, Slow) else 0.0)
            self._send_json(_content(_parts(answer), model, 1, "STOP"))

    def _send_stream(self, answer: Answer, model: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for chunk in _chunks(answer, model):
                time.sleep(answer.pause if isinstance(answer, Slow) else 0.0)
                self.wfile.write(f"data: {json.dumps(chunk)}\r\n\r\n".encode())
                self.wfile.flush()
        except OSError:  # the client went away: what some tests are about
            pass
        self.close_connection = True

    def _send_json(self, body: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _text(answer: Answer) -> str:
    return answer.text if isinstance(answer, Slow) else str(answer)


def _parts(answer: Answer) -> list[dict[str, Any]]:
    if isinstance(answer, Calls):
        return [{"functionCall": {"name": name, "args": args}} for name, args in answer.tools]
    return [{"text": _text(answer)}]


def _chunks(answer: Answer, model: str) -> Iterator[dict[str, Any]]:
    if isinstance(answer, Calls):
        yield _content(_parts(answer), model, 1, "STOP")
        return
    words = _text(answer).split(" ")
    for place, word in enumerate(words, 1):
        last = place == len(words)
        yield _content(
            [{"text": word if place == 1 else f" {word}"}], model, place / len(words), "STOP" if last else None
        )


def _content(parts: list[dict[str, Any]], model: str, share: float, reason: str | None) -> dict[str, Any]:
    """`share`: how much of the answer has been said by now."""
    said = int(OUTPUT * share)
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    return {
        "candidates": [candidate],
        "modelVersion": model + VERSION,
        "usageMetadata": {
            "promptTokenCount": INPUT, "candidatesTokenCount": said, "thoughtsTokenCount": THOUGHTS,
            "cachedContentTokenCount": CACHED, "totalTokenCount": INPUT + said + THOUGHTS,
        },
    }  # fmt: skip
