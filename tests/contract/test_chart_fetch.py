"""The chart's init container: what has the right SHA-256 is there whole, anything else isn't there at all."""

import hashlib
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

FETCH = Path(__file__).resolve().parents[2] / "helm" / "stillguard" / "files" / "fetch.py"


@pytest.fixture
def served(tmp_path) -> Iterator[tuple[Path, str]]:
    """(a folder, the URL that serves it)."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def target(tmp_path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def fetch(url: str, sha256: str, target: Path) -> tuple[int, str]:
    """(exit code, what it said)."""
    command = [sys.executable, FETCH, url, sha256, target]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def archive(folder: Path, add) -> Path:
    path = folder / "artifact.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        add(tar)
    return path


def test_an_archive_is_unpacked(served, target, tmp_path):
    folder, url = served
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.onnx").write_bytes(b"weights")
    packed = archive(folder, lambda tar: tar.add(source, arcname="."))
    assert fetch(f"{url}/artifact.tar.gz?version=1", sha256(packed), target) == (0, "")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"model.onnx": b"weights"}


def test_another_file_is_stored_by_its_name(served, target):
    folder, url = served
    (folder / "model.gguf").write_bytes(b"GGUF")
    assert fetch(f"{url}/model.gguf", sha256(folder / "model.gguf"), target) == (0, "")
    assert [(path.name, path.read_bytes()) for path in target.iterdir()] == [("model.gguf", b"GGUF")]


def test_the_wrong_hash_leaves_nothing(served, target):
    folder, url = served
    (folder / "model.gguf").write_bytes(b"GGUF")
    code, words = fetch(f"{url}/model.gguf", "0" * 64, target)
    assert code == 1
    assert "expected 0000" in words
    assert list(target.iterdir()) == []


def test_what_is_not_there_is_one_line(served, target):
    _, url = served
    code, words = fetch(f"{url}/absent.tar", "0" * 64, target)
    assert (code, words) == (1, "absent.tar: HTTP Error 404: File not found\n")
    assert list(target.iterdir()) == []


def test_an_archive_can_t_write_outside(served, target):
    folder, url = served
    escape = tarfile.TarInfo("../outside")
    packed = archive(folder, lambda tar: tar.addfile(escape))
    code, words = fetch(f"{url}/artifact.tar.gz", sha256(packed), target)
    assert code == 1
    assert "outside" in words
    assert list(target.iterdir()) == []
    assert not (target.parent / "outside").exists()
