"""A made-up world with known answers: true scores, a blurred student, a sharper teacher, labels drawn from the truth."""

import numpy as np

from distill.cascade.opinions import Opinions
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX

C = len(CATEGORIES)
JAILBREAK = CATEGORY_INDEX["jailbreak"]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def world(n=2000, *, seed=0, student_noise=1.5, teacher_noise=0.3, unknown=0.0, base=-3.0, disguised=0.0) -> Opinions:
    """Opinions whose noise is in log-odds; ``unknown`` is the share of labels that are NaN."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(base, 3, (n, C))
    truth[:, JAILBREAK] -= 8  # rare, as it is; a text that may be one keeps its block
    labels = (rng.random((n, C)) < sigmoid(truth)).astype(float)
    labels[rng.random((n, C)) < unknown] = np.nan
    return Opinions(
        student=sigmoid(truth + rng.normal(0, student_noise, (n, C))),
        teacher=sigmoid(truth + rng.normal(0, teacher_noise, (n, C))),
        labels=labels,
        fit_labels=labels,
        weights=np.ones(n),
        tokens=rng.integers(3, 300, n),
        keeps_block=rng.random(n) < disguised,
        digests=rng.integers(0, 256, (n, 32)).astype(np.uint8),
    )
