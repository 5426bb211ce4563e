"""Servers as child processes: started, asked what they use, and ended with all that they started."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from loadtest.bench.dialects import NATIVE, Dialect, WrongAnswer
from loadtest.bench.load import Target
from loadtest.command import Unusable

SHIPPED = Path(__file__).resolve().parents[2] / "server" / "artifacts" / "default"
"""The student that a checkout comes with."""
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 20.0
_RETRY_S = 0.1
_LOG_TAIL_CHARS = 2_000


class NotStarted(Unusable):
    """A server that didn't come up; holds the end of its log."""


class Child:
    """A running command and everything that it started."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process = process
        self.log = log

    def pids(self) -> tuple[int, ...]:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return (root.pid, *(child.pid for child in root.children(recursive=True)))
        return ()

    def cpu_s(self) -> float:
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in self.pids())

    def rss_bytes(self) -> int:
        """Summed over the processes; memory that they share counts for each."""
        return sum(psutil.Process(pid).memory_info().rss for pid in self.pids())

    def log_tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_CHARS:]

    def stop(self) -> None:
        """SIGTERM, and after :data:`STOP_TIMEOUT_S` SIGKILL for whatever is left."""
        everybody = [psutil.Process(pid) for pid in self.pids()]
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT_S)
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


@contextlib.contextmanager
def stillguard(
    artifact: Path, log: Path, flags: Sequence[str] = (), *, teacher: str = "none"
) -> Iterator[tuple[Child, Target, float]]:
    """Our server with the default knobs, and the seconds from exec to its ready line.

    Raises:
        NotStarted: it ended, or said nothing for :data:`START_TIMEOUT_S`.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STILLGUARD_")}
    command = [sys.executable, "-m", "server", "--port", "0", "--teacher", teacher, "--artifact", str(artifact), *flags]
    with log.open("wb") as stream:
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stream, text=True)
    assert process.stdout is not None, "asked for as a pipe"
    child = Child(process, log)
    give_up = threading.Timer(START_TIMEOUT_S, process.kill)
    give_up.start()
    try:
        ready_line = process.stdout.readline()
        ready_s = time.monotonic() - started
        give_up.cancel()
        found = re.search(r"localhost:(\d+)", ready_line)
        if not found:
            raise NotStarted(f"python -m server gave no ready line; its log ends: {child.log_tail()}")
        yield child, Target("127.0.0.1", int(found[1]), NATIVE, child.pids()), ready_s
    finally:
        give_up.cancel()
        child.stop()
        process.stdout.close()


def target_at(url: str) -> Target:
    """A server of ours that somebody else started. Raises Unusable: that is no URL of one."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:  # a port that is none, say
        raise Unusable(f"{url} is no http:// URL") from None
    if parts.scheme != "http" or not parts.hostname:
        raise Unusable(f"{url} is no http:// URL")
    return Target(parts.hostname, port, NATIVE)


@contextlib.contextmanager
def peer_process(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], port: int, dialect: Dialect, log: Path
) -> Iterator[tuple[Child, Target]]:
    """A peer's server, once it has answered its first request rightly.

    Raises:
        NotStarted: it ended, or didn't answer for :data:`START_TIMEOUT_S`.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=cwd, env=os.environ | environment, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    child = Child(process, log)
    try:
        _wait_for_answer(child, f"http://127.0.0.1:{port}{dialect.path}", dialect)
        yield child, Target("127.0.0.1", port, dialect, child.pids())
    finally:
        child.stop()


def _wait_for_answer(child: Child, url: str, dialect: Dialect) -> None:
    """A stranger's server says in no common way that it is ready: it is asked until it answers."""
    give_up_at = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(trust_env=False, timeout=10) as client:
        while time.monotonic() < give_up_at and child.process.poll() is None:
            with contextlib.suppress(httpx.TransportError, WrongAnswer):
                reply = client.post(url, content=dialect.body(["good morning"]), headers={"content-type": "application/json"})
                if reply.status_code == httpx.codes.OK:
                    dialect.check(reply.content, 1)
                    return
            time.sleep(_RETRY_S)
    raise NotStarted(f"{url} never answered; the log ends: {child.log_tail()}")
