"""What signals do to the real process: stop in good order, stop at once, reload."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from server.core.artifact import MANIFEST, MODEL
from server.settings import Settings

pytestmark = pytest.mark.e2e

SHIPPED = Settings.model_fields["artifact"].default
CLIENTS = 24


class Clients:
    """Threads that ask one after the other, each on its own connection, until the server is told to stop."""

    def __init__(self, url: str) -> None:
        self.is_stopping = threading.Event()
        self.under_load = threading.Event()
        self.replies: list[httpx.Response] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(url, number)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self, url: str, number: int) -> None:
        texts = [{"text": f"client {number} says that the train was late again " * (1 + number)}] * 3
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            while not self.is_stopping.is_set():
                try:
                    self.replies.append(client.post("/v1/check", json={"texts": texts}))
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    return
                # A slow machine sheds some: those that were answered count.
                if sum(reply.status_code == 200 for reply in self.replies) > 2 * CLIENTS:
                    self.under_load.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_still_loads_stops_too(number, tmp_path):
    """Process 1 of a container has no default action for a signal: without a handler it would wait for SIGKILL."""
    policies = tmp_path / "policies.toml"
    os.mkfifo(policies)
    command = [sys.executable, "-m", "server", "--port", "0", "--policies", str(policies)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        with policies.open("w"):  # returns when the server has opened it to read, and keeps it waiting
            process.send_signal(number)
            assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_sigterm_under_load_loses_no_request(run_server):
    server = run_server()
    clients = Clients(server.url)
    assert clients.under_load.wait(120), clients.failures
    clients.is_stopping.set()
    server.process.send_signal(signal.SIGTERM)
    clients.join()
    assert server.process.wait(60) == 0
    assert clients.failures == []
    codes = [reply.status_code for reply in clients.replies]
    assert set(codes) <= {200, 503}
    assert codes.count(200) > 2 * CLIENTS
    refused = {reply.json()["error"]["code"] for reply in clients.replies if reply.status_code == 503}
    assert refused <= {"shutting_down", "queue_full"}
    assert server.wait_for_log("drained")["is_drained"] is True


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(run_server, second):
    server = run_server("--request-timeout-s", "60", "--teacher-timeout-s", "50")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(b"POST /v1/check HTTP/1.1\r\nHost: guard\r\nContent-Length: 100\r\n\r\n{")
        assert server.result("a request after it, so that it has been seen")["verdict"] == "allow"
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("drained")
        assert server.process.poll() is None, "it waits for the body to come"
        server.process.send_signal(second)
        assert server.process.wait(20) == 128 + second


def artefact_named(folder, version: str):
    """The shipped artefact under another version."""
    shutil.copytree(SHIPPED, folder, dirs_exist_ok=True)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"version": version}))
    return folder


def test_a_reload_by_signal_and_by_the_private_port(run_server, tmp_path):
    configured = artefact_named(tmp_path / "configured", "first")
    server = run_server("--artifact", str(configured), "--admin-port", "0")
    host, _, port = server.process.stdout.readline().removeprefix("private port: ").strip().rpartition(":")
    assert host == "127.0.0.1"
    assert server.check("good morning")["artifact"]["version"] == "first"

    artefact_named(configured, "second")
    server.process.send_signal(signal.SIGHUP)
    assert server.wait_for_log("reloaded")["artifact_version"] == "second"
    assert server.check("good morning")["artifact"]["version"] == "second"

    other = artefact_named(tmp_path / "other", "third")
    with httpx.Client(base_url=f"http://{host}:{port}", trust_env=False, timeout=60) as private:
        assert private.post("/admin/reload", json={"artifact": str(other)}).json()["artifact"]["version"] == "third"
        assert server.check("good morning")["artifact"]["version"] == "third"

        (configured / MODEL).write_bytes(b"not a model")
        refused = private.post("/admin/reload")
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "reload_failed")
        assert "model.onnx is corrupt" in refused.json()["error"]["message"]
        assert server.check("good morning")["artifact"]["version"] == "third"
        scraped = private.get("/metrics").text
    assert 'stillguard_reloads_total{outcome="ok"} 2.0' in scraped
    assert 'stillguard_reloads_total{outcome="failed"} 1.0' in scraped
    assert 'artifact_version="third"' in scraped
    assert server.client.get("/metrics").status_code == 404
    assert server.stop() == 0


def test_reloads_give_the_memory_of_what_they_replaced_back(run_server):
    """Twelve left 90 MB behind when the C library kept it."""
    server = run_server()

    def resident_mb() -> float:
        scraped = server.client.get("/metrics").text
        return float(re.search(r"^process_resident_memory_bytes (\S+)$", scraped, re.MULTILINE)[1]) / 1e6

    before_mb = resident_mb()
    for _ in range(12):
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("reloaded")
    # The last one's memory goes back a little after its log line.
    assert min(resident_mb() for _ in range(50)) < before_mb + 45
