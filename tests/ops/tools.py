"""The real tools that some tests run, on the path or where ``.ci/ops/install`` puts them; a test says which it lacks."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".cache" / "ops"
CHART = ROOT / "helm" / "stillguard"
SCENARIOS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))


def need(command: str) -> str:
    """The command's path. Without it the test is skipped, or fails where ``REQUIRE_OPS`` is set."""
    path = f"{INSTALLED / 'bin'}{os.pathsep}{INSTALLED / 'crds/node_modules/.bin'}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which(command, path=path)
    if found:
        return found
    message = f"needs {command}: .ci/ops/install"
    if os.environ.get("REQUIRE_OPS"):
        pytest.fail(message)
    pytest.skip(message)


def run(*words: str | Path, timeout_s: float = 300, **options) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever that is; standard output and error as text."""
    command = [str(word) for word in words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, **options)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed, for an assertion's message."""
    return f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
