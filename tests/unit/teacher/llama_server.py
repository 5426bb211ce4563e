"""The embedded teacher's child, run by a test that asks it things the product doesn't."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from server.teacher.embedded import CHILD


@contextmanager
def llama_server(model: Path, *, lora: Path | None = None) -> Iterator[httpx.Client]:
    """A client of a running child; the child has ended on exit."""
    command = [sys.executable, "-P", CHILD, "--model", model, *(["--lora", lora] if lora else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        child.stdin.write("key\n")
        child.stdin.flush()
        address = child.stdout.readline().strip()
        with httpx.Client(base_url=address, headers={"Authorization": "Bearer key"}, trust_env=False, timeout=30) as client:
            yield client
        child.stdin.close()
        assert child.wait(timeout=10) == 0
