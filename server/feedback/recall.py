"""The verdicts that were given lately, so that a correction can be held against the one it is about."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from cachetools import TTLCache

from server.core.taxonomy import Category, Role
from server.core.types import Text, TextResult, Verdict

_MARK_BYTES = 8
NO_MARK = bytes(_MARK_BYTES)


@dataclass(frozen=True, slots=True)
class Given:
    """A verdict as it was given, and on what text. ``text_mark`` and ``correction_mark``, of its last correction, are made by
    :meth:`Recall.mark`, or zeros."""

    verdict: Verdict
    role: Role
    categories: tuple[Category, ...]
    text_mark: bytes = NO_MARK
    correction_mark: bytes = NO_MARK


Remembered = list[Given]
"""What is kept of one request: one for each of its texts."""


class Recall:
    """The last requests, each for ``ttl_s``, of ``max_items`` texts together; a request of one text takes 0.4 kB. This
    process's own, and gone with it. Used on the event loop only.

    Args:
        marks_texts: a mark of each text is kept; without it nothing of its words is.
    """

    def __init__(self, *, max_items: int, ttl_s: float, marks_texts: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._given: TTLCache[str, Remembered] = TTLCache(max_items, ttl_s, timer=clock, getsizeof=len)
        self._marks_texts = marks_texts
        self._key = secrets.token_bytes(16)

    def remember(self, request_id: str, texts: Sequence[Text], results: Sequence[TextResult]) -> Remembered:
        """Of two requests with one id, the later is remembered; one of more than ``max_items`` texts isn't. What is returned
        is for :meth:`revise`."""
        remembered = [self._given_on(text, result) for text, result in zip(texts, results, strict=True)]
        if len(remembered) <= self._given.maxsize:
            self._given[request_id] = remembered
        else:
            self._given.pop(request_id, None)
        return remembered

    def revise(self, remembered: Remembered, index: int, text: Text, result: TextResult) -> None:
        """One text has another verdict now, which nobody has corrected. No effect once its request is forgotten."""
        remembered[index] = self._given_on(text, result)

    def find(self, request_id: str, index: int) -> Given | None:
        """None for an id that never was or is no longer remembered, or has no text of that index."""
        remembered = self._given.get(request_id, [])
        return remembered[index] if 0 <= index < len(remembered) else None

    def corrected(self, request_id: str, index: int, mark: bytes) -> None:
        """The last correction of this verdict has that mark. No effect once the request is forgotten."""
        remembered = self._given.get(request_id)
        if remembered is not None:
            remembered[index] = replace(remembered[index], correction_mark=mark)

    def mark(self, words: str) -> bytes:
        """8 bytes of a hash, keyed with random bytes of the process: equal for equal words, and telling nothing of them."""
        return blake2b(words.encode(), digest_size=_MARK_BYTES, key=self._key).digest()

    def _given_on(self, text: Text, result: TextResult) -> Given:
        mark = self.mark(text.text) if self._marks_texts else NO_MARK
        return Given(result.verdict, text.role, result.categories, mark)
