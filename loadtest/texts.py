"""Texts of mixed length for every load test: seeded, about 24 tokens on average, with a tail to 2,000.

Most lengths follow a log-normal curve, as those of chat messages and comments do; one text in :data:`BLOCK` is a long one.
Every :data:`BLOCK` texts in a row hold the same lengths in another order, so that a short measurement sees the same mix as a
long one. The texts hide nothing (no look-alike, spaced-out or digit-for-letter spelling), so that the server reads each once:
the second reading of an obfuscated text is a matter of quality, not of speed.
"""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

from loadtest.command import Unusable
from loadtest.phrases import ASKS, DEEDS, GREETINGS, PEOPLE, RUDE, STATEMENTS, THINGS

BLOCK = 256
"""Texts that hold the whole mix of lengths once."""

_MEDIAN_WORDS, _SPREAD = 10.6, 0.95
_SHORTEST_WORDS = 2
_LONG_WORDS = (250, 1_680)
_SHARE_RUDE, _SHARE_ASKS, _SHARE_GREETED = 0.06, 0.4, 0.2


def generate_texts(count: int, *, seed: int = 1) -> list[str]:
    """``count`` texts, the same for the same seed; rounded up to whole blocks."""
    rng = random.Random(seed)
    blocks = math.ceil(count / BLOCK)
    bulk = [_quantile((i + 0.5) / (BLOCK - 1)) for i in range(BLOCK - 1)]
    shortest, longest = _LONG_WORDS
    # The long texts of all blocks together are spread evenly, on a logarithmic scale; a single one is in the middle.
    long = [round(shortest * (longest / shortest) ** (block / (blocks - 1) if blocks > 1 else 0.5)) for block in range(blocks)]
    rng.shuffle(long)
    texts: list[str] = []
    for words in long:
        lengths = [*bulk, words]
        rng.shuffle(lengths)
        texts.extend(_write(length, rng) for length in lengths)
    return texts


def read_texts(parquet: Path, count: int, *, seed: int = 1) -> list[str]:
    """``count`` texts of the column ``text``, drawn without replacement and dealt as :func:`deal` does.

    Raises:
        Unusable: it is no Parquet file, has no such column, or fewer texts.
    """
    import pyarrow.parquet  # noqa: PLC0415 (an option's need alone)

    try:
        table = pyarrow.parquet.read_table(parquet)
    except pyarrow.ArrowInvalid:
        raise Unusable(f"{parquet} is no Parquet file") from None
    if "text" not in table.column_names:
        raise Unusable(f"{parquet} has no column named text")
    texts = sorted({text for text in table.column("text").to_pylist() if text})
    if len(texts) < count:
        raise Unusable(f"{parquet} holds {len(texts)} different texts, fewer than {count}")
    rng = random.Random(seed)
    return deal(rng.sample(texts, count), rng)


def deal(texts: Sequence[str], rng: random.Random) -> list[str]:
    """The texts in an order in which all blocks of :data:`BLOCK` hold much the same lengths."""
    blocks: list[list[str]] = [[] for _ in range(math.ceil(len(texts) / BLOCK))]
    by_length = sorted(texts, key=len)
    for first in range(0, len(by_length), len(blocks)):
        hand = by_length[first : first + len(blocks)]
        for block, text in zip(rng.sample(blocks, len(hand)), hand, strict=True):
            block.append(text)
    for block in blocks:
        rng.shuffle(block)
    return [text for block in blocks for text in block]


def _quantile(share: float) -> int:
    """Words of a text that is longer than ``share`` of all."""
    words = _MEDIAN_WORDS * math.exp(_SPREAD * NormalDist().inv_cdf(share))
    return max(_SHORTEST_WORDS, round(words))


def _write(words: int, rng: random.Random) -> str:
    """Sentences until there are enough words, cut after the last of them."""
    written: list[str] = []
    while len(written) < words:
        written.extend(_sentence(rng).split())
    return " ".join(written[:words])


def _sentence(rng: random.Random) -> str:
    kind = rng.random()
    forms = RUDE if kind < _SHARE_RUDE else ASKS if kind < _SHARE_RUDE + _SHARE_ASKS else STATEMENTS
    form = rng.choice(forms)
    while "{thing}" in form:
        form = form.replace("{thing}", rng.choice(THINGS), 1)
    person = rng.choice(PEOPLE)
    sentence = form.format(person=person, Person=person[0].upper() + person[1:], deed=rng.choice(DEEDS))
    if rng.random() >= _SHARE_GREETED:
        return sentence
    return f"{rng.choice(GREETINGS)} {sentence if sentence.startswith('I ') else sentence[0].lower() + sentence[1:]}"
