"""The folder of a feedback log: what the log needs of a file system, and the real one."""

import contextlib
import fcntl
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from server.core.errors import ConfigurationError
from server.core.feedback import OPEN, PREFIX, SEALED
from server.core.text_keys import read_hash_key

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file of the log. ``stem`` is its name without its ending."""

    stem: str
    size_bytes: int
    is_sealed: bool


class LogFile(Protocol):
    """A file that is being written. Every method may raise OSError."""

    def append(self, data: bytes) -> None:
        """Write all of it. After an error a part may be there."""
        ...

    def sync(self) -> None:
        """Return once the disk has it."""
        ...

    def seal(self) -> None:
        """Sync, close, and give it the name of a file that is whole."""
        ...

    def abandon(self) -> None:
        """Close it as it is, an empty one without a trace; never raises."""
        ...


class Disk(Protocol):
    """A folder of log files. Every method may raise OSError, at any time and again and again."""

    def prepare(self) -> bytes:
        """Have the folder and the hash key there, for us alone.

        Returns:
            the hash key.

        Raises:
            ConfigurationError: they can't be used, and waiting won't help.
        """
        ...

    def create(self, stem: str) -> LogFile: ...

    def seal_left_behind(self) -> None:
        """Give the files of servers that have died the name of whole ones."""
        ...

    def files(self) -> list[FileInfo]: ...

    def remove(self, info: FileInfo) -> None:
        """It may be gone already."""
        ...


class FolderDisk:
    """A real folder. A server holds a lock on the file that it writes, which ends with the process however that ends: an
    open file without one was left behind."""

    def __init__(self, folder: Path, *, hash_key_file: Path | None) -> None:
        """``hash_key_file`` None: ``hash.key`` in the folder."""
        self._folder = folder
        self._hash_key_file = hash_key_file or folder / "hash.key"

    def prepare(self) -> bytes:
        try:
            self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            if self._folder.stat().st_mode & stat.S_IRWXO:  # a group may be the volume's own, as Kubernetes' fsGroup is
                raise ConfigurationError(f"feedback folder {self._folder}: open to other users; chmod 700")
            key = _read_or_make_key(self._hash_key_file)
        except (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise ConfigurationError(f"feedback log: {error.filename}: {error.strerror}") from None
        return key

    def create(self, stem: str) -> LogFile:
        path = self._folder / f"{stem}{OPEN}"
        file = FolderFile(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, _FILE_MODE))
        try:
            file.lock()
            _sync_folder(self._folder)
        except OSError:
            file.abandon()
            raise
        return file

    def seal_left_behind(self) -> None:
        for info in self.files():
            if not info.is_sealed:
                path = self._folder / f"{info.stem}{OPEN}"
                with contextlib.suppress(FileNotFoundError, BlockingIOError):  # its server lives, or was quicker
                    file = FolderFile(path, os.open(path, os.O_WRONLY))
                    try:
                        file.lock()
                        file.seal()
                    finally:
                        file.abandon()

    def files(self) -> list[FileInfo]:
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                ending = next((ending for ending in (SEALED, OPEN) if entry.name.endswith(ending)), None)
                if ending and entry.name.startswith(PREFIX):
                    with contextlib.suppress(FileNotFoundError):  # another server's retention
                        found.append(FileInfo(entry.name.removesuffix(ending), entry.stat().st_size, ending == SEALED))
        return found

    def remove(self, info: FileInfo) -> None:
        (self._folder / f"{info.stem}{SEALED if info.is_sealed else OPEN}").unlink(missing_ok=True)


class FolderFile:
    """Implements :class:`LogFile`; owns ``descriptor``."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        self._is_locked = False

    def lock(self) -> None:
        """Raises BlockingIOError if another process holds it."""
        fcntl.flock(self._open, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._is_locked = True

    def append(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._open, left) :]

    def sync(self) -> None:
        os.fsync(self._open)

    def seal(self) -> None:
        self.sync()
        self._path.rename(self._path.with_name(self._path.name.removesuffix(OPEN) + SEALED))
        _sync_folder(self._path.parent)
        self.abandon()

    def abandon(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):
                # A full disk takes a name and nothing more, at every try; without the lock it is another server's file.
                if self._is_locked and os.fstat(descriptor).st_size == 0:
                    self._path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.close(descriptor)

    @property
    def _open(self) -> int:
        assert self._descriptor is not None, "the file is closed"
        return self._descriptor


def _sync_folder(folder: Path) -> None:
    """A file's name is in its folder: that has to reach the disk as well."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_or_make_key(path: Path) -> bytes:
    """Of several servers that start together the first to finish makes it; no half-written key is ever under its name."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    return read_hash_key(path)
