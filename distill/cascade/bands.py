"""The unsure bands as the server applies them, over arrays, and where their ends may lie.

A threshold ``block_at`` = t is the best one for somebody to whom a miss costs 1 − t and a false block costs t (for best F1 this
is F1's own gradient: Lipton et al., 2014). Acting on a score s then costs (1 − t)·s below t and t·(1 − s) above it in
expectation, most at s = t. A score's *doubt* is that cost over its maximum:

    doubt(s) = min(s / t, (1 − s) / (1 − t))      1 at the threshold, 0 at both ends

and :func:`bands_at` gives the bands that hold the scores with doubt ≥ ``floor``: the lower it is, the wider every band. They
are nested. Escalated texts nearly are: under wide bands more texts look as if they spoke to a model, and those keep their
block. :func:`bands_between` gives lopsided ones, too. A category that the teacher doesn't help with has no band.

Shapes: N texts, C categories. Scores, thresholds and ends of bands are in [0, 1]; thresholds and ends are rounded to three
decimals, as a policy file holds them, so that what is measured is what is served. ``helped`` is bool (C,): the categories that
have a band.
"""

import numpy as np
from scipy.special import expit, logit

from server.core.policy import AskAbout
from server.core.pooling import LEAST
from server.core.taxonomy import CATEGORY_INDEX

JAILBREAK = CATEGORY_INDEX["jailbreak"]
FLOORS = np.linspace(1.0, 0.0, 1001)
"""From no band at all to bands that hold every score."""


def doubts(scores: np.ndarray, block_at: np.ndarray) -> np.ndarray:
    """float (N, C) in [0, 1]. ``block_at`` is (C,), each inside (0, 1)."""
    return np.minimum(scores / block_at, (1 - scores) / (1 - block_at))


def text_doubts(scores: np.ndarray, block_at: np.ndarray, helped: np.ndarray, keeps_block: np.ndarray) -> np.ndarray:
    """float (N,): the highest floor at which a text is escalated, but for the rounding of its bands; 0 for never.

    A text that violates something goes to the teacher only when all that it violates is in a band: the surest violation
    decides. Any other text goes as soon as one category is in its band: the least sure decides.
    """
    worth = helped * doubts(scores, block_at)
    violated = scores >= block_at
    surest = np.where(violated, worth, np.inf).min(axis=1)
    kept = keeps_block | violated[:, JAILBREAK] | (surest <= worth[:, JAILBREAK])
    return np.where(violated.any(axis=1), np.where(kept, 0.0, surest), worth.max(axis=1))


def bands_at(floor: float, block_at: np.ndarray, helped: np.ndarray) -> np.ndarray:
    """Bands (C, 2) of ``[low, high]``; equal ends where nothing of a category is escalated."""
    return bands_between(floor - 1, 1 - floor, block_at, helped)


def bands_between(low: float, high: float, block_at: np.ndarray, helped: np.ndarray) -> np.ndarray:
    """Bands (C, 2) between two places, each in [-1, 1]: −1 is a score of 0, 0 the threshold, 1 a score of 1, linear between."""
    ends = [block_at * (1 + place) if place < 0 else block_at + place * (1 - block_at) for place in (low, high)]
    return np.where(np.reshape(helped, (-1, 1)), np.stack(ends, axis=1), block_at[:, None]).round(3)


def in_band(scores: np.ndarray, bands: np.ndarray) -> np.ndarray:
    """bool (N, C), as :meth:`server.core.policy.Rule.is_unsure` has it."""
    low, high = bands.T
    return (low < high) & (low <= scores) & (scores <= high)


def keeps_its_block(scores: np.ndarray, block_at: np.ndarray, bands: np.ndarray, keeps_block: np.ndarray) -> np.ndarray:
    """bool (N,): the student blocks it, and it may be speaking to a model or hides what it says; ``server/cascade.py``.

    The server keeps the block of a text with several blocked windows too: scores of whole texts can't tell.
    """
    low, high = bands[JAILBREAK]
    suspect_from = min(low, block_at[JAILBREAK]) if low < high else block_at[JAILBREAK]
    return (scores >= block_at).any(axis=1) & (keeps_block | (scores[:, JAILBREAK] >= suspect_from))


def is_escalated(scores: np.ndarray, block_at: np.ndarray, bands: np.ndarray, keeps_block: np.ndarray) -> np.ndarray:
    """bool (N,): some category is in its band, none is violated outside its own, and a block doesn't have to stand."""
    unsure = in_band(scores, bands)
    is_sure = ((scores >= block_at) & ~unsure).any(axis=1)
    return unsure.any(axis=1) & ~is_sure & ~keeps_its_block(scores, block_at, bands, keeps_block)


def asked(
    scores: np.ndarray, block_at: np.ndarray, bands: np.ndarray, keeps_block: np.ndarray, ask_about: AskAbout
) -> np.ndarray:
    """bool (N, C): what the teacher is asked about, as :meth:`server.core.policy.Policy.questions` has it."""
    categories = in_band(scores, bands) if ask_about == "unsure" else bands[:, 0] < bands[:, 1]
    return categories & is_escalated(scores, block_at, bands, keeps_block)[:, None]


def pooled(student: np.ndarray, teacher: np.ndarray, weight: float) -> np.ndarray:
    """Both opinions in one, (N, C), as :func:`server.core.pooling.pooled` has it; NaN where the teacher's is."""
    if weight == 1.0:
        return teacher
    return expit((1 - weight) * log_odds(student) + weight * log_odds(teacher))


def log_odds(scores: np.ndarray) -> np.ndarray:
    """Of scores in [0, 1], finite; any shape."""
    return logit(np.clip(scores, LEAST, 1 - LEAST))


def served_scores(student: np.ndarray, together: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """The scores (N, C) that the server answers with: both opinions for what the teacher was asked, else the student's.

    All are calibrated probabilities of the same thing and are held against the same ``block_at``, so they rank together.
    One unanswered question (NaN) leaves the whole text to the student, as ``server/cascade.py`` does.

    Args:
        together: :func:`pooled`.
        questions: bool (N, C), what is asked of whom.
    """
    unanswered = (questions & np.isnan(together)).any(axis=1)
    return np.where(questions & ~unanswered[:, None], together, student)
