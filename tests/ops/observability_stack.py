"""The real server, a teacher that answers at once, and the real Prometheus and Alertmanager around them."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from server.core.policy import DEFAULT_POLICY_FILE
from server.drift import MIN_TEXTS
from tests.ops.tools import ROOT, need

DASHBOARD = ROOT / "helm" / "stillguard" / "dashboards" / "stillguard.json"
RULES_FILE = ROOT / "helm" / "stillguard" / "files" / "alerts.yaml"
SHADOW = ("--shadow-artifact", ROOT / "server" / "artifacts" / "default", "--shadow-artifact-share", "1")
"""Flags of a server that compares the shipped student with itself."""

PATIENCE_S = 120
"""A busy machine fails no test."""


@dataclass
class Guard:
    """A server process. ``url`` is the public port and ``private_url`` the one with the metrics."""

    process: subprocess.Popen
    url: str
    private_url: str


def until(probe: Callable[[], Any], *, wanted: str) -> Any:
    """What ``probe`` returns, as soon as that is true; an error of HTTP counts as false."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        try:
            if found := probe():
                return found
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not within {PATIENCE_S} s: {wanted}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def running(command: Sequence[str | Path], log: Path, **options: Any) -> Iterator[subprocess.Popen]:
    """A process that is ended with the block; what it prints goes to ``log``."""
    with log.open("wb") as output:
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=subprocess.STDOUT, **options)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def guard(folder: Path, *flags: str | Path) -> Iterator[Guard]:
    """The shipped server on free ports; its log is ``server.log`` in ``folder``."""
    log = folder / "server.log"
    command = [sys.executable, "-m", "server", "--port", "0", "--admin-port", "0", *flags]
    with running(command, log, cwd=ROOT) as process:

        def addresses() -> tuple[str, str] | None:
            assert process.poll() is None, log.read_text()
            public = re.search(r"^ready: curl -s ([^/]+)/", log.read_text(), re.MULTILINE)
            private = re.search(r"^private[^:]*: (\S+)$", log.read_text(), re.MULTILINE)
            return (f"http://{public[1]}", f"http://{private[1]}") if public and private else None

        url, private_url = until(addresses, wanted="a server that is ready")
        yield Guard(process, url, private_url)


@contextmanager
def http_stub(answer: Callable[[Any], Any]) -> Iterator[str]:
    """The URL of a server that answers each POST of JSON with what ``answer`` makes of it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            reply = json.dumps(answer(body)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def judge(question: dict[str, Any]) -> dict[str, Any]:
    """A teacher in vLLM's words: Yes to every prompt about bread, No to the others."""
    prompts = question["prompt"]
    answers = [{"Yes": -0.1, "No": -2.4} if "bread" in prompt else {"Yes": -2.4, "No": -0.1} for prompt in prompts]
    choices = [{"index": i, "text": "", "logprobs": {"top_logprobs": [answer]}} for i, answer in enumerate(answers)]
    return {"choices": choices}


def curious_policies(folder: Path) -> Path:
    """The shipped policy, unsure of nearly everything; and under ``shadow`` the same, asking in the shadow."""
    shipped = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
    unsure = re.sub(r"^unsure = .*$", "unsure = [0.001, 0.999]", shipped, flags=re.MULTILINE)
    head, _, _ = unsure.partition("[default.categories")
    shadowed = unsure.replace("[default", "[shadow")
    shadow_head = head.replace("[default", "[shadow")
    shadow_head = re.sub(r"^mode = .*\n", "", shadow_head, flags=re.MULTILINE) + 'mode = "shadow"\nshadow_share = 1.0\n'
    path = folder / "policies.toml"
    path.write_text(unsure + "\n" + shadow_head + "\n" + shadowed[len(head.replace("[default", "[shadow")) :], encoding="utf-8")
    return path


TEXTS = ("you are an idiot", "the weather is fine today", "how do I bake bread?", "a longer text about nothing at all. " * 40)


def send_some(url: str, client: httpx.Client, turn: int) -> None:
    """A few requests: both routes, an array, both policies, and one that is invalid."""
    text = f"{TEXTS[turn % len(TEXTS)]} {turn}"
    client.post(f"{url}/v1/check", json={"texts": [{"text": text}]})
    client.post(f"{url}/v1/check", json={"texts": [{"text": text, "role": "assistant"}], "policy": "shadow"})
    client.post(f"{url}/v1/moderations", json={"input": [text, "another text"]})
    client.post(f"{url}/v1/check", json={"texts": []})


def send_many(url: str, client: httpx.Client) -> None:
    """As many texts as drift needs to be shown. In the shadow, where a teacher that is busy is not waited for."""
    for turn in range(0, MIN_TEXTS, 40):
        texts = [{"text": f"{TEXTS[number % 3]} {number}"} for number in range(turn, turn + 40)]
        client.post(f"{url}/v1/check", json={"texts": texts, "policy": "shadow"}).raise_for_status()


class Prometheus:
    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=PATIENCE_S)

    def get(self, path: str, **parameters: str) -> Any:
        reply = self._client.get(path, params=parameters)
        assert reply.status_code != httpx.codes.BAD_REQUEST, reply.text
        return reply.raise_for_status().json()["data"]

    def values(self, expr: str) -> list[float]:
        """An instant query's samples."""
        return [float(sample["value"][1]) for sample in self.get("/query", query=expr)["result"]]

    def close(self) -> None:
        self._client.close()


@contextmanager
def prometheus(folder: Path, targets: Sequence[str], *, rules: str, alertmanager: str | None = None) -> Iterator[Prometheus]:
    """Prometheus on loopback that scrapes and evaluates each second.

    Args:
        targets: host and port of each.
        rules: the text of a rule file.
        alertmanager: host and port of where alerts go.
    """
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "stillguard", "static_configs": [{"targets": list(targets)}]}],
    }
    if alertmanager is not None:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port = free_port()
    command = [need("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with ExitStack() as stack:
        stack.enter_context(running([*command, f"--web.listen-address=127.0.0.1:{port}"], folder / "prometheus.log"))
        api = Prometheus(f"http://127.0.0.1:{port}")
        stack.callback(api.close)
        until(lambda: api.values("stillguard_ready") == [1.0] * len(targets), wanted="a first scrape")
        yield api


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """Host and port of an Alertmanager that passes everything on to ``webhook`` at once."""
    config = {
        "route": {"receiver": "hook", "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"},
        "receivers": [{"name": "hook", "webhook_configs": [{"url": webhook}]}],
    }
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [need("prometheus-alertmanager"), f"--config.file={folder / 'alertmanager.yml'}"]
    command += [f"--storage.path={folder / 'am'}", f"--web.listen-address={address}", "--cluster.listen-address="]
    with running(command, folder / "alertmanager.log"), httpx.Client(trust_env=False) as client:
        until(lambda: client.get(f"http://{address}/-/ready").is_success, wanted="an Alertmanager that is ready")
        yield address
