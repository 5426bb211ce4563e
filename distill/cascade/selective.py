"""How well the student knows what it doesn't know: risk against coverage (El-Yaniv & Wiener, 2010)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """A curve over texts in order of doubt, the surest first.

    Attributes:
        coverage: float (N,), share of traffic that the student decides alone, rising to 1.
        risk: float (N,), share of wrong verdicts among it. Texts of equal doubt have no order: each counts as wrong as they are
            on average.
        aurc: mean risk over coverage (Geifman & El-Yaniv, 2017).
        e_aurc: what of it an order without mistakes would save (Geifman et al., 2019).
        augrc: mean over coverage of P(wrong and kept), which early mistakes weigh no more in (Traub et al., 2024).
    """

    coverage: np.ndarray
    risk: np.ndarray
    aurc: float
    e_aurc: float
    augrc: float

    def thinned(self, points: int = 100) -> list[tuple[float, float]]:
        """At most that many (coverage, risk) pairs, evenly spaced, the last included."""
        rows = np.unique(np.linspace(0, len(self.coverage) - 1, points).astype(int))
        return [(float(self.coverage[i]), float(self.risk[i])) for i in rows]


def risk_coverage(doubt: np.ndarray, is_wrong: np.ndarray, weights: np.ndarray) -> RiskCoverage:
    """Args:
    doubt: (N,), any scale.
    is_wrong: bool (N,).
    weights: (N,), above 0, any scale.
    """
    coverage, risk = _curve(doubt, is_wrong, weights)
    step = np.diff(coverage, prepend=0.0)
    _, best = _curve(is_wrong, is_wrong, weights)
    best_step = np.diff(_curve(is_wrong, is_wrong, weights)[0], prepend=0.0)
    aurc = float((step * risk).sum())
    return RiskCoverage(coverage, risk, aurc, aurc - float((best_step * best).sum()), float((step * risk * coverage).sum()))


def _curve(doubt: np.ndarray, is_wrong: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((weights, doubt))
    doubt, is_wrong, weights = doubt[order], is_wrong[order], weights[order]
    _, tie = np.unique(doubt, return_inverse=True)
    wrong = np.bincount(tie, weights=weights * is_wrong) / np.bincount(tie, weights=weights)
    kept = np.cumsum(weights)
    return kept / kept[-1], np.cumsum(weights * wrong[tie]) / kept
