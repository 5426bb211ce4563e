"""The unsure bands as the server applies them, over arrays, and the family of bands that one number widens.

A threshold ``block_at`` = t is the best one for somebody to whom a miss costs 1 − t and a false block costs t (for best F1 this
is F1's own gradient: Lipton et al., 2014). Acting on a score s then costs (1 − t)·s below t and t·(1 − s) above it in
expectation, most at s = t. A score's *doubt* is that cost over its maximum:

    doubt(s) = min(s / t, (1 − s) / (1 − t))      1 at the threshold, 0 at both ends

and a category's band holds the scores with advantage · doubt ≥ floor: asking is worth what it is expected to mend. The
*advantage* in [0, 1] says how much of the cost the teacher takes away; a category in which it takes none has no band. The
lower the ``floor``, the wider every band. Bands are nested. Escalated texts nearly are: under wide bands more texts look as if
they spoke to a model, and those keep their block.

Shapes: N texts, C categories. Scores, thresholds and ends of bands are in [0, 1]; thresholds and ends are rounded to three
decimals, as a policy file holds them, so that what is measured is what is served.
"""

import numpy as np

from server.core.taxonomy import CATEGORY_INDEX

JAILBREAK = CATEGORY_INDEX["jailbreak"]
FLOORS = np.linspace(1.0, 0.0, 1001)
"""From no band at all to bands that hold every score."""


def doubts(scores: np.ndarray, block_at: np.ndarray) -> np.ndarray:
    """float (N, C) in [0, 1]. ``block_at`` is (C,), each inside (0, 1)."""
    return np.minimum(scores / block_at, (1 - scores) / (1 - block_at))


def text_doubts(scores: np.ndarray, block_at: np.ndarray, advantage: np.ndarray, keeps_block: np.ndarray) -> np.ndarray:
    """float (N,): the highest floor at which a text is escalated, but for the rounding of its bands; 0 for never.

    A text that violates something goes to the teacher only when all that it violates is in a band: the surest violation
    decides. Any other text goes as soon as one category is in its band: the least sure decides.
    """
    worth = advantage * doubts(scores, block_at)
    violated = scores >= block_at
    surest = np.where(violated, worth, np.inf).min(axis=1)
    kept = keeps_block | violated[:, JAILBREAK] | (surest <= worth[:, JAILBREAK])
    return np.where(violated.any(axis=1), np.where(kept, 0.0, surest), worth.max(axis=1))


def bands_at(floor: float, block_at: np.ndarray, advantage: np.ndarray) -> np.ndarray:
    """Bands (C, 2) of ``[low, high]``; equal ends where nothing of a category is escalated."""
    reach = np.zeros_like(block_at)
    np.divide(advantage - floor, advantage, out=reach, where=advantage > floor)
    return np.stack([block_at * (1 - reach), block_at + reach * (1 - block_at)], axis=1).round(3)


def in_band(scores: np.ndarray, bands: np.ndarray) -> np.ndarray:
    """bool (N, C), as :meth:`server.core.policy.Rule.is_unsure` has it."""
    low, high = bands.T
    return (low < high) & (low <= scores) & (scores <= high)


def keeps_its_block(scores: np.ndarray, block_at: np.ndarray, bands: np.ndarray, keeps_block: np.ndarray) -> np.ndarray:
    """bool (N,): the student blocks it, and it may be speaking to a model or hides what it says; ``server/cascade.py``."""
    low, high = bands[JAILBREAK]
    suspect_from = min(low, block_at[JAILBREAK]) if low < high else block_at[JAILBREAK]
    return (scores >= block_at).any(axis=1) & (keeps_block | (scores[:, JAILBREAK] >= suspect_from))


def is_escalated(scores: np.ndarray, block_at: np.ndarray, bands: np.ndarray, keeps_block: np.ndarray) -> np.ndarray:
    """bool (N,): some category is in its band, none is violated outside its own, and a block doesn't have to stand."""
    unsure = in_band(scores, bands)
    is_sure = ((scores >= block_at) & ~unsure).any(axis=1)
    return unsure.any(axis=1) & ~is_sure & ~keeps_its_block(scores, block_at, bands, keeps_block)


def asked(scores: np.ndarray, block_at: np.ndarray, bands: np.ndarray, keeps_block: np.ndarray) -> np.ndarray:
    """bool (N, C): what the teacher is asked about."""
    return in_band(scores, bands) & is_escalated(scores, block_at, bands, keeps_block)[:, None]


def served_scores(student: np.ndarray, teacher: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """The scores (N, C) that the server answers with: the teacher's in place of the student's for what it was asked.

    Both are calibrated probabilities of the same thing and both are held against the same ``block_at``, so they rank
    together. One unanswered question (NaN) leaves the whole text to the student, as ``server/check.py`` does.

    Args:
        questions: bool (N, C), what is asked of whom.
    """
    unanswered = (questions & np.isnan(teacher)).any(axis=1)
    return np.where(questions & ~unanswered[:, None], teacher, student)


def floor_for_budget(
    scores: np.ndarray,
    block_at: np.ndarray,
    advantage: np.ndarray,
    keeps_block: np.ndarray,
    *,
    budget: float,
    weights: np.ndarray,
) -> float:
    """How far bands can widen while they escalate at most ``budget`` of these texts.

    Args:
        budget: share of traffic in [0, 1].
        weights: (N,), each text's share of the traffic that it stands for; any scale.
    """
    within = FLOORS[0]
    for floor in FLOORS:
        escalated = is_escalated(scores, block_at, bands_at(floor, block_at, advantage), keeps_block)
        if np.average(escalated, weights=weights) > budget:
            break
        within = floor
    return float(within)
