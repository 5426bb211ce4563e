"""How good scores are, on human labels. Unknown labels (NaN) are left out of every figure.

Shapes: N texts, C categories; ``weights`` are like the labels, in any scale, and None means equal ones. *Pooled* means over
all known (text, category) pairs together; *macro* is the mean over the categories that have a figure. A figure that the labels
can't support (no positive, or no negative) is None.
"""

from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from server.core.policy import Policy
from server.core.taxonomy import CATEGORIES


def average_precision(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    """AU-PRC as average precision, in [0, 1], of 1-D scores over 1-D labels; None without both classes."""
    scores, labels, weights = _known(scores, labels, weights)
    return float(average_precision_score(labels, scores, sample_weight=weights)) if _has_both(labels) else None


def average_precision_per_category(scores: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """AU-PRC of each column of (N, C)."""
    return {name: average_precision(scores[:, c], labels[:, c]) for c, name in enumerate(CATEGORIES)}


def expected_calibration_error(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, *, bins: int = 15
) -> float | None:
    """Mean gap between score and frequency over bins of equally many labels, in [0, 1] (Naeini et al., 2015)."""
    scores, labels, weights = _known(scores, labels, weights)
    if len(scores) < bins:
        return None
    parts = np.array_split(np.argsort(scores, kind="stable"), bins)
    return float(sum(abs((weights[p] * (scores[p] - labels[p])).sum()) for p in parts) / weights.sum())


def recall_at_fpr(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, *, max_fpr: float = 0.01
) -> float | None:
    """The largest recall that any threshold reaches with a false-positive rate of at most ``max_fpr``."""
    scores, labels, weights = _known(scores, labels, weights)
    if not _has_both(labels):
        return None
    false_positive_rate, recall, _ = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    return float(recall[false_positive_rate <= max_fpr].max())


def evaluate(
    scores: np.ndarray,
    labels: np.ndarray,
    policy: Policy,
    datasets: np.ndarray | None = None,
    *,
    weights: np.ndarray | None = None,
) -> dict[str, Any]:
    """All figures of one model on one split.

    Args:
        scores: float (N, C), calibrated.
        labels: float (N, C) with 1, 0 or NaN.
        policy: its ``block_at`` gives F1 its thresholds.
        datasets: (N,) names; when given, pooled figures per data set are added.
        weights: (N,), here of whole texts: the traffic that each stands for.

    Returns:
        ``{"rows", "pooled": {...}, "macro": {...}, "categories": {name: {...}}, "datasets": {name: {...}}}`` where each
        inner record has ``positives, negatives, au_prc, auroc, f1, ece, recall_at_1pct_fpr``.
    """
    weights = np.broadcast_to(np.ones((len(scores), 1)) if weights is None else weights[:, None], scores.shape)
    flagged = scores >= np.array([rule.block_at for rule in policy.rules])

    def figures(where: Any) -> dict[str, Any]:
        return _figures(*(values[where].ravel() for values in (scores, flagged, labels, weights)))

    categories = {name: figures(np.s_[:, c]) for c, name in enumerate(CATEGORIES)}
    report: dict[str, Any] = {
        "rows": len(scores),
        "pooled": figures(np.s_[:]),
        "macro": {key: _mean([f[key] for f in categories.values()]) for key in ("au_prc", "auroc", "f1", "ece")},
        "categories": categories,
    }
    if datasets is not None:
        report["datasets"] = {str(name): figures(datasets == name) for name in sorted(set(datasets))}
    return report


def _figures(scores: np.ndarray, flagged: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    known = ~np.isnan(labels)
    scores, flagged, labels, weights = scores[known], flagged[known], labels[known], weights[known]
    has_positives = bool((labels == 1).any())
    return {
        "positives": int((labels == 1).sum()),
        "negatives": int((labels == 0).sum()),
        "au_prc": average_precision(scores, labels, weights),
        "auroc": float(roc_auc_score(labels, scores, sample_weight=weights)) if _has_both(labels) else None,
        "f1": float(f1_score(labels, flagged, sample_weight=weights, zero_division=0.0)) if has_positives else None,
        "ece": expected_calibration_error(scores, labels, weights),
        "recall_at_1pct_fpr": recall_at_fpr(scores, labels, weights),
    }


def _known(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = ~np.isnan(labels)
    return scores[known], labels[known], np.ones(known.sum()) if weights is None else weights[known]


def _has_both(labels: np.ndarray) -> bool:
    return bool((labels == 1).any() and (labels == 0).any())


def _mean(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None
