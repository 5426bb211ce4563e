"""A stand-in for the student that needs no artefact: any score can be written into a text.

A word of a text that is a category's name, or a keyword given for it, scores :data:`KEYWORD_SCORE` in that category.
``name=score`` (``violence=0.62``) scores exactly that, to four decimals, before calibration. Every other category scores
:data:`BASE_SCORE`. The highest word counts. Case and punctuation around a word don't matter.
"""

import math
import re
import threading
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX, Category
from server.inference.classifier import Checkpoint, Window
from server.inference.windows import cut_windows

KEYWORD_SCORE = 0.97
BASE_SCORE = 0.02

Failure = Literal["raise", "nan", "rows", "die"]

_CLS, _SEP = 1, 2
_STEPS = 10_000
_FIRST_SCORE_ID = 1_000
_FIRST_WORD_ID = 1_000_000
_WORD = re.compile(r"\S+")
_SCORE_WORD = re.compile(r"([a-z_]+)=([01](?:\.\d+)?)")


class FakeSessionDeath(BaseException):
    """What a fake classifier dies of when told to; no ``Exception``, so nothing takes it for a failed batch."""


class FakeEncoder:
    """Implements :class:`server.inference.classifier.Encoder`: one token per white-space separated word."""

    def __init__(self, *, max_tokens: int = 128, overlap_tokens: int = 32) -> None:
        """Args:
        max_tokens: the longest window, its two special tokens included.

        Raises:
            ConfigurationError: the overlap leaves no room for progress.
        """
        self._room = max_tokens - 2
        self._overlap = overlap_tokens
        if not 0 <= overlap_tokens < self._room:
            raise ConfigurationError(f"an overlap of {overlap_tokens} doesn't fit into windows of {max_tokens} tokens")

    def encode(self, text: str, checkpoint: Checkpoint | None = None) -> list[Window]:
        words = [(match.start(), token_id(match.group())) for match in _WORD.finditer(text)]
        starts = [start for start, _ in words] + [len(text)]
        windows = []
        for first, stop in cut_windows([True] * len(words), room=self._room, overlap=self._overlap):
            ids = [_CLS, *(word for _, word in words[first:stop]), _SEP]
            windows.append(Window(ids, 0 if first == 0 else starts[first], starts[stop]))
            if checkpoint is not None:
                checkpoint(len(windows))
        return windows


class FakeClassifier:
    """Implements :class:`server.inference.classifier.Classifier` on what :class:`FakeEncoder` gives."""

    def __init__(
        self,
        *,
        keywords: Mapping[str, Category] | None = None,
        failures: Mapping[str, Failure] | None = None,
        gate: threading.Event | None = None,
        entered: threading.Event | None = None,
    ) -> None:
        """Args:
        keywords: words beside the categories' own names, and the category that each one raises.
        failures: words that break a batch they are in: ``raise`` an error, answer ``nan`` in the word's row, answer
            one of the ``rows`` too few, or ``die`` with the session.
        gate: every call waits until it is set.
        entered: set by every call, before it waits.
        """
        self._columns = {token_id(word): CATEGORY_INDEX[category] for word, category in (keywords or {}).items()}
        self._failures = {token_id(word): failure for word, failure in (failures or {}).items()}
        self._gate = gate
        self._entered = entered

    def classify(self, windows: Sequence[Window]) -> np.ndarray:
        """float32 (B, C): the logit of each score."""
        if self._entered is not None:
            self._entered.set()
        if self._gate is not None:
            self._gate.wait()
        rows = np.array([self._row(window) for window in windows], dtype=np.float32)
        failures = {self._failures[token] for window in windows for token in window.token_ids if token in self._failures}
        if "die" in failures:
            raise FakeSessionDeath("told to die")
        if "raise" in failures:
            raise RuntimeError("told to fail")
        return rows[:-1] if "rows" in failures else rows

    def warm_up(self) -> None:
        """Nothing is cold."""

    def _row(self, window: Window) -> list[float]:
        if any(self._failures.get(token) == "nan" for token in window.token_ids):
            return [math.nan] * len(CATEGORIES)
        highest: dict[int, float] = {}
        for token in window.token_ids:
            if _FIRST_SCORE_ID <= token < _FIRST_WORD_ID:
                column, step = divmod(token - _FIRST_SCORE_ID, _STEPS + 1)
                highest[column] = max(highest.get(column, 0.0), step / _STEPS)
            elif token in self._columns:
                column = self._columns[token]
                highest[column] = max(highest.get(column, 0.0), KEYWORD_SCORE)
        return [_logit(highest.get(column, BASE_SCORE)) for column in range(len(CATEGORIES))]


def token_id(word: str) -> int:
    """A word's token: an id that holds a category and a score for the words that name one, a hash for all others."""
    word = word.lower().strip(".,;:!?\"'()[]{}<>*")
    score = KEYWORD_SCORE
    match = _SCORE_WORD.fullmatch(word)
    if match:
        word, score = match[1], min(1.0, float(match[2]))
    if word in CATEGORY_INDEX:
        return _FIRST_SCORE_ID + CATEGORY_INDEX[word] * (_STEPS + 1) + round(score * _STEPS)
    return _FIRST_WORD_ID + zlib.crc32((match[0] if match else word).encode("utf-8", "replace"))


def _logit(score: float) -> float:
    """The inverse of the sigmoid, at most 12 from zero."""
    return math.log(score / (1 - score)) if 0 < score < 1 else math.copysign(12.0, score - 0.5)
