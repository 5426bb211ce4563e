"""A disk in memory, for tests: it can fail as often, and as oddly, as a real one."""

from collections.abc import Callable
from typing import Literal

from server.feedback.disk import FileInfo

Operation = Literal["prepare", "create", "append", "sync", "seal", "seal_left_behind", "files", "remove"]


class FakeDisk:
    """Implements :class:`~server.feedback.disk.Disk`.

    Args:
        fails: called before every operation, on the writer's thread; what it raises, the operation raises. A failing
            ``append`` leaves half of its data behind.

    Attributes:
        sealed, open: what the files hold, by stem.
        left_behind: those of the open ones that nobody writes any more.
        synced: how much of each file is safe, in bytes.
    """

    def __init__(self, fails: Callable[[Operation], None] = lambda _operation: None) -> None:
        self.fails = fails
        self.sealed: dict[str, bytes] = {}
        self.open: dict[str, bytearray] = {}
        self.left_behind: set[str] = set()
        self.synced: dict[str, int] = {}

    @property
    def lines(self) -> list[bytes]:
        """Every whole line, oldest first, without its newline."""
        written = self.sealed | self.open
        return [line for stem in sorted(written) for line in bytes(written[stem]).split(b"\n")[:-1]]

    def prepare(self) -> bytes:
        self.fails("prepare")
        return b"k" * 32

    def create(self, stem: str) -> "FakeFile":
        self.fails("create")
        if stem in self.open or stem in self.sealed:
            raise FileExistsError(stem)
        self.open[stem] = bytearray()
        return FakeFile(self, stem)

    def seal_left_behind(self) -> None:
        self.fails("seal_left_behind")
        for stem in sorted(self.left_behind):
            self.sealed[stem] = bytes(self.open.pop(stem))
        self.left_behind.clear()

    def files(self) -> list[FileInfo]:
        self.fails("files")
        sealed = [FileInfo(stem, len(data), True) for stem, data in self.sealed.items()]
        return sealed + [FileInfo(stem, len(data), False) for stem, data in self.open.items()]

    def remove(self, info: FileInfo) -> None:
        self.fails("remove")
        (self.sealed if info.is_sealed else self.open).pop(info.stem, None)


class FakeFile:
    """Implements :class:`~server.feedback.disk.LogFile`."""

    def __init__(self, disk: FakeDisk, stem: str) -> None:
        self._disk = disk
        self._stem = stem

    def append(self, data: bytes) -> None:
        try:
            self._disk.fails("append")
        except OSError:
            self._disk.open[self._stem] += data[: len(data) // 2]
            raise
        self._disk.open[self._stem] += data

    def sync(self) -> None:
        self._disk.fails("sync")
        self._disk.synced[self._stem] = len(self._disk.open[self._stem])

    def seal(self) -> None:
        self._disk.fails("seal")
        data = self._disk.open.pop(self._stem)
        self._disk.synced[self._stem] = len(data)
        self._disk.sealed[self._stem] = bytes(data)

    def abandon(self) -> None:
        """What is there stays as it is; an empty file leaves no trace."""
        if self._disk.open.get(self._stem):
            self._disk.left_behind.add(self._stem)
        else:
            self._disk.open.pop(self._stem, None)
