"""``block_at`` for a stated aim, per category, on a grid of three decimals as a policy file holds them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from distill.calibrate import MIN_LABELS
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

GRID = np.arange(1, 1000) / 1000
FALLBACK = 0.5


@dataclass(frozen=True, slots=True)
class Aim:
    """``value`` is the bound in (0, 1); best F1 has none."""

    kind: Literal["best-f1", "max-fpr", "min-precision"]
    value: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Aim":
        """``best-f1``, ``max-fpr=0.01`` or ``min-precision=0.9``.

        Raises:
            ConfigurationError: anything else.
        """
        kind, _, value = text.partition("=")
        if text == "best-f1":
            return cls("best-f1")
        try:
            bound = float(value)
        except ValueError:
            bound = 0.0
        if kind in ("max-fpr", "min-precision") and 0 < bound < 1:
            return cls(kind, bound)
        raise ConfigurationError(f"the aim {text!r} is not best-f1, max-fpr=R or min-precision=R with R between 0 and 1")

    def __str__(self) -> str:
        return self.kind if self.value is None else f"{self.kind}={self.value:g}"


@dataclass(frozen=True, slots=True)
class Threshold:
    """``is_met`` is False where the labels are too few, or no threshold reaches the aim and the nearest stands in."""

    block_at: float
    is_met: bool


def choose_thresholds(aim: Aim, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> list[Threshold]:
    """One threshold per category.

    ``best-f1`` takes the best F1 on these texts. ``max-fpr`` takes the lowest threshold whose false-positive rate is bounded
    in expectation on the next texts (one more negative, as heavy as any, counts as blocked: conformal risk control).
    ``min-precision`` takes the lowest threshold with that precision on these texts. A category with fewer than
    ``MIN_LABELS`` of either kind gets :data:`FALLBACK`.

    Args:
        scores: (N, C).
        labels: (N, C) with 1, 0 or NaN.
        weights: (N,), each text's share of the traffic that it stands for; any scale.
    """
    return [_choose(aim, scores[:, c], labels[:, c], weights) for c in range(len(CATEGORIES))]


def _choose(aim: Aim, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Threshold:
    is_positive, is_negative = labels == 1, labels == 0
    if min(is_positive.sum(), is_negative.sum()) < MIN_LABELS:
        return Threshold(FALLBACK, is_met=False)
    positives, negatives = weights[is_positive].sum(), weights[is_negative].sum()
    hits = _weight_at_or_above(scores[is_positive], weights[is_positive])
    false_alarms = _weight_at_or_above(scores[is_negative], weights[is_negative])
    match aim.kind:
        case "best-f1":
            f1 = 2 * hits / (hits + false_alarms + positives)
            best = np.flatnonzero(f1 >= f1.max() - 1e-12)
            # The middle of a plateau, so that the threshold is not one text's exact score.
            return Threshold(float(GRID[best[len(best) // 2]]), is_met=True)
        case "max-fpr":
            heaviest = weights[is_negative].max()
            good = (false_alarms + heaviest) / (negatives + heaviest) <= aim.value
            nearest = len(GRID) - 1
        case "min-precision":
            precision = np.divide(hits, hits + false_alarms, out=np.zeros_like(hits), where=hits > 0)
            good = precision >= aim.value
            nearest = int(np.argmax(precision))
    return Threshold(float(GRID[np.argmax(good)]), is_met=True) if good.any() else Threshold(float(GRID[nearest]), is_met=False)


def _weight_at_or_above(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each threshold of :data:`GRID`, the weight of the scores that it blocks."""
    order = np.argsort(scores)
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    return below[-1] - below[np.searchsorted(scores[order], GRID, side="left")]
