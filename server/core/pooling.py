"""Two opinions as one: the logarithmic opinion pool.

logit(score) = (1 − weight) · logit(student) + weight · logit(teacher). Source: Genest and Zidek, "Combining Probability
Distributions", Statistical Science 1 (1986); why in the unsure band: docs/adr/0014-both-opinions.md.
"""

import math

LEAST = 1e-9
"""Scores nearer than this to 0 or 1 count as this far from it, so that nobody's word is infinite."""


def pooled(student: float, teacher: float, weight: float) -> float:
    """The score in [0, 1] that two scores make together. ``weight`` in (0, 1] is the teacher's; 1 gives its score itself."""
    if weight == 1.0:
        return teacher
    return 1.0 / (1.0 + math.exp(-((1 - weight) * _log_odds(student) + weight * _log_odds(teacher))))


def _log_odds(score: float) -> float:
    score = min(max(score, LEAST), 1 - LEAST)
    return math.log(score / (1 - score))
