"""Two opinions and the labels of people, side by side: what every figure of a cascade is computed from."""

from dataclasses import dataclass, fields

import numpy as np

from distill.calibrate import apply_calibration
from distill.cascade.score_file import ScoredTexts
from distill.signals import SignalStore
from server.core.calibration import Calibration
from server.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Opinions:
    """N texts.

    Attributes:
        student: float (N, C), calibrated scores of the artefact.
        teacher: float (N, C), calibrated scores; NaN where it wasn't asked.
        labels: float (N, C) with 1, 0 or NaN, as people gave them.
        fit_labels: the same with ordinary chat read as harmless; for thresholds, never for a figure.
        weights: float (N,), mean 1: the traffic that each text stands for.
        tokens: int (N,).
        keeps_block: bool (N,), whether a block of the student stands whatever the teacher would say: the text is disguised,
            or the policy says so of all (``server/cascade.py``).
        digests: uint8 (N, 32).
    """

    student: np.ndarray
    teacher: np.ndarray
    labels: np.ndarray
    fit_labels: np.ndarray
    weights: np.ndarray
    tokens: np.ndarray
    keeps_block: np.ndarray
    digests: np.ndarray

    def __len__(self) -> int:
        return len(self.student)

    def take(self, rows: np.ndarray) -> "Opinions":
        """These rows, by index or by a mask."""
        return Opinions(*(getattr(self, field.name)[rows] for field in fields(self)))

    def halves(self) -> tuple["Opinions", "Opinions"]:
        """Two disjoint sets by a coin that is each text's own: the same text is always on the same side."""
        side = self.digests[:, 0] % 2 == 0
        return self.take(side), self.take(~side)


def join(
    scored: ScoredTexts,
    signals: SignalStore,
    calibration: Calibration,
    *,
    teacher_may_clear: bool,
    prior: float | None = None,
) -> Opinions:
    """The texts of which both have an opinion.

    Args:
        calibration: the teacher's.
        teacher_may_clear: the policy's.
        prior: share of production texts that violate something, in (0, 1); None takes the texts as they were drawn.

    Raises:
        ConfigurationError: the teacher was asked about none of these texts.
    """
    found = signals.rows([bytes(digest) for digest in scored.digests])
    both = np.flatnonzero(found >= 0)
    if not len(both):
        raise ConfigurationError(
            f"the teacher has no signal for any of the {len(scored)} texts of {scored.split}: run label on them first"
        )
    margins = np.asarray(signals.margins()[found[both]], dtype=np.float64)
    return Opinions(
        student=apply_calibration(scored.logits[both].astype(np.float64), scored.calibration),
        teacher=apply_calibration(margins, calibration),
        labels=scored.labels[both],
        fit_labels=scored.fit_labels[both],
        weights=traffic_weights(scored.labels[both], prior),
        tokens=scored.tokens[both],
        keeps_block=scored.is_disguised[both] | (not teacher_may_clear),
        digests=scored.digests[both],
    )


def traffic_weights(labels: np.ndarray, prior: float | None) -> np.ndarray:
    """float (N,), mean 1. With a prior, texts with a positive label weigh ``prior`` together and all others the rest.

    Raises:
        ConfigurationError: the prior isn't inside (0, 1), or the texts are all of one kind.
    """
    if prior is None:
        return np.ones(len(labels))
    is_harmful = (labels == 1).any(axis=1)
    share = is_harmful.mean()
    if not (0 < prior < 1 and 0 < share < 1):
        raise ConfigurationError(f"a prior of {prior:g} can't be given to texts of which {share:.0%} violate something")
    return np.where(is_harmful, prior / share, (1 - prior) / (1 - share))


def is_wrong(scores: np.ndarray, labels: np.ndarray, block_at: np.ndarray) -> np.ndarray:
    """bool (N,): the verdict differs from that of people, over the categories whose label is known."""
    known = ~np.isnan(labels)
    return ((scores >= block_at) & known).any(axis=1) != (labels == 1).any(axis=1)


def is_labelled(labels: np.ndarray) -> np.ndarray:
    """bool (N,): some label is known."""
    return ~np.isnan(labels).all(axis=1)
