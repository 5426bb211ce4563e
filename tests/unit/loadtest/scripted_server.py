"""A server that answers in the native format, and badly where it is told to."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from loadtest.bench.dialects import NATIVE
from loadtest.bench.load import Target

GOOD_RESULT = {"verdict": "allow", "scores": {"hate": 0.1, "toxicity": 0.2}, "windows": 1}


class ScriptedServer(ThreadingHTTPServer):
    """Answers a text by what it says: ``shed`` with 503, ``nan`` with a score that is none, ``hang up`` not at all, ``wait``
    once ``gate`` is open, everything else well."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gate = threading.Event()
        self.seen: list[str] = []

    def handle_error(self, *request: object) -> None:
        """A client that gave up waiting is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*request)

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", self.server_port, NATIVE)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ScriptedServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = [item["text"] for item in body["texts"]]
        self.server.seen.extend(texts)
        if "hang up" in texts:
            self.close_connection = True
            return
        if "wait" in texts:
            self.server.gate.wait(60)
        results = [GOOD_RESULT | ({"scores": {"hate": float("nan")}} if text == "nan" else {}) for text in texts]
        answer = json.dumps({"results": results, "timings": {"infer_s": 0.0}}).encode()
        self.send_response(503 if "shed" in texts else 200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: object) -> None:
        """Nothing is said."""
