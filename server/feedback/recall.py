"""The verdicts that were given lately, so that a correction can be held against the one it is about."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import get_args

from cachetools import TTLCache

from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX, ROLES, Category, Role
from server.core.types import Text, TextResult, Verdict

_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_VERDICT_NUMBER = {verdict: number for number, verdict in enumerate(_VERDICTS)}
_ROLE_NUMBER = {role: number for number, role in enumerate(ROLES)}
_VERDICT_BITS, _ROLE_BITS = 2, 1

_MARK_BYTES = 8
NO_MARK = bytes(_MARK_BYTES)
_SLOT = Struct(f"<H{_MARK_BYTES}s{_MARK_BYTES}s")
"""Of one text: its verdict, role and categories; the mark of its words; the mark of its last correction."""

Remembered = bytearray
"""What is kept of one request: a slot for each of its texts."""


@dataclass(frozen=True, slots=True)
class Given:
    """A verdict as it was given, and on what text. ``text_mark`` and ``correction_mark``, of its last correction, are made by
    :meth:`Recall.mark`, or zeros."""

    verdict: Verdict
    role: Role
    categories: tuple[Category, ...]
    text_mark: bytes = NO_MARK
    correction_mark: bytes = NO_MARK


class Recall:
    """The last requests, each for ``ttl_s``, of ``max_items`` texts together; a text is 18 bytes there. This process's own,
    and gone with it. Used on the event loop only.

    Args:
        marks_texts: a mark of each text is kept; without it nothing of its words is.
    """

    def __init__(self, *, max_items: int, ttl_s: float, marks_texts: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._given: TTLCache[str, Remembered] = TTLCache(max_items, ttl_s, timer=clock, getsizeof=_texts_in)
        self._marks_texts = marks_texts
        self._key = secrets.token_bytes(16)

    def remember(self, request_id: str, texts: Sequence[Text], results: Sequence[TextResult]) -> Remembered:
        """Of two requests with one id, the later is remembered; one of more than ``max_items`` texts isn't. What is returned
        is for :meth:`revise`."""
        remembered = bytearray().join(self._pack(text, result) for text, result in zip(texts, results, strict=True))
        if _texts_in(remembered) <= self._given.maxsize:
            self._given[request_id] = remembered
        else:
            self._given.pop(request_id, None)
        return remembered

    def revise(self, remembered: Remembered, index: int, text: Text, result: TextResult) -> None:
        """One text has another verdict now, which nobody has corrected. Nobody notices where its request is remembered no
        longer."""
        remembered[index * _SLOT.size : (index + 1) * _SLOT.size] = self._pack(text, result)

    def find(self, request_id: str, index: int) -> Given | None:
        """None for an id that never was or is no longer remembered, or has no text of that index."""
        slots = self._given.get(request_id, b"")
        return _unpack(slots, index) if 0 <= index < _texts_in(slots) else None

    def corrected(self, request_id: str, index: int, mark: bytes) -> None:
        """The last correction of this verdict has that mark. Nobody notices where it is remembered no longer."""
        slots = self._given.get(request_id)
        if slots is not None:
            slots[(index + 1) * _SLOT.size - _MARK_BYTES : (index + 1) * _SLOT.size] = mark

    def mark(self, words: str) -> bytes:
        """8 bytes of a hash, keyed with random bytes of the process: equal for equal words, and telling nothing of them."""
        return blake2b(words.encode(), digest_size=_MARK_BYTES, key=self._key).digest()

    def _pack(self, text: Text, result: TextResult) -> bytes:
        flagged = 0
        for category in result.categories:
            flagged |= 1 << CATEGORY_INDEX[category]
        given = (flagged << _ROLE_BITS | _ROLE_NUMBER[text.role]) << _VERDICT_BITS | _VERDICT_NUMBER[result.verdict]
        return _SLOT.pack(given, self.mark(text.text) if self._marks_texts else NO_MARK, NO_MARK)


def _texts_in(slots: bytes | bytearray) -> int:
    return len(slots) // _SLOT.size


def _unpack(slots: bytes | bytearray, index: int) -> Given:
    given, *marks = _SLOT.unpack_from(slots, index * _SLOT.size)
    verdict = _VERDICTS[given & ((1 << _VERDICT_BITS) - 1)]
    role = ROLES[given >> _VERDICT_BITS & 1]
    flagged = given >> _VERDICT_BITS + _ROLE_BITS
    categories = tuple(category for number, category in enumerate(CATEGORIES) if flagged >> number & 1)
    return Given(verdict, role, categories, *marks)
