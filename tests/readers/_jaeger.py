"""A server that answers as a Jaeger of either generation does, over HTTP on loopback."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

NO_TRACES = "No traces found"


@dataclass
class FakeJaeger:
    """`traces`: the OTLP documents by service. `generation`: 13 or 20, as in 2.13 and 2.20."""

    generation: int
    traces: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    base: str = ""
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        """Status and body of a GET."""
        if not path.startswith(self.base):
            return 404, "404 page not found"
        path = path.removeprefix(self.base)
        if path == "/api/v3/services":
            return 200, json.dumps({"services": list(self.traces)} if self.traces else {})
        if path == "/api/v3/traces":
            self.asked.append(query)
            return self._search(query)
        if path.startswith("/api/v3/traces/"):
            wanted = path.rpartition("/")[2]
            found = [document for each in self.traces.values() for document in each if wanted in json.dumps(document)]
            return self._found(found, "trace not found")
        return 200, "<!doctype html><html>the UI</html>"

    def _search(self, query: dict[str, str]) -> tuple[int, str]:
        if self.generation < 19:
            names = ("query.service_name", "query.start_time_min", "query.start_time_max", "query.num_traces")
        else:
            names = ("query.serviceName", "query.startTimeMin", "query.startTimeMax", "query.searchDepth")
        service, first, last, limit = (query.get(name, "") for name in names)
        if not first or not last:
            return _error(400, f"{names[1]} and {names[2]} are required")
        if not limit:
            return _error(500, "search depth must be greater than 0")
        return self._found(self.traces.get(service, [])[: int(limit)], NO_TRACES)

    def _found(self, found: list[dict[str, Any]], otherwise: str) -> tuple[int, str]:
        if not found:
            return _error(404, otherwise)
        return 200, "".join(json.dumps({"result": document}) + "\n" for document in found)


def _error(code: int, message: str) -> tuple[int, str]:
    return code, json.dumps({"error": {"httpCode": code, "message": message}})


@contextmanager
def serving(answer: Any, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that answers each GET with `answer(path, query) -> (status, body)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            status, body = answer(parts.path, query)
            content = body if isinstance(body, bytes) else body.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
