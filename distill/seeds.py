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

    A group's sentences are 1 in the category that it violates, 0 in those that it never does, and unknown elsewhere. The data
    set's name is ``seeds``.
    """
    rng = np.random.default_rng(seed)
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    labels_of: dict[str, np.ndarray] = {}
    for group in table["group"]:
        labels = np.full(len(CATEGORIES), np.nan, dtype=np.float32)
        never = CATEGORIES if group["never"] == "all" else group["never"]
        labels[[CATEGORIES.index(category) for category in never]] = 0.0
        if "violates" in group:
            labels[CATEGORIES.index(group["violates"])] = 1.0
        for pattern in group["patterns"]:
            for text in _fill(pattern, table["slots"], per_pattern, rng):
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
