"""Stands before a real server and spoils some of its answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_KEPT = ("content-type", "x-request-id", "x-request-timeout-s")


@contextmanager
def lying(url: str, lie: Callable[[Any], None]) -> Iterator[str]:
    """The URL of a proxy to ``url`` that lets ``lie`` change every tenth answer of ``POST /v1/check`` with status 200."""
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        server = _Proxy(client, lie)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(60)
            server.server_close()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, client: httpx.Client, lie: Callable[[Any], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.client = client
        self.lie = lie
        self.answers = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Proxy

    def do_GET(self) -> None:
        self._forward(None)

    def do_POST(self) -> None:
        self._forward(self.rfile.read(int(self.headers["content-length"])))

    def _forward(self, body: bytes | None) -> None:
        headers = {name: self.headers[name] for name in _KEPT if name in self.headers}
        reply = self.server.client.request(self.command, self.path, content=body, headers=headers)
        content = reply.content
        if self.path == "/v1/check" and reply.status_code == httpx.codes.OK:
            self.server.answers += 1
            if self.server.answers % 10 == 0:
                answer = json.loads(content)
                self.server.lie(answer)
                content = json.dumps(answer).encode()
        self.send_response(reply.status_code)
        for name in ("content-type", "x-request-id", "retry-after"):
            if name in reply.headers:
                self.send_header(name, reply.headers[name])
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Nothing is said."""
