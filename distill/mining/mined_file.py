"""The file that ``mine`` writes: labelled Parquet as :mod:`distill.data` reads it, with what the serving teacher said beside.

Beyond those columns: ``teacher_<category>`` (the serving teacher's calibrated score, or null), ``source``, ``reason``,
``copies`` and ``teacher_may_clear`` (:mod:`distill.mining.candidates`). It holds texts that were served: readable by its owner
alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit

from distill.mining.candidates import Candidate
from server.core.taxonomy import CATEGORIES

_SURE = 6.0
"""The largest logit that a logged answer counts for: 0.25 % away from certainty."""


def write_mined(path: Path, candidates: Sequence[Candidate], splits: Sequence[str]) -> None:
    """Write it whole or not at all, with mode 0600.

    Args:
        splits: ``train`` or ``test`` for each candidate.
    """
    labels = np.array([c.labels for c in candidates], dtype=np.float32).reshape(-1, len(CATEGORIES))
    answers = np.array([c.answers for c in candidates], dtype=np.float32).reshape(-1, len(CATEGORIES))
    frame = pd.DataFrame(
        {
            "text": pd.array([c.text for c in candidates], dtype="str"),
            "role": pd.array([c.role for c in candidates], dtype="str"),
            "dataset": pd.array([c.dataset for c in candidates], dtype="str"),
            "split": pd.array(splits, dtype="str"),
            "source": pd.array([c.source for c in candidates], dtype="str"),
            "reason": pd.array([c.reason for c in candidates], dtype="str"),
            "copies": pd.array([c.copies for c in candidates], dtype="int64"),
            "teacher_may_clear": pd.array([c.teacher_may_clear for c in candidates], dtype="bool"),
        }
        | {name: pd.array(labels[:, c], dtype="Int8") for c, name in enumerate(CATEGORIES)}
        | {f"teacher_{name}": pd.array(answers[:, c], dtype="Float32") for c, name in enumerate(CATEGORIES)}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        frame.to_parquet(stream)
    partial.replace(path)


def read_answers(path: Path, split: str) -> np.ndarray:
    """Logits float32 (N, C) of what the serving teacher said, NaN where it said nothing; in the order of
    :func:`distill.data.load_split`. All NaN for a file that has no such columns."""
    frame = _read_split(path, split)
    names = [f"teacher_{name}" for name in CATEGORIES]
    if not set(names) <= set(frame.columns):
        return np.full((len(frame), len(CATEGORIES)), np.nan, dtype=np.float32)
    scores = frame[names].to_numpy(dtype=np.float64, na_value=np.nan)
    return np.clip(logit(scores), -_SURE, _SURE).astype(np.float32)


def read_may_clear(path: Path, split: str) -> np.ndarray:
    """bool (N,): whether a teacher's No to the text may be learnt; in the order of :func:`distill.data.load_split`. All True
    for a file that doesn't say."""
    frame = _read_split(path, split)
    if "teacher_may_clear" not in frame:
        return np.ones(len(frame), dtype=bool)
    return frame["teacher_may_clear"].to_numpy(dtype=bool)


def _read_split(path: Path, split: str) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    return frame[frame["split"] == split]
