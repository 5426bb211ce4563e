"""How good scores are, on human labels. Unknown labels (NaN) are left out of every figure.

Shapes: N texts, C categories. *Pooled* means over all known (text, category) pairs together; *macro* is the mean over the
categories that have a figure. A figure that the labels can't support (no positive, or no negative) is None.
"""

from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from server.core.policy import Policy
from server.core.taxonomy import CATEGORIES


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """AU-PRC as average precision, in [0, 1], of 1-D scores over 1-D labels; None without both classes."""
    scores, labels = _known(scores, labels)
    return float(average_precision_score(labels, scores)) if _has_both(labels) else None


def average_precision_per_category(scores: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """AU-PRC of each column of (N, C)."""
    return {name: average_precision(scores[:, c], labels[:, c]) for c, name in enumerate(CATEGORIES)}


def expected_calibration_error(scores: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> float | None:
    """Mean gap between score and frequency over equal-mass bins, in [0, 1] (Naeini et al., 2015)."""
    scores, labels = _known(scores, labels)
    if len(scores) < bins:
        return None
    parts = np.array_split(np.argsort(scores, kind="stable"), bins)
    return float(sum(len(p) * abs(scores[p].mean() - labels[p].mean()) for p in parts) / len(scores))


def recall_at_fpr(scores: np.ndarray, labels: np.ndarray, *, max_fpr: float = 0.01) -> float | None:
    """The largest recall that any threshold reaches with a false-positive rate of at most ``max_fpr``."""
    scores, labels = _known(scores, labels)
    if not _has_both(labels):
        return None
    false_positive_rate, recall, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(recall[false_positive_rate <= max_fpr].max())


def evaluate(scores: np.ndarray, labels: np.ndarray, policy: Policy, datasets: np.ndarray | None = None) -> dict[str, Any]:
    """All figures of one model on one split.

    Args:
        scores: float (N, C), calibrated.
        labels: float (N, C) with 1, 0 or NaN.
        policy: its ``block_at`` gives F1 its thresholds.
        datasets: (N,) names; when given, pooled figures per data set are added.

    Returns:
        ``{"rows", "pooled": {...}, "macro": {...}, "categories": {name: {...}}, "datasets": {name: {...}}}`` where each
        inner record has ``positives, negatives, au_prc, auroc, f1, ece, recall_at_1pct_fpr``.
    """
    thresholds = np.array([rule.block_at for rule in policy.rules])
    flagged = scores >= thresholds
    categories = {
        name: _figures(scores[:, c], flagged[:, c], labels[:, c]) for c, name in enumerate(CATEGORIES)
    }  # fmt: skip
    report: dict[str, Any] = {
        "rows": len(scores),
        "pooled": _figures(scores.ravel(), flagged.ravel(), labels.ravel()),
        "macro": {key: _mean([f[key] for f in categories.values()]) for key in ("au_prc", "auroc", "f1", "ece")},
        "categories": categories,
    }
    if datasets is not None:
        report["datasets"] = {
            str(name): _figures(scores[rows].ravel(), flagged[rows].ravel(), labels[rows].ravel())
            for name in sorted(set(datasets))
            for rows in [datasets == name]
        }
    return report


def _figures(scores: np.ndarray, flagged: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    known = ~np.isnan(labels)
    scores, flagged, labels = scores[known], flagged[known], labels[known]
    both = _has_both(labels)
    return {
        "positives": int((labels == 1).sum()),
        "negatives": int((labels == 0).sum()),
        "au_prc": average_precision(scores, labels),
        "auroc": float(roc_auc_score(labels, scores)) if both else None,
        "f1": float(f1_score(labels, flagged, zero_division=0.0)) if (labels == 1).any() else None,
        "ece": expected_calibration_error(scores, labels),
        "recall_at_1pct_fpr": recall_at_fpr(scores, labels),
    }


def _known(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = ~np.isnan(labels)
    return scores[known], labels[known]


def _has_both(labels: np.ndarray) -> bool:
    return bool((labels == 1).any() and (labels == 0).any())


def _mean(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None
