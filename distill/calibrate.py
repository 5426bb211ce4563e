"""From raw logits to scores, thresholds and unsure bands, on a human-labelled split.

Platt scaling per category (Platt, 1999). A category with too few labels of a kind borrows the calibration fitted on all
categories together, which is a poorer one but never wild. Labels of ordinary chat should be read as 0 here
(``assume_chat_benign``): several sources label a category only where it applies, and a calibration fitted on those alone
would call every text likely.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression

from server.core.calibration import Calibration, Platt
from server.core.taxonomy import CATEGORIES

MIN_LABELS = 20
"""Positives, and negatives, that a category needs for a calibration of its own."""


def fit_calibration(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Platt parameters per category.

    Args:
        logits: raw logits or margins, float (N, C).
        labels: (N, C) with 1, 0 or NaN.

    Raises:
        ValueError: not even all categories together have both labels, or the logits rank against the labels.
    """
    if not ((labels == 1).any() and (labels == 0).any()):
        raise ValueError("calibration needs both labels: this split has only one kind")
    pooled = _fit(logits.ravel(), labels.ravel())
    if pooled is None:
        raise ValueError("these logits rank against the labels: the model has not learnt, so it can't be calibrated")
    fitted = {
        name: _fit(logits[:, c], labels[:, c], min_labels=MIN_LABELS) or pooled for c, name in enumerate(CATEGORIES)
    }  # fmt: skip
    return fitted


def apply_calibration(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Scores float64 (N, C) in [0, 1]; the same numbers as :meth:`Platt.score`, for arrays."""
    scale = np.array([calibration[name].scale for name in CATEGORIES])
    shift = np.array([calibration[name].shift for name in CATEGORIES])
    return 1.0 / (1.0 + np.exp(-np.clip(logits * scale + shift, -700, 700)))


def best_f1_thresholds(scores: np.ndarray, labels: np.ndarray, *, fallback: float = 0.5) -> list[float]:
    """Per category, the ``block_at`` with the best F1 on these labels; ``fallback`` where there are too few labels."""
    thresholds = []
    for c in range(len(CATEGORIES)):
        known = ~np.isnan(labels[:, c])
        column, truth = scores[known, c], labels[known, c]
        if min((truth == 1).sum(), (truth == 0).sum()) < MIN_LABELS:
            thresholds.append(fallback)
            continue
        order = np.argsort(-column, kind="stable")
        hits = np.cumsum(truth[order])
        f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
        best = int(np.argmax(f1))
        # Halfway to the next lower score, so that the threshold isn't one text's exact score.
        below = column[order[best + 1]] if best + 1 < len(order) else 0.0
        thresholds.append(float((column[order[best]] + below) / 2))
    return thresholds


def unsure_bands(scores: np.ndarray, thresholds: list[float], *, escalation_budget: float) -> list[tuple[float, float]]:
    """Per category, the band around ``block_at`` that sends about ``escalation_budget`` of these texts to the teacher.

    One half-width in log-odds serves all categories. A text counts as escalated when some category is in its band and
    none is blocked above its band, as the server decides it.

    Args:
        escalation_budget: share of texts in (0, 1).
    """
    edges = np.array(thresholds)
    odds, centre = _log_odds(scores), _log_odds(edges)
    low, high = 0.0, 8.0
    for _ in range(30):
        width = (low + high) / 2
        in_band = np.abs(odds - centre) <= width
        surely = (odds > centre + width).any(axis=1)
        if (in_band.any(axis=1) & ~surely).mean() > escalation_budget:
            high = width
        else:
            low = width
    return [(_sigmoid(c - low), _sigmoid(c + low)) for c in centre]


def _fit(raw: np.ndarray, labels: np.ndarray, *, min_labels: int = 1) -> Platt | None:
    known = ~np.isnan(labels)
    raw, labels = raw[known].astype(np.float64), labels[known]
    if min((labels == 1).sum(), (labels == 0).sum()) < min_labels:
        return None
    model = LogisticRegression(C=1e4, max_iter=1000).fit(raw[:, None], labels)
    scale, shift = float(model.coef_[0, 0]), float(model.intercept_[0])
    return Platt(scale, shift) if scale > 0 else None


def _log_odds(p: np.ndarray) -> np.ndarray:
    clipped = np.clip(p, 1e-9, 1 - 1e-9)
    return np.log(clipped) - np.log1p(-clipped)


def _sigmoid(z: float) -> float:
    return float(1.0 / (1.0 + np.exp(-z)))
