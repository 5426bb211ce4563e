"""Bands that escalate no more than a budget allows: how wide, and on which side of the threshold.

Around the threshold the student's verdict is least sure, so bands that reach equally far to both sides mend most verdicts *if
its scores mean what they say*. They mean it of the traffic that they were calibrated on. Where harm is rarer than there, much
of what the student blocks with confidence is wrong, and the same budget does more above the threshold, where blocks are
confirmed. And a ranking is made at its top, whatever the threshold. So lopsided bands are tried, too, each as wide as the
budget allows, and people's labels say which serve best.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from distill.cascade.bands import FLOORS, asked, bands_at, bands_between, is_escalated, pooled, served_scores
from distill.cascade.opinions import Opinions, is_labelled, is_wrong
from distill.metrics import average_precision
from server.core.policy import AskAbout

Objective = Literal["verdicts", "ranking"]
"""What bands shall be best at: the fewest wrong verdicts, or the highest pooled AU-PRC of the served scores."""

_UPPER_ENDS = tuple(n / 10 for n in range(1, 11))
_PLACES = np.linspace(1.0, -1.0, 2001)


def symmetric_bands(
    scores: np.ndarray, block_at: np.ndarray, helped: np.ndarray, keeps_block: np.ndarray, *, budget: float, weights: np.ndarray
) -> np.ndarray:
    """The widest bands (C, 2) around the thresholds that escalate at most ``budget`` of these texts.

    Args:
        budget: share of traffic in [0, 1].
        weights: (N,), each text's share of the traffic that it stands for; any scale.
    """
    share = _escalated_share(scores, block_at, keeps_block, weights)
    return _widest(FLOORS, lambda floor: bands_at(floor, block_at, helped), share, budget)


def best_bands(
    dev: Opinions,
    block_at: np.ndarray,
    helped: np.ndarray,
    teacher_weight: float,
    *,
    budget: float,
    objective: Objective,
    ask_about: AskAbout,
) -> np.ndarray:
    """The bands (C, 2) within ``budget`` that serve these texts best; the symmetric ones unless others are better."""
    share = _escalated_share(dev.student, block_at, dev.keeps_block, dev.weights)
    together = pooled(dev.student, dev.teacher, teacher_weight)

    def worth(bands: np.ndarray) -> float:
        questions = asked(dev.student, block_at, bands, dev.keeps_block, ask_about)
        return _worth(served_scores(dev.student, together, questions), dev, block_at, objective)

    candidates = [_widest(FLOORS, lambda floor: bands_at(floor, block_at, helped), share, budget)]
    for high in _UPPER_ENDS:
        lows = _PLACES[high >= _PLACES]
        candidates.append(_widest(lows, lambda low, high=high: bands_between(low, high, block_at, helped), share, budget))
    return max(candidates, key=worth)


def _escalated_share(
    scores: np.ndarray, block_at: np.ndarray, keeps_block: np.ndarray, weights: np.ndarray
) -> Callable[[np.ndarray], float]:
    return lambda bands: np.average(is_escalated(scores, block_at, bands, keeps_block), weights=weights)


def _widest(
    places: Sequence[float], bands: Callable[[float], np.ndarray], share: Callable[[np.ndarray], float], budget: float
) -> np.ndarray:
    """The last bands within the budget; ``places`` run from none to the widest."""
    beyond = bisect_right(places, budget, key=lambda place: share(bands(place)))
    return bands(places[max(beyond - 1, 0)])


def _worth(scores: np.ndarray, dev: Opinions, block_at: np.ndarray, objective: Objective) -> float:
    if objective == "ranking":
        return average_precision(scores.ravel(), dev.labels.ravel(), np.repeat(dev.weights, scores.shape[1])) or 0.0
    labelled = is_labelled(dev.labels)
    if not labelled.any():
        return 0.0
    return -np.average(is_wrong(scores[labelled], dev.labels[labelled], block_at), weights=dev.weights[labelled])
