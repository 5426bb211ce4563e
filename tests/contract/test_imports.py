"""What importing brings in and what it does: the server stays light, and importing a module does nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

IMPORT_APP = "import json, sys, server.app; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"

IMPORT_EVERYTHING = """
import importlib, pkgutil, socket, subprocess, sys, threading

def forbidden(what):
    def refuse(*args, **kwargs):
        raise AssertionError(f"importing {module} {what}")
    return refuse

import asyncio, logging, onnxruntime, uvicorn, httpx, fastapi, pydantic_settings, tokenizers, prometheus_client
import server
socket.socket.connect = socket.socket.bind = forbidden("opens a connection")
subprocess.Popen.__init__ = forbidden("starts a process")
threading.Thread.start = forbidden("starts a thread")
handlers = list(logging.getLogger().handlers)
series = set(prometheus_client.REGISTRY._names_to_collectors)
for info in pkgutil.walk_packages(server.__path__, "server."):
    module = info.name
    if not module.endswith("__main__"):
        importlib.import_module(module)
assert logging.getLogger().handlers == handlers, "importing configures logging"
assert set(prometheus_client.REGISTRY._names_to_collectors) == series, "importing registers metrics"
print("imported", flush=True)
"""


def run(code: str, folder: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_server_brings_in_neither_torch_nor_transformers(tmp_path):
    modules = set(json.loads(run(IMPORT_APP, tmp_path)))
    assert "server" in modules
    assert modules & {"torch", "transformers", "optimum", "onnx", "peft", "sklearn", "pandas", "distill", "export"} == set()


def test_importing_the_server_does_nothing(tmp_path):
    """No connection, process, thread, log handler, metric or file, from any of its modules."""
    assert run(IMPORT_EVERYTHING, tmp_path) == "imported\n"
    assert list(tmp_path.iterdir()) == []
