"""From raw logits to scores, on a human-labelled split.

Per category, Platt scaling (Platt, 1999) or, where it has the lower cross-validated log loss, temperature scaling (Guo et
al., 2017), which is Platt's with a shift of 0. A category with too few labels of a kind borrows the calibration fitted on
all categories together, which is a poorer one but never wild. Labels of ordinary chat should be read as 0 here
(``assume_chat_benign``): several sources label a category only where it applies, and a calibration fitted on those alone
would call every text likely.
"""

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from server.core.calibration import Calibration, Platt
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

MIN_LABELS = 20
"""Positives, and negatives, that a category needs for a calibration or a threshold of its own."""


def fit_calibration(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """One scale and one shift per category.

    Args:
        logits: raw logits or margins, float (N, C).
        labels: (N, C) with 1, 0 or NaN; what lies between is left out.

    Raises:
        ConfigurationError: not even all categories together have both labels, or the logits rank against the labels.
    """
    if not ((labels == 1).any() and (labels == 0).any()):
        raise ConfigurationError("calibration needs both labels: this split has only one kind")
    pooled = _fit(logits.ravel(), labels.ravel())
    if pooled is None:
        raise ConfigurationError("these logits rank against the labels: the model has not learnt, so it can't be calibrated")
    fitted = {
        name: _fit(logits[:, c], labels[:, c], min_labels=MIN_LABELS) or pooled for c, name in enumerate(CATEGORIES)
    }  # fmt: skip
    return fitted


def apply_calibration(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Scores float64 (N, C) in [0, 1]; the same numbers as :meth:`Platt.score`, for arrays."""
    return expit(calibrated_logits(logits, calibration))


def calibrated_logits(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Their log-odds float64 (N, C)."""
    scale = np.array([calibration[name].scale for name in CATEGORIES])
    shift = np.array([calibration[name].shift for name in CATEGORIES])
    return logits * scale + shift


def _fit(raw: np.ndarray, labels: np.ndarray, *, min_labels: int = 1) -> Platt | None:
    known = (labels == 0) | (labels == 1)
    raw, labels = raw[known].astype(np.float64)[:, None], labels[known]
    rarest = min((labels == 1).sum(), (labels == 0).sum())
    if rarest < min_labels:
        return None
    platt, temperature = _regression(with_shift=True), _regression(with_shift=False)
    is_temperature_better = rarest >= MIN_LABELS and _log_loss(temperature, raw, labels) < _log_loss(platt, raw, labels)
    model = (temperature if is_temperature_better else platt).fit(raw, labels)
    scale, shift = float(model.coef_[0, 0]), float(np.ravel(model.intercept_)[0])
    return Platt(scale, shift) if scale > 0 else None


def _regression(*, with_shift: bool) -> LogisticRegression:
    return LogisticRegression(C=1e4, max_iter=1000, fit_intercept=with_shift)


def _log_loss(model: LogisticRegression, raw: np.ndarray, labels: np.ndarray) -> float:
    """Mean over five held-out fifths, always the same ones."""
    fifths = StratifiedKFold(5, shuffle=True, random_state=0)
    return -float(cross_val_score(model, raw, labels, cv=fifths, scoring="neg_log_loss").mean())
