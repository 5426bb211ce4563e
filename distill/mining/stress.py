"""Candidates from a stress set: the labelled texts that the student gets wrong."""

from collections import Counter

import numpy as np

from distill.cascade.opinions import is_labelled, is_wrong
from distill.data import LabelledTexts
from distill.mining.candidates import Candidate, unknown
from server.core.policy import Policy


def failures(rows: LabelledTexts, scores: np.ndarray, policy: Policy, left_out: Counter[str]) -> list[Candidate]:
    """The texts whose verdict differs from that of people, over the categories whose label is known.

    Args:
        scores: the student's, float (N, C), calibrated.
        left_out: counts those without a label and those that the student gets right.
    """
    thresholds = np.array([rule.block_at for rule in policy.rules])
    labelled, wrong = is_labelled(rows.labels), is_wrong(scores, rows.labels, thresholds)
    left_out["stress_without_label"] += int((~labelled).sum())
    left_out["stress_passed"] += int((labelled & ~wrong).sum())
    return [
        Candidate(
            text=rows.texts[i],
            role=rows.roles[i],
            dataset=str(rows.datasets[i]),
            source="stress",
            reason="failed",
            labels=rows.labels[i],
            answers=unknown(),
            scores=scores[i].astype(np.float32),
        )
        for i in np.flatnonzero(labelled & wrong)
    ]
