"""The real thing: ``python -m server`` with the shipped student and, where asked for, its embedded teacher."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from queue import Queue

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0


class RunningServer:
    """A child process, its log lines as they come, and a client to it."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", "--port", "0", *arguments],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("STILLGUARD_")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._log: Queue[dict] = Queue()
        self.raw_log: deque[str] = deque(maxlen=1000)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self.ready_line = self.process.stdout.readline()
        found = re.search(r"localhost:(\d+)", self.ready_line)
        assert found, f"no ready line; the log says {list(self.raw_log)}"
        self.url = f"http://127.0.0.1:{found.group(1)}"
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def _read_log(self) -> None:
        for line in self.process.stderr:
            self.raw_log.append(line)
            self._log.put(json.loads(line))

    def wait_for_log(self, event: str) -> dict:
        """The next log line whose event begins so; fails after a minute without one."""
        while True:
            line = self._log.get(timeout=START_TIMEOUT_S)
            if line["event"].startswith(event):
                return line

    def check(self, *texts: str, **fields) -> dict:
        reply = self.client.post("/v1/check", json={"texts": [{"text": text} for text in texts]} | fields)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def result(self, text: str) -> dict:
        return self.check(text)["results"][0]

    def stop(self) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=30)
        finally:
            self.process.kill()
            self._reader.join(10)
            self.process.stdout.close()
            self.process.stderr.close()


@pytest.fixture(scope="session")
def student_server():
    """The shipped student alone."""
    server = RunningServer()
    yield server
    assert server.stop() == 0


@pytest.fixture
def run_server():
    """``run_server(*flags)``: a server of one's own, stopped at the end."""
    started = []

    def run(*arguments: str) -> RunningServer:
        started.append(RunningServer(*arguments))
        return started[-1]

    yield run
    for server in started:
        server.stop()
