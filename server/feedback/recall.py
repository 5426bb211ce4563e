"""The verdicts that were given lately, so that a correction can be held against the one it is about."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from cachetools import TTLCache

from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX, ROLES, Category, Role
from server.core.types import Text, TextResult, Verdict

_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_VERDICT_NUMBER = {verdict: number for number, verdict in enumerate(_VERDICTS)}
_ROLE_NUMBER = {role: number for number, role in enumerate(ROLES)}
_VERDICT_BITS, _ROLE_BITS = 2, 1

Remembered = list[int]
"""What is kept of one request: a number for each of its texts."""


@dataclass(frozen=True, slots=True)
class Given:
    """A verdict as it was given, and on what kind of text."""

    verdict: Verdict
    role: Role
    categories: tuple[Category, ...]


class Recall:
    """The last ``max_items`` requests, each for ``ttl_s``; a text is one small number there, and nothing of its words is
    kept. It is this process's own, and gone with it. Used on the event loop only."""

    def __init__(self, *, max_items: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._given: TTLCache[str, Remembered] = TTLCache(max_items, ttl_s, timer=clock)

    def remember(self, request_id: str, texts: Sequence[Text], results: Sequence[TextResult]) -> Remembered:
        """Of two requests with one id, the later is remembered. What is returned is for :meth:`revise`."""
        remembered = [_pack(text, result) for text, result in zip(texts, results, strict=True)]
        self._given[request_id] = remembered
        return remembered

    @staticmethod
    def revise(remembered: Remembered, index: int, text: Text, result: TextResult) -> None:
        """One text has another verdict now. Nobody notices where its request is remembered no longer."""
        remembered[index] = _pack(text, result)

    def find(self, request_id: str, index: int) -> Given | None:
        """None for an id that never was or is no longer remembered, or has no text of that index."""
        packed = self._given.get(request_id, [])
        return _unpack(packed[index]) if 0 <= index < len(packed) else None


def _pack(text: Text, result: TextResult) -> int:
    flagged = 0
    for category in result.categories:
        flagged |= 1 << CATEGORY_INDEX[category]
    return (flagged << _ROLE_BITS | _ROLE_NUMBER[text.role]) << _VERDICT_BITS | _VERDICT_NUMBER[result.verdict]


def _unpack(packed: int) -> Given:
    verdict = _VERDICTS[packed & ((1 << _VERDICT_BITS) - 1)]
    role = ROLES[packed >> _VERDICT_BITS & 1]
    flagged = packed >> _VERDICT_BITS + _ROLE_BITS
    return Given(verdict, role, tuple(category for index, category in enumerate(CATEGORIES) if flagged >> index & 1))
