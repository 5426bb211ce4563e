"""Hand-written sentences for the categories that public sets are thin in; the patterns are in ``seeds.toml``."""

import re
import tomllib
from pathlib import Path

import numpy as np

from distill.data import LabelledTexts
from server.core.canonical import canonicalise
from server.core.taxonomy import CATEGORIES

_SLOT = re.compile(r"\{(\w+)\}")
_FILE = Path(__file__).with_name("seeds.toml")


def seed_texts(*, per_pattern: int = 24, seed: int = 0) -> LabelledTexts:
    """All patterns with their slots filled, at most ``per_pattern`` fillings each, without repetition.

    A category's sentences are 1 there and unknown elsewhere; harmless ones are 0 everywhere. The data set's name is
    ``seeds``.
    """
    rng = np.random.default_rng(seed)
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    slots = table.pop("slots")
    labels_of: dict[str, np.ndarray] = {}
    for group, record in table.items():
        labels = np.zeros(len(CATEGORIES), dtype=np.float32)
        if group != "harmless":
            labels[:] = np.nan
            labels[CATEGORIES.index(group)] = 1.0
        for pattern in record["patterns"]:
            for text in _fill(pattern, slots, per_pattern, rng):
                labels_of.setdefault(canonicalise(text).text, labels)
    size = len(labels_of)
    return LabelledTexts(
        list(labels_of), ["user"] * size, np.stack(list(labels_of.values())), np.array(["seeds"] * size, dtype=object)
    )


def _fill(pattern: str, slots: dict[str, list[str]], limit: int, rng: np.random.Generator) -> list[str]:
    names = _SLOT.findall(pattern)
    total = int(np.prod([len(slots[name]) for name in names])) if names else 1
    chosen = rng.choice(total, size=min(limit, total), replace=False)
    texts = []
    for number in sorted(chosen):
        values, rest = {}, int(number)
        for name in names:
            rest, index = divmod(rest, len(slots[name]))
            values[name] = slots[name][index]
        texts.append(pattern.format(**values))
    return texts
