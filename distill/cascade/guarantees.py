"""Bounds that hold for the next text, not only for the ones at hand, as long as both come from the same traffic.

Conformal risk control (Angelopoulos et al., 2022, arXiv 2208.02814) for a loss that only falls as bands widen; Learn then
Test with Hoeffding–Bentkus p-values and fixed-sequence testing (Angelopoulos et al., 2021, arXiv 2110.01052) for a risk that
may rise again. Weights stand for traffic that holds other shares of the same kinds of text: they are exact as far as the
stated shares are.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom


def controlled_risk(losses: np.ndarray, weights: np.ndarray) -> float:
    """What conformal risk control holds below alpha: the mean loss with one more text, as heavy as any, counted as lost.

    Choosing the first setting at which this is at most alpha bounds the *expected* loss of the next text by alpha, if
    the losses of every text can only fall along the settings.

    Args:
        losses: (N,) in [0, 1].
        weights: (N,), above 0, any scale.
    """
    heaviest = weights.max()
    return float(((weights * losses).sum() + heaviest) / (weights.sum() + heaviest))


def selective_p_value(is_wrong: np.ndarray, weights: np.ndarray, *, heaviest: float, alpha: float) -> float:
    """Hoeffding–Bentkus p-value of "more than ``alpha`` of the kept traffic is wrong"; 1 where nothing is kept.

    Args:
        is_wrong: bool (K,), over the texts that are kept from the teacher.
        weights: (K,), above 0.
        heaviest: the most that any text can weigh, whether or not one is kept: the heavy text that a small sample lacks is
            the one that the bound is about.
        alpha: in (0, 1).
    """
    if not len(is_wrong):
        return 1.0
    # In [0, 1]; their mean is at most alpha exactly where the weighted share is. Without weights it is the share itself.
    terms = (weights * (is_wrong - alpha) + alpha * heaviest) / heaviest
    return hoeffding_bentkus(float(terms.mean()), len(terms), alpha=alpha)


def hoeffding_bentkus(mean: float, n: int, *, alpha: float) -> float:
    """A valid p-value of "the expectation is above ``alpha``", from the mean of ``n`` independent values in [0, 1]."""
    hoeffding = math.exp(-n * _divergence(min(mean, alpha), alpha))
    # A mean of k/n must not become k+1 by a rounding error.
    bentkus = math.e * float(binom.cdf(math.ceil(n * mean - 1e-9), n, alpha))
    return min(1.0, hoeffding, bentkus)


def furthest_rejected(p_values: Sequence[float], starts: Sequence[int], *, delta: float) -> int | None:
    """Fixed-sequence testing with several starts: how far along the sequence every null hypothesis on the way is rejected.

    From each start the walk goes on while p ≤ ``delta`` / number of starts. With probability 1 − ``delta`` at least, no
    true null is among the rejected.

    Args:
        p_values: one per setting, from the widest bands to the narrowest.
        starts: places in that sequence, chosen without a look at the labels that the p-values are made of.

    Returns:
        The furthest place that was reached; None where no start was rejected itself.
    """
    reached = []
    for start in set(starts):
        place = start
        while place < len(p_values) and p_values[place] <= delta / len(set(starts)):
            place += 1
        if place > start:
            reached.append(place - 1)
    return max(reached, default=None)


def _divergence(a: float, b: float) -> float:
    """Kullback–Leibler divergence between coins of a and b."""
    left = a * math.log(a / b) if a > 0 else 0.0
    right = (1 - a) * math.log((1 - a) / (1 - b)) if a < 1 else 0.0
    return left + right
