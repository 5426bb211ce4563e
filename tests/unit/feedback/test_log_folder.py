"""The real folder: whose it is, what is left behind in it, and what a full disk does."""

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.core.feedback import OPEN, SEALED
from server.feedback.disk import FileInfo, FolderDisk

STEM = "feedback-20261122T140000.000000Z-1"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "deep" / "log"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folder_key_and_files_are_for_us_alone_whatever_the_umask(folder):
    before = os.umask(0)
    try:
        disk = FolderDisk(folder, hash_key_file=None)
        key = disk.prepare()
        disk.create(STEM).seal()
    finally:
        os.umask(before)
    assert {path.name: oct(mode(path)) for path in (folder, *folder.iterdir())} == {
        "log": "0o700",
        "hash.key": "0o600",
        STEM + SEALED: "0o600",
    }
    assert len(key) == 64
    assert FolderDisk(folder, hash_key_file=None).prepare() == key


def test_a_key_of_one_s_own_is_used_and_none_is_made_beside_it(folder, tmp_path):
    mine = tmp_path / "mine.key"
    mine.write_bytes(b"q" * 40)
    assert FolderDisk(folder, hash_key_file=mine).prepare() == b"q" * 40
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("fault", ["open to others", "a file", "short key"])
def test_what_waiting_does_not_mend_stops_the_start(folder, fault):
    folder.parent.mkdir()
    if fault == "a file":
        folder.touch()
    else:
        folder.mkdir(mode=0o700)
        folder.chmod(0o701 if fault == "open to others" else 0o700)
        (folder / "hash.key").write_bytes(b"short" if fault == "short key" else b"k" * 32)
    with pytest.raises(ConfigurationError, match=r"chmod 700|File exists|at least 32"):
        FolderDisk(folder, hash_key_file=None).prepare()


def test_files_are_listed_by_stem_and_nothing_else_is(folder):
    disk = FolderDisk(folder, hash_key_file=None)
    disk.prepare()
    file = disk.create(STEM)
    file.append(b"12345\n")
    (folder / f"feedback-a{SEALED}").write_bytes(b"123")
    (folder / "notes.jsonl").write_bytes(b"not of the log")
    found = sorted(disk.files(), key=lambda info: info.stem)
    assert found == [FileInfo(STEM, 6, False), FileInfo("feedback-a", 3, True)]
    disk.remove(found[1])
    disk.remove(found[1])
    assert disk.files() == [FileInfo(STEM, 6, False)]
    with pytest.raises(FileExistsError):
        disk.create(STEM)
    file.abandon()


def test_a_file_is_sealed_for_its_server_only_once_that_is_dead(folder):
    disk = FolderDisk(folder, hash_key_file=None)
    disk.prepare()
    alive = disk.create(STEM)
    alive.append(b"whole\nto")
    dying = "import sys; from pathlib import Path; from server.feedback.disk import FolderDisk; import os, signal\n"
    dying += f"file = FolderDisk(Path(sys.argv[1]), hash_key_file=None).create({STEM.replace('-1', '-2')!r})\n"
    dying += "file.append(b'left behind'); os.kill(os.getpid(), signal.SIGKILL)"
    died = subprocess.run([sys.executable, "-c", dying, folder], cwd=ROOT, check=False)
    assert died.returncode == -9
    disk.seal_left_behind()
    assert {info.stem[-1]: info.is_sealed for info in disk.files()} == {"1": False, "2": True}
    assert (folder / f"{STEM[:-1]}2{SEALED}").read_bytes() == b"left behind"
    alive.append(b"rn\n")
    alive.abandon()
    disk.seal_left_behind()
    assert (folder / f"{STEM}{SEALED}").read_bytes() == b"whole\ntorn\n"
    assert not (folder / f"{STEM}{OPEN}").exists()


def test_a_file_that_another_server_has_just_begun_is_left_alone(folder):
    disk = FolderDisk(folder, hash_key_file=None)
    disk.prepare()
    begun = disk.create(STEM)
    FolderDisk(folder, hash_key_file=None).seal_left_behind()
    begun.append(b"its first line\n")
    begun.seal()
    assert (folder / f"{STEM}{SEALED}").read_bytes() == b"its first line\n"


def test_an_empty_file_that_is_given_up_leaves_no_trace(folder):
    disk = FolderDisk(folder, hash_key_file=None)
    disk.prepare()
    disk.create(STEM).abandon()
    assert disk.files() == []


def test_a_disk_that_takes_no_more_is_an_error_and_a_part_is_there(folder):
    disk = FolderDisk(folder, hash_key_file=None)
    disk.prepare()
    file = disk.create(STEM)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        file.append(b"x" * 900)
        with pytest.raises(OSError, match="File too large"):
            file.append(b"y" * 900)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        file.abandon()
    assert (folder / f"{STEM}{OPEN}").read_bytes() == b"x" * 900 + b"y" * 100
