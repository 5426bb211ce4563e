"""Texts as a student reads them: both views of each, in windows, within bounds and for as long as somebody waits."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from server.core.canonical import canonicalise
from server.core.errors import DeadlineExceeded, TextTooLarge
from server.core.taxonomy import CATEGORY_INDEX, Category
from server.core.types import Text
from server.inference.classifier import Checkpoint, Encoder, Window

MAX_GROWTH = 2
"""What a request of the most characters may grow to under NFKC. Ordinary text grows by a few per cent."""

_NFKC_GROWTH = 18
"""Characters that NFKC makes of one, at most: of U+FDFA, an Arabic phrase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingLimits:
    """``max_windows`` bounds each text over both its views, ``max_request_windows`` all texts, and ``max_chars`` the characters
    of all texts, about as NFKC leaves them."""

    max_windows: int
    max_request_windows: int
    max_chars: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as the student reads it: the windows of both views, and for each the view that it was cut from."""

    windows: list[Window]
    views: list[str]
    is_disguised: bool

    def passage(self, tops: Sequence[int], category: Category) -> str:
        """What the window that scored highest in ``category`` covers; ``tops`` gives that window for each column."""
        index = tops[CATEGORY_INDEX[category]]
        window = self.windows[index]
        return self.views[index][window.start : window.end]


def read_texts(
    encoder: Encoder, texts: Sequence[Text], limits: ReadingLimits, is_wanted: Callable[[], bool] = lambda: True
) -> list[Reading]:
    """Each text as a student with this encoder reads it. For any thread.

    Stops where a bound is passed, and soon after nobody wants the readings, so that no request costs more than an admissible
    one, or goes on after its end.

    Args:
        is_wanted: asked after each text and every few milliseconds.

    Raises:
        TextTooLarge: over one of the limits.
        DeadlineExceeded: nobody wants it any more.
    """
    _check_growth(texts, limits.max_chars)
    readings: list[Reading] = []
    before = 0
    for index, text in enumerate(texts):
        reading = _read_one(encoder, text.text, partial(_check, limits, is_wanted, index, before))
        readings.append(reading)
        before += len(reading.windows)
    return readings


def count_chars(texts: Sequence[Text]) -> int:
    """Characters of all texts, about as NFKC leaves them: reading takes time by these, and one may stand for 18. Takes time by
    the characters as sent."""
    return sum(_normalised_chars(text.text) for text in texts)


def _check(limits: ReadingLimits, is_wanted: Callable[[], bool], index: int, before: int, windows: int) -> None:
    """Whether to go on with the text at ``index``, which needs so many windows at least, after ``before`` of other texts."""
    if not is_wanted():
        raise DeadlineExceeded("the request ended before it was encoded")
    if windows > limits.max_windows:
        raise TextTooLarge(
            f"the text needs more than {limits.max_windows} windows of the model, over both views", text_index=index
        )
    if before + windows > limits.max_request_windows:
        raise TextTooLarge(f"the texts need more than {limits.max_request_windows} windows of the model in all")


def _read_one(encoder: Encoder, text: str, checkpoint: Checkpoint) -> Reading:
    canonical = canonicalise(text)
    windows = encoder.encode(canonical.text, checkpoint)
    checkpoint(len(windows))
    views = [canonical.text] * len(windows)
    if canonical.deobfuscated is not None:
        first = len(windows)
        more = encoder.encode(canonical.deobfuscated, lambda windows: checkpoint(first + windows))
        checkpoint(first + len(more))
        windows, views = windows + more, views + [canonical.deobfuscated] * len(more)
    return Reading(windows, views, canonical.is_changed or canonical.deobfuscated is not None)


def _check_growth(texts: Sequence[Text], max_chars: int) -> None:
    """Before anything is normalised: that takes time and memory by what comes of it."""
    if _NFKC_GROWTH * sum(len(text.text) for text in texts) <= max_chars:
        return
    chars = 0
    for index, text in enumerate(texts):
        chars += _normalised_chars(text.text)
        if chars > max_chars:
            raise TextTooLarge(f"the texts have more than {max_chars} characters in Unicode's form NFKC", text_index=index)


def _normalised_chars(text: str) -> int:
    """About; one character at a time, as a long run of combining marks takes quadratic time."""
    if text.isascii():
        return len(text)
    return sum(count * len(unicodedata.normalize("NFKC", character)) for character, count in Counter(text).items())
