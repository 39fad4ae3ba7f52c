"""A model for examples that run offline: a local HTTP server that speaks OpenAI's chat completions API.

It asks for the tools it is offered, all in one turn, once for each city that the user's message names, and writes
an answer when it has seen the results.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CITIES = ("Tokyo", "Kyoto", "Osaka")
LATENCY_S = 0.15


def serve() -> str:
    """Start the server on a free loopback port; returns the base URL. It ends with the process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(LATENCY_S)
        body = json.dumps(_completion(request)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _completion(request: dict) -> dict:
    messages = request["messages"]
    question = next(str(message["content"]) for message in messages if message["role"] == "user")
    results = [message for message in messages if message["role"] == "tool"]
    calls = [] if results else _tool_calls(request.get("tools", ()), question)
    message = {"role": "assistant", "content": None if calls else f"A plan from {len(results)} look-ups."}
    if calls:
        message["tool_calls"] = calls
    words = sum(len(str(message.get("content")).split()) for message in messages)
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}],
        "usage": {"prompt_tokens": 50 + words, "completion_tokens": 15, "total_tokens": 65 + words},
    }


def _tool_calls(tools: list[dict], question: str) -> list[dict]:
    wanted = [(tool["function"]["name"], city) for tool in tools for city in CITIES if city in question]
    return [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps({"city": city})},
        }
        for number, (name, city) in enumerate(wanted)
    ]
