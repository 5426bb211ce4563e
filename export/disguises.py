"""Ways in which people hide a word from a filter and not from a reader, to measure what undoing them is worth."""

import random
from collections.abc import Callable

from server.core.canonical import LOOKALIKES

Disguise = Callable[[str, random.Random], str]

_LEET = str.maketrans("aeiostAEIOST", "4310574310$7")
_LETTER_FOR = {latin: chr(twin) for twin, latin in LOOKALIKES.items()}
SHARE = 0.5
"""Of the words, or of the letters that have a look-alike."""


def zero_width(text: str, rng: random.Random) -> str:
    """A zero-width space inside half of the words."""
    return _some_words(text, rng, lambda word: _join(word, "\u200b"))


def look_alikes(text: str, rng: random.Random) -> str:
    """Half of the Latin letters that have a Cyrillic or Greek twin, by that twin."""
    return "".join(_LETTER_FOR[c] if c in _LETTER_FOR and rng.random() < SHARE else c for c in text)


def full_width(text: str, _rng: random.Random) -> str:
    """ASCII letters as the full-width ones of CJK fonts."""
    return "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalpha() else c for c in text)


def leet(text: str, rng: random.Random) -> str:
    """Half of the words with digits and signs in place of letters."""
    return _some_words(text, rng, lambda word: word[0] + word[1:].translate(_LEET))


def spaced_out(text: str, rng: random.Random) -> str:
    """Half of the words l e t t e r by letter."""
    return _some_words(text, rng, " ".join)


DISGUISES: dict[str, Disguise] = {
    function.__name__: function for function in (zero_width, look_alikes, full_width, leet, spaced_out)
}


def _some_words(text: str, rng: random.Random, hide: Callable[[str], str]) -> str:
    """White space becomes single spaces. Words of fewer than four letters hide nothing and stay."""
    return " ".join(hide(word) if len(word) > 3 and rng.random() < SHARE else word for word in text.split())


def _join(word: str, between: str) -> str:
    middle = len(word) // 2
    return word[:middle] + between + word[middle:]
