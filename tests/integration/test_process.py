"""The real process and the real socket: start-up faults, signals, and the clients that people use."""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack

import httpx
import openai
import pytest
import uvicorn

from server.__main__ import GuardServer, uvicorn_config
from server.core.artifact import MANIFEST
from server.settings import Settings


class ThreadedServer(GuardServer):
    """The real server on a thread, with the fakes behind it."""

    def __init__(self, config: uvicorn.Config, service) -> None:
        super().__init__(config, service)
        self.is_up = threading.Event()

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @property
    def url(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()
        return f"http://{host}:{port}"


@pytest.fixture
def server(fake_app):
    gate, entered = threading.Event(), threading.Event()
    gate.set()
    app = fake_app(gate=gate, entered=entered)
    server = ThreadedServer(uvicorn_config(Settings(port=0), app), app.state.service)
    server.gate, server.entered = gate, entered
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    assert server.is_up.wait(60)
    yield server
    gate.set()
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


def test_the_official_openai_client_is_served_unchanged(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        reply = client.moderations.create(input=["fine", "harassment and violence"], model="omni-moderation-latest")
        assert reply.model == "stillguard-test-1"
        assert [result.flagged for result in reply.results] == [False, True]
        guilty = reply.results[1]
        assert guilty.categories.harassment_threatening is True
        assert guilty.categories.self_harm is False
        assert guilty.category_scores.violence == pytest.approx(0.97)
        assert guilty.category_scores.self_harm_intent == 0
        assert guilty.category_applied_input_types.violence == ["text"]
        assert guilty.stillguard["verdict"] == "block"
        with pytest.raises(openai.BadRequestError) as caught:
            client.moderations.create(input="")
        assert (caught.value.code, caught.value.param, caught.value.type) == (
            "invalid_request",
            "input",
            "invalid_request_error",
        )


def test_a_client_that_hangs_up_frees_its_place(server):
    server.gate.clear()
    address = server.servers[0].sockets[0].getsockname()
    with socket.create_connection(address) as client:
        body = b'{"texts": [{"text": "hate"}]}'
        client.sendall(b"POST /v1/check HTTP/1.1\r\nHost: guard\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert server.entered.wait(60)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        assert client.get("/livez").status_code == 200
        while 'stillguard_requests_total{outcome="cancelled",route="native"} 1.0' not in client.get("/metrics").text:
            pass  # it may only have closed its own side, and have a moment left
        server.gate.set()
        assert client.post("/v1/check", json={"texts": [{"text": "hate"}]}).status_code == 200


def test_a_stopping_server_answers_what_it_admitted(server):
    server.gate.clear()
    replies = []

    def ask() -> None:
        replies.append(httpx.post(f"{server.url}/v1/check", json={"texts": [{"text": "hate"}]}, timeout=60, trust_env=False))

    asking = threading.Thread(target=ask)
    asking.start()
    assert server.entered.wait(60)
    server.should_exit = True
    server.gate.set()
    asking.join(60)
    (reply,) = replies
    assert reply.json()["results"][0]["verdict"] == "block"


def test_a_stopping_server_answers_those_who_wait_to_be_let_in(server, monkeypatch):
    stalled, go_on, on_tick = threading.Event(), threading.Event(), server.on_tick

    async def stall(counter: int) -> bool:
        stalled.set()
        assert go_on.wait(60)
        return await on_tick(counter)

    monkeypatch.setattr(server, "on_tick", stall)
    assert stalled.wait(60)
    address, replies = server.servers[0].sockets[0].getsockname(), []
    with ExitStack() as clients:
        waiting = [clients.enter_context(socket.create_connection(address, timeout=60)) for _ in range(200)]
        for client in waiting:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: guard\r\nConnection: close\r\n\r\n")
        server.should_exit = True
        go_on.set()
        replies = [client.recv(1000)[:12] for client in waiting]
    assert replies == [b"HTTP/1.1 200"] * 200


def test_a_stopping_server_refuses_clearly_and_says_goodbye(server):
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        assert "connection" not in client.get("/readyz").headers
        server.gate.clear()
        replies = []
        asking = threading.Thread(
            target=lambda: replies.append(
                httpx.post(f"{server.url}/v1/check", json={"texts": [{"text": "hate"}]}, timeout=60, trust_env=False)
            )
        )
        asking.start()
        assert server.entered.wait(60)
        server.should_exit = True
        while (unready := client.get("/readyz")).status_code == 200:
            pass
        assert unready.json()["missing"] == ["the server is draining"]
        refused = client.post("/v1/check", json={"texts": [{"text": "hate"}]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert refused.headers["connection"] == "close"
        server.gate.set()
        asking.join(60)
    (admitted,) = replies
    assert (admitted.status_code, admitted.headers["connection"]) == (200, "close")


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--artifact", "/nowhere"], {}, "artifact /nowhere: manifest.json: No such file or directory"),
        (["--policies", "/nowhere.toml"], {}, "policy file /nowhere.toml: No such file or directory"),
        (["--policy", "strict"], {}, "no policy 'strict', only default"),
        (["--port", "http"], {}, "--port (STILLGUARD_PORT): Input should be a valid integer"),
        (["--host", "no-such-host.invalid"], {}, "--host (STILLGUARD_HOST): no address is known of no-such-host.invalid"),
        (
            ["--host", "192.0.2.1"],
            {},
            "--host (STILLGUARD_HOST): can't listen on 192.0.2.1, port 0: Cannot assign requested",
        ),
        (["--prot", "80"], {}, "unrecognized arguments: --prot 80"),
        ([], {"STILLGUARD_QUEUE_MAX_ITEM": "5"}, "did you mean STILLGUARD_QUEUE_MAX_ITEMS?"),
        ([], {"STILLGUARD_TEACHER": "localhost:1"}, '--teacher (STILLGUARD_TEACHER): must be "embedded", "none", or a URL'),
    ],
)
def test_a_configuration_fault_is_one_line_and_exit_code_2(arguments, variables, said):
    assert said in fault(arguments, variables)


@pytest.mark.parametrize("name", ["port", "admin-port"])
def test_a_port_that_is_taken_is_told_before_anything_is_loaded(name):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = fault(["--port", "0", f"--{name}", str(port), "--artifact", "/nowhere"], {})
    variable = f"STILLGUARD_{name.upper().replace('-', '_')}"
    assert line == f"stillguard: --{name} ({variable}): can't listen on 127.0.0.1, port {port}: Address already in use"


def test_the_ports_may_not_be_the_same():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    line = fault(["--port", port, "--admin-port", port, "--artifact", "/nowhere"], {})
    assert "--admin-port (STILLGUARD_ADMIN_PORT): can't listen on 127.0.0.1" in line


def fault(arguments, variables) -> str:
    """What a server says that can't start for its configuration."""
    command = [sys.executable, "-m", "server", *arguments]
    environment = os.environ | {"STILLGUARD_PORT": "0"} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("stillguard: ")
    return line


def test_a_model_that_can_not_be_run_is_one_line_and_exit_code_2_too(tmp_path):
    """Seen in warm-up, when the server is starting: windows of more tokens than the model has places for."""
    for file in Settings().artifact.iterdir():
        (tmp_path / file.name).symlink_to(file)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).unlink()
    (tmp_path / MANIFEST).write_text(json.dumps(manifest | {"max_tokens": 10_000}))
    command = [sys.executable, "-m", "server", "--port", "0", "--artifact", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    *log, line = done.stderr.splitlines()
    assert line.startswith("stillguard: artifact: the model can't be run: ")
    records = [json.loads(line) for line in log if line.startswith("{")]  # ONNX Runtime adds a line of its own
    reasons = [record["reason"] for record in records if record["event"] == "the server can't start"]
    assert reasons == [line.removeprefix("stillguard: ")]
