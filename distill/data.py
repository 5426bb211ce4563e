"""Labelled texts in, arrays out: any Parquet file with the columns of the moderation data set.

Columns: ``text``, ``dataset``, ``split`` (train/dev/test), one nullable 0/1 column per category, and optionally
``unsafe`` (the source's any-harm label), ``chat_benign`` and ``role``. A null label is *unknown* and stays NaN here:
losses and metrics mask it. Two readings of the source fill unknowns in, and nothing else does:

* ``unsafe`` = 0 says that no category applies: all become 0.
* ``chat_benign`` rows come from sets of ordinary chat: unknown categories become 0 for *training* only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from server.core.canonical import canonicalise
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES, ROLES

_ASSISTANT_SIDE = {"pyrit_scorer_evals"}
"""Sets whose texts are model outputs; the others were written by people or sent to a model."""


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """N texts. ``labels`` is float32 (N, C) with 1, 0, between where softened, or NaN: unknown. ``texts`` are canonical."""

    texts: list[str]
    roles: list[str]
    labels: np.ndarray
    datasets: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: np.ndarray) -> "LabelledTexts":
        """The rows at these indices, in their order; an index may repeat."""
        return LabelledTexts(
            [self.texts[i] for i in indices],
            [self.roles[i] for i in indices],
            self.labels[indices],
            self.datasets[indices],
        )

    def __add__(self, other: "LabelledTexts") -> "LabelledTexts":
        """These rows, then the other's."""
        return LabelledTexts(
            self.texts + other.texts,
            self.roles + other.roles,
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.datasets, other.datasets]),
        )


def load_split(path: Path, split: str, *, assume_chat_benign: bool = False) -> LabelledTexts:
    """Read one split.

    Args:
        path: the Parquet file.
        split: ``train``, ``dev`` or ``test``.
        assume_chat_benign: read unknown labels of ordinary chat as 0. For training; never for a figure.

    Raises:
        ConfigurationError: there is no such file, it is no Parquet file or lacks a column, the split is empty, or a row
            holds something else than a text, a known role, and labels in [0, 1] or null; of dev and test, what lies between.
    """
    frame = read_table(path, ("text", "dataset", "split", *CATEGORIES))
    frame = frame[frame["split"] == split]
    if frame.empty:
        raise ConfigurationError(f"{path} has no rows of split {split!r}")
    _check(path, "text", frame, [isinstance(text, str) for text in frame["text"]], "a text")
    if "role" in frame:
        _check(path, "role", frame, frame["role"].isin(ROLES), f"one of {', '.join(ROLES)}")
    for name in (*CATEGORIES, *({"unsafe"} & set(frame.columns))):
        values = pd.to_numeric(frame[name], errors="coerce")
        _check(path, name, frame, frame[name].isna() | values.between(0, 1), "0, 1, between, or null")
        if split != "train":
            _check(path, name, frame, frame[name].isna() | values.isin((0, 1)), f"0, 1 or null, as labels of split {split} are")
    labels = frame[list(CATEGORIES)].to_numpy(dtype=np.float32, na_value=np.nan, copy=True)
    if "unsafe" in frame:
        is_safe = (frame["unsafe"] == 0).fillna(False).to_numpy(dtype=bool)
        labels[is_safe[:, None] & np.isnan(labels)] = 0.0
    if assume_chat_benign and "chat_benign" in frame:
        is_chat = frame["chat_benign"].fillna(False).to_numpy(dtype=bool)
        labels[is_chat[:, None] & np.isnan(labels)] = 0.0
    datasets = frame["dataset"].to_numpy(dtype=object)
    if "role" in frame:
        roles = frame["role"].tolist()
    else:
        roles = ["assistant" if name in _ASSISTANT_SIDE else "user" for name in datasets]
    return LabelledTexts([canonicalise(text).text for text in frame["text"]], roles, labels, datasets)


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """All that a Parquet file holds. Raises ConfigurationError: there is none, or it lacks one of ``columns``."""
    if not path.exists():
        raise ConfigurationError(f"{path}: no such file")
    try:
        frame = pd.read_parquet(path)
    except ValueError as error:  # as pyarrow's own are
        raise ConfigurationError(f"{path} is no Parquet file: {error}") from None
    if missing := set(columns) - set(frame.columns):
        raise ConfigurationError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    return frame


def _check(path: Path, column: str, frame: pd.DataFrame, is_right: Sequence[bool], what: str) -> None:
    wrong = np.flatnonzero(~np.asarray(is_right, dtype=bool))
    if len(wrong):
        raise ConfigurationError(f"{path}: {column} in row {frame.index[wrong[0]]} is not {what} ({len(wrong)} such rows)")


def random_indices(count: int, size: int | None, seed: int = 0) -> np.ndarray:
    """Ascending indices of ``size`` of ``count`` rows, drawn at random and so in their own mix; None for all.

    What student and teacher are calibrated on: two scores that are held against one threshold must mean the same traffic.
    """
    return np.sort(np.random.default_rng(seed).permutation(count)[:size])


def balanced_indices(rows: LabelledTexts, size: int, seed: int) -> np.ndarray:
    """Indices of ``size`` labelled rows, drawn so that no source and no common category drowns the rest.

    A stratum is (data set, set of positive categories); it is drawn in proportion to the square root of its size, and
    within it rows are taken without repetition until it is used up. Rows with no known label are never drawn.
    """
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(~np.isnan(rows.labels).all(axis=1))
    positives = (np.nan_to_num(rows.labels[known]) == 1) @ (1 << np.arange(len(CATEGORIES)))
    strata: dict[tuple[str, int], list[int]] = {}
    for index, name, bits in zip(known, rows.datasets[known], positives, strict=True):
        strata.setdefault((name, int(bits)), []).append(index)
    members = [rng.permutation(indices) for indices in strata.values()]
    share = np.sqrt([len(indices) for indices in members])
    want = share / share.sum() * size
    taken = [indices[: min(len(indices), int(np.ceil(n)))] for indices, n in zip(members, want, strict=True)]
    left = np.concatenate([indices[len(used) :] for indices, used in zip(members, taken, strict=True)])
    drawn = np.concatenate(taken)
    if len(drawn) < size:
        drawn = np.concatenate([drawn, rng.permutation(left)[: size - len(drawn)]])
    return rng.permutation(drawn)[:size]
