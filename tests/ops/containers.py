"""Images built by buildah and run by podman: a real container, without an engine and without a registry."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ops.tools import ROOT, need, run, said

BASE = "docker.io/library/python:3.11-slim"
"""The stand-in of ``.ci/ops/base-image``: it has no digest that the Dockerfile could know."""

CONFINED = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=512m", "--cpus=2"]
"""As a restricted pod runs."""

UP = "private port:"
"""What the server prints when both its ports are open."""


def podman(*words: str | Path, timeout_s: float = 300) -> str:
    """A podman command that must succeed; its standard output."""
    done = run(need("podman"), *words, env=_environment(), timeout_s=timeout_s)
    assert done.returncode == 0, said(done)
    return done.stdout


def build(target: str, scratch: Path) -> str:
    """The Dockerfile's target, built; the image's name."""
    podman("image", "exists", BASE)
    name = f"localhost/stillguard:test-{target}"
    done = run(
        need("buildah"), "bud", "--isolation=chroot", "--pull-never", "--format=docker", "--layers", f"--target={target}",
        f"--build-arg=BASE={BASE}", f"--tag={name}", *_certificates(scratch), ROOT, env=_environment(), timeout_s=1800,
    )  # fmt: skip
    assert done.returncode == 0, said(done)[-4000:]
    return name


class Container:
    """A running container and what it prints."""

    def __init__(self, name: str, follower: subprocess.Popen[str]) -> None:
        self.name = name
        self._follower = follower

    def wait_for(self, *words: str, timeout_s: float = 300) -> None:
        """Return when each of ``words`` has been in a printed line; fail if the output ends, or the time, without."""
        lines, missing = [], set(words)
        watchdog = threading.Timer(timeout_s, self._follower.kill)
        watchdog.start()
        try:
            for line in self._follower.stdout:
                lines.append(line)
                missing -= {wanted for wanted in missing if wanted in line}
                if not missing:
                    return
        finally:
            watchdog.cancel()
        raise AssertionError(f"{self.name} never said {missing} but:\n{''.join(lines[-20:])}")

    def python(self, program: str) -> str:
        """What a Python program prints inside."""
        return podman("exec", self.name, "python", "-c", program).strip()

    def status(self, *names: str) -> dict[str, str]:
        """Fields of process 1's ``/proc/1/status``, of the process's real identity."""
        lines = self.python("print(open('/proc/1/status').read())").splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return {name: fields[name].split()[0] for name in names}

    def inspect(self) -> dict[str, Any]:
        (found,) = json.loads(podman("inspect", self.name))
        return found

    def stop(self, *, timeout_s: int = 30) -> int:
        """SIGTERM, and SIGKILL after ``timeout_s``; the exit code, 137 for a killed one."""
        podman("stop", f"--time={timeout_s}", self.name)
        return self.inspect()["State"]["ExitCode"]


@contextmanager
def running(image: str, *options: str, name: str = "stillguard-test") -> Iterator[Container]:
    """A container on the host's network, removed at the end."""
    command = [need("podman"), "run", "--replace", f"--name={name}", "--network=host", *options, image]
    process = subprocess.Popen(
        command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    try:
        yield Container(name, process)
    finally:
        podman("rm", "--force", "--time=0", name)
        process.communicate(timeout=60)


@contextmanager
def secret(name: str, **items: str) -> Iterator[None]:
    """A Secret for the pods of :func:`played`. From a manifest, podman 4 would mount its items as base64."""
    content = json.dumps({"data": {key.replace("_", "-"): value for key, value in items.items()}})
    done = run(need("podman"), "secret", "create", name, "-", input=content, env=_environment())
    assert done.returncode == 0, said(done)
    try:
        yield
    finally:
        podman("secret", "rm", name)


@contextmanager
def played(manifests: Path, *, volumes: Sequence[str]) -> Iterator[None]:
    """The manifests' pods as ``podman kube play`` starts them, with their ports on this host; removed at the end.

    Args:
        volumes: names of the ConfigMaps and Secrets that are mounted: podman would keep their content for the next play.
    """
    try:
        podman("kube", "play", "--replace", manifests)
        yield
    finally:
        run(need("podman"), "kube", "down", manifests, env=_environment())
        run(need("podman"), "volume", "rm", "--force", *volumes, env=_environment())


@contextmanager
def following(name: str) -> Iterator[Container]:
    """A container that runs already, and its output from the beginning."""
    process = subprocess.Popen(
        [need("podman"), "logs", "--follow", name],
        env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
    )  # fmt: skip
    try:
        yield Container(name, process)
    finally:
        process.kill()
        process.communicate(timeout=60)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def _environment() -> dict[str, str]:
    return os.environ | {"CONTAINERS_CONF": str(Path(__file__).with_name("containers.conf"))}


def _certificates(scratch: Path) -> list[str]:
    """What pip needs inside a build on a machine whose registries have certificates of their own."""
    certificate = os.environ.get("PIP_CERT")
    if certificate is None:
        return []
    configuration = scratch / "pip.conf"
    configuration.write_text(f"[global]\ncert={certificate}\n", encoding="utf-8")
    return [f"--volume={certificate}:{certificate}:ro", f"--volume={configuration}:/etc/pip.conf:ro"]
