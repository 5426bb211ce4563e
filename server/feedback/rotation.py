"""A log of many files: a new one in time, an old one gone in time, and all together within a bound."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from server.core.feedback import PREFIX
from server.feedback.disk import Disk, FileInfo, LogFile

_STEM = re.compile(re.escape(PREFIX) + r"(\d{8}T\d{6}\.\d{6})Z-\d+")
_BEGUN = "%Y%m%dT%H%M%S.%f"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """One file: ``file_max_bytes``, unless a single record is larger, and ``file_max_age_s``. All files: ``max_bytes``, at
    least twice that of one, and ``max_age_s``, at least that of one."""

    file_max_bytes: int
    file_max_age_s: float
    max_bytes: int
    max_age_s: float


class RotatingLog:
    """Appends lines. Used by one thread. After an OSError, :meth:`abandon` it and go on: the next line begins a new file.

    Args:
        clock: seconds since the epoch; files are named and dated by it.
    """

    def __init__(self, disk: Disk, limits: FileLimits, *, clock: Callable[[], float] = time.time) -> None:
        self._disk = disk
        self._limits = limits
        self._clock = clock
        self._file: LogFile | None = None
        self._size_bytes = 0
        self._begun = 0.0
        self._others_bytes = 0
        self._oldest: float | None = None

    @property
    def total_bytes(self) -> int:
        """As far as is known: other servers in the same folder write too."""
        return self._others_bytes + self._size_bytes

    @property
    def due_in_s(self) -> float | None:
        """When :meth:`tend` has something to do, 0 or less for now; None: not before the next line."""
        dues = [] if self._file is None else [self._begun + self._limits.file_max_age_s]
        if self._oldest is not None:
            dues.append(self._oldest + self._limits.max_age_s)
        return min(dues) - self._clock() if dues else None

    def append(self, line: bytes) -> None:
        if self._file is not None and self._size_bytes + len(line) > self._limits.file_max_bytes:
            self.seal()
        if self._file is None:
            self._retain(room_bytes=max(self._limits.file_max_bytes, len(line)))
            self._begun = self._clock()
            self._file = self._disk.create(f"{PREFIX}{datetime.fromtimestamp(self._begun, UTC):{_BEGUN}}Z-{os.getpid()}")
        self._file.append(line)
        self._size_bytes += len(line)

    def sync(self) -> None:
        if self._file is not None:
            self._file.sync()

    def seal(self) -> None:
        """End the file, if there is one."""
        if self._file is not None:
            self._file.seal()
            self._forget_file()

    def tend(self) -> None:
        """Seal a file that is old enough, remove files that are too old."""
        if self._file is not None and self._clock() >= self._begun + self._limits.file_max_age_s:
            self.seal()
        self._retain(room_bytes=0)

    def make_room(self) -> int:
        """Remove the oldest whole files, as many as hold what a new one may.

        Returns:
            how many.
        """
        freed_bytes = removed = 0
        for info in _oldest_first(self._disk.files()):
            if freed_bytes >= self._limits.file_max_bytes:
                break
            self._disk.remove(info)
            freed_bytes += info.size_bytes
            removed += 1
        return removed

    def abandon(self) -> None:
        """Give up the file as it is; never raises."""
        if self._file is not None:
            self._file.abandon()
            self._forget_file()

    def _forget_file(self) -> None:
        self._others_bytes += self._size_bytes
        if self._oldest is None:
            self._oldest = self._begun
        self._file, self._size_bytes = None, 0

    def _retain(self, *, room_bytes: int) -> None:
        """Remove what is too old, then the oldest until ``room_bytes`` more fit, and what the files that are being written,
        which stay, may still grow by: other servers write too."""
        self._disk.seal_left_behind()
        files = self._disk.files()
        total = sum(info.size_bytes for info in files)
        room_bytes += sum(max(0, self._limits.file_max_bytes - info.size_bytes) for info in files if not info.is_sealed)
        kept: list[float] = []
        for info in _oldest_first(files):
            begun = begun_at(info)
            if begun + self._limits.max_age_s <= self._clock() or total + room_bytes > self._limits.max_bytes:
                self._disk.remove(info)
                total -= info.size_bytes
            else:
                kept.append(begun)
        self._oldest = kept[0] if kept else None
        self._others_bytes = total - self._size_bytes


def _oldest_first(files: list[FileInfo]) -> list[FileInfo]:
    """The whole ones."""
    return sorted((info for info in files if info.is_sealed), key=begun_at)


def begun_at(info: FileInfo) -> float:
    """When a file was begun, in seconds since the epoch; 0 for a name that isn't of ours, which makes it the oldest."""
    match = _STEM.fullmatch(info.stem)
    try:
        return datetime.strptime(match[1], _BEGUN).replace(tzinfo=UTC).timestamp() if match else 0.0
    except ValueError:  # digits that are no date
        return 0.0
