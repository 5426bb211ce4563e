"""Harm that hides in harmless talk: labelled texts planted into ordinary ones.

Public sets label short texts, and what learns from them judges a long one by its mass: a threat amid a page of small talk
is diluted. Texts made here have the harm at any place, among harmless ones of about any length that one window holds.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from distill.data import LabelledTexts, balanced_indices
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

DATASET = "planted"
_HARM_CHARS, _HOST_CHARS = (12, 300), (20, 300)
MIN_CHARS = 100
"""The shortest text that is made, about; so the least ``max_chars``."""
_BETWEEN = (" ", "\n", "\n\n")


def plant(
    rows: LabelledTexts, size: int, *, max_chars: int = 800, harmless_share: float = 0.75, seed: int = 0
) -> LabelledTexts:
    """``size`` texts made of several: one harmful text among harmless ones, or harmless ones alone.

    A planted text has the labels of its harmful part, what is unknown of it included; harmless ones alone are 0 everywhere.
    The harmful parts are drawn in balance over sources and categories (:func:`distill.data.balanced_indices`), so a rare
    category's come more than once, in other company.

    Args:
        rows: labelled texts. Those without any harm, all labels known, are the company.
        max_chars: the longest text made, in characters; the shortest have some hundred.
        harmless_share: of the texts made, those without harm.

    Raises:
        ConfigurationError: ``rows`` have no short harmful text, or no short harmless one.
    """
    rng = np.random.default_rng(seed)
    lengths = np.array([len(text) for text in rows.texts])
    is_harmful = (np.nan_to_num(rows.labels) == 1).any(axis=1) & _between(lengths, _HARM_CHARS)
    is_harmless = (rows.labels == 0).all(axis=1) & _between(lengths, _HOST_CHARS)
    if not is_harmful.any() or not is_harmless.any():
        raise ConfigurationError(
            "planting needs short harmful texts, and short texts that are known to be harmless in every category"
        )
    harmful, company = rows.take(np.flatnonzero(is_harmful)), [rows.texts[i] for i in np.flatnonzero(is_harmless)]
    drawn = _draw(harmful, round(size * (1 - harmless_share)), rng)
    planted = [_among(harmful.texts[i], _target(rng, max_chars), company, rng) for i in drawn]
    alone = [_among(None, _target(rng, max_chars), company, rng) for _ in range(size - len(drawn))]
    return LabelledTexts(
        planted + alone,
        [harmful.roles[i] for i in drawn] + ["user"] * len(alone),
        np.concatenate([harmful.labels[drawn], np.zeros((len(alone), rows.labels.shape[1]), dtype=np.float32)]),
        np.full(size, DATASET, dtype=object),
    )


def write_planted(path: Path, planted: LabelledTexts, split: str) -> dict[str, int]:
    """Parquet as :mod:`distill.data` reads it, and with ``unsafe`` and ``kind`` as ``python -m loadtest verdicts`` does. Gives
    the number of harmful and of harmless texts."""
    is_harmful = (np.nan_to_num(planted.labels) == 1).any(axis=1)
    frame = pd.DataFrame(
        {
            "text": planted.texts,
            "role": planted.roles,
            "dataset": planted.datasets,
            "split": split,
            "unsafe": pd.array(is_harmful, dtype="Int8"),
            "kind": [f"up to {-(-len(text) // 200) * 200} characters" for text in planted.texts],
        }
        | {name: pd.array(planted.labels[:, c], dtype="Int8") for c, name in enumerate(CATEGORIES)}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path)
    return {"harmful": int(is_harmful.sum()), "harmless": int((~is_harmful).sum())}


def _between(lengths: np.ndarray, bounds: tuple[int, int]) -> np.ndarray:
    return (bounds[0] <= lengths) & (lengths <= bounds[1])


def _draw(harmful: LabelledTexts, size: int, rng: np.random.Generator) -> np.ndarray:
    rounds: list[np.ndarray] = []
    while (left := size - sum(map(len, rounds))) > 0:
        rounds.append(balanced_indices(harmful, min(left, max(1, len(harmful) // 2)), int(rng.integers(2**31))))
    return np.concatenate([np.empty(0, dtype=np.int64), *rounds])


def _target(rng: np.random.Generator, max_chars: int) -> int:
    """Log-uniform, so that short company is as well known as long."""
    return int(np.exp(rng.uniform(np.log(MIN_CHARS), np.log(max_chars))))


def _among(harm: str | None, chars: int, company: list[str], rng: np.random.Generator) -> str:
    parts = [] if harm is None else [harm]
    left = chars - len(harm or "")
    while True:
        part = company[rng.integers(len(company))]
        left -= len(part) + max(map(len, _BETWEEN))
        if left < 0 and len(parts) > (harm is not None):
            break
        parts.insert(int(rng.integers(len(parts) + 1)), part)
    return _BETWEEN[rng.integers(len(_BETWEEN))].join(parts)
