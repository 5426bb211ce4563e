"""Signals on disk: what a teacher said of (text, category), kept so that no text is ever judged twice.

One folder per (teacher, prompt hash), with three files that only grow, one fixed-size record per text:

    digests.bin   32 bytes       SHA-256 of role and text: the key, and the record's commit mark
    margins.bin   C × float32    logit(Yes) − logit(No), raw
    hidden.bin    C × H × float16  the teacher's last-token state, after its final norm

A record counts once its digest is on disk; the digest is written last. Opening a store to write cuts off what a kill left
behind half-written, so nothing is lost that counted and nothing counts twice; a file that lost what counted is refused. It also
locks the store: a second writer is turned away, and a reader never cuts what a writer is in the middle of.
"""

import fcntl
import hashlib
import json
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

_DIGEST_BYTES = 32


def text_digest(text: str, role: str) -> bytes:
    """The key of a text: SHA-256 over its role and its canonical form."""
    return hashlib.sha256(f"{role}\0{text}".encode()).digest()


class SignalStore:
    """Append, look up, memory-map.

    Args:
        root: holds one folder per (teacher, prompt hash).
        hidden_size: the teacher's H, to write; None to read a store that exists, as it was when it was opened.
        max_text_tokens: how much of a text the teacher reads, to write; None where that isn't known. A store that doesn't know
            yet is told.

    Raises:
        ConfigurationError: the folder was made with another category list, hidden size or length of text, is damaged, must
            exist and doesn't, or is to be written while another process writes to it.
    """

    def __init__(
        self,
        root: Path,
        *,
        teacher: str,
        prompt_hash: str,
        hidden_size: int | None = None,
        max_text_tokens: int | None = None,
    ) -> None:
        key = hashlib.sha256(f"{teacher}\0{prompt_hash}".encode()).hexdigest()[:16]
        self.folder = root / key
        self.hidden_size = self._open(teacher, prompt_hash, hidden_size, max_text_tokens)
        self._record_bytes = {
            "digests.bin": _DIGEST_BYTES,
            "margins.bin": 4 * len(CATEGORIES),
            "hidden.bin": 2 * len(CATEGORIES) * self.hidden_size,
        }
        self.is_writable = hidden_size is not None
        if self.is_writable:
            self._lock()
        complete = self._complete()
        if self.is_writable:
            self._cut_half_written(complete)
        raw = (self.folder / "digests.bin").read_bytes()[: complete * _DIGEST_BYTES]
        self._row = {raw[i : i + _DIGEST_BYTES]: i // _DIGEST_BYTES for i in range(0, len(raw), _DIGEST_BYTES)}

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._row

    def append(self, digests: Sequence[bytes], margins: np.ndarray, hidden: np.ndarray) -> None:
        """Add N new texts: margins (N, C), hidden (N, C, H). On return they survive a power cut.

        Raises:
            ValueError: a digest is there already or given twice, a shape is wrong, a margin is not finite, or the store was
                opened to be read.
        """
        if not self.is_writable:
            raise ValueError(f"{self.folder} was opened to be read")
        if len(set(digests)) != len(digests) or any(digest in self for digest in digests):
            raise ValueError("a text's signal is already in the store")
        want = (len(digests), len(CATEGORIES))
        if margins.shape != want or hidden.shape != (*want, self.hidden_size):
            raise ValueError(f"margins {margins.shape} and hidden {hidden.shape} don't fit {(*want, self.hidden_size)}")
        if not np.isfinite(margins).all():
            raise ValueError("a margin is not finite")
        self._write("hidden.bin", hidden.astype(np.float16).tobytes())
        self._write("margins.bin", margins.astype(np.float32).tobytes())
        self._write("digests.bin", b"".join(digests))
        for digest in digests:
            self._row[digest] = len(self._row)

    def rows(self, digests: Sequence[bytes]) -> np.ndarray:
        """int64 (N,): each text's row in :meth:`margins` and :meth:`hidden`, −1 where the teacher wasn't asked."""
        return np.array([self._row.get(digest, -1) for digest in digests], dtype=np.int64)

    def margins(self) -> np.ndarray:
        """float32 (rows, C), memory-mapped, read-only."""
        return self._map("margins.bin", np.float32, (len(self), len(CATEGORIES)))

    def hidden(self) -> np.ndarray:
        """float16 (rows, C, H), memory-mapped, read-only."""
        return self._map("hidden.bin", np.float16, (len(self), len(CATEGORIES), self.hidden_size))

    def _map(self, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        if not len(self):
            return np.empty(shape, dtype)
        return np.memmap(self.folder / name, dtype=dtype, mode="r", shape=shape)

    def _write(self, name: str, data: bytes) -> None:
        with (self.folder / name).open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def _lock(self) -> None:
        """Until this object or its process is gone."""
        lock = os.open(self.folder / "lock", os.O_WRONLY | os.O_CREAT, 0o644)
        weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"another process is writing to {self.folder}: wait for it, or stop it") from None

    def _complete(self) -> int:
        """How many records count. The digests are written last, so a kill can leave no other file with fewer; and it takes
        no file away."""
        found = {name: self._whole_records(name) for name in self._record_bytes}
        if not any(found.values()):
            for name in found:
                (self.folder / name).touch()
            return 0
        digests = found["digests.bin"] or 0
        if lost := [name for name, count in found.items() if count is None or count < digests]:
            raise ConfigurationError(f"{self.folder} is damaged: {', '.join(lost)} lost records; restore it, or delete it all")
        return digests

    def _whole_records(self, name: str) -> int | None:
        """None for a file that isn't there."""
        path = self.folder / name
        return path.stat().st_size // self._record_bytes[name] if path.exists() else None

    def _cut_half_written(self, complete: int) -> None:
        for name, size in self._record_bytes.items():
            os.truncate(self.folder / name, complete * size)

    def _open(self, teacher: str, prompt_hash: str, hidden_size: int | None, max_text_tokens: int | None) -> int:
        path = self.folder / "meta.json"
        if not path.exists():
            if hidden_size is None:
                raise ConfigurationError(f"no signals of teacher {teacher} under {self.folder.parent}: run label first")
            self.folder.mkdir(parents=True, exist_ok=True)
            meta = {"teacher": teacher, "prompt_hash": prompt_hash, "categories": CATEGORIES, "hidden_size": hidden_size}
            _write_whole(path, meta)
        try:
            found = json.loads(path.read_text())
        except ValueError:
            raise ConfigurationError(f"{path} is damaged: restore it, or delete its whole folder") from None
        if tuple(found["categories"]) != CATEGORIES or hidden_size not in (None, found["hidden_size"]):
            raise ConfigurationError(f"{self.folder} was made for {found['categories']} and hidden size {found['hidden_size']}")
        if max_text_tokens is not None:
            if (cut_at := found.setdefault("max_text_tokens", max_text_tokens)) != max_text_tokens:
                raise ConfigurationError(
                    f"{self.folder} was made with --max-text-tokens {cut_at}, which {max_text_tokens} doesn't go with"
                )
            _write_whole(path, found)
        return found["hidden_size"]


def _write_whole(path: Path, record: dict[str, Any]) -> None:
    """All of it or nothing, should the process be killed."""
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(record, indent=2) + "\n")
    aside.replace(path)
