"""A learned router: asks where the teacher is likely to mend the verdict, instead of where the student is unsure.

Where doubt is a poor guide (a teacher better at some texts only, or texts unlike the training set's) it can win; whether it
does is measured on test against the bands at the same rates.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from distill.calibrate import MIN_LABELS
from distill.cascade.bands import bands_at, keeps_its_block, log_odds, pooled, text_doubts
from distill.cascade.choose import Choice, costs
from distill.cascade.operating_points import Bench, mended
from distill.cascade.opinions import Opinions, is_labelled
from distill.metrics import average_precision
from server.core.pooling import LEAST

_DRAWS = 100


@dataclass(frozen=True, slots=True)
class Router:
    """A fitted logistic regression and, per rate, the probability from which on it asks and the categories that it asks about,
    bool (C,): those in which both opinions cost less than the student's on such texts of dev."""

    model: Pipeline
    choice: Choice
    ask_from: dict[float, float]
    categories: dict[float, np.ndarray]

    def questions(self, opinions: Opinions, rate: float) -> np.ndarray:
        """bool (N, C): what it asks the teacher."""
        likely = _likely(self.model, opinions, self.choice)
        return (likely >= self.ask_from[rate])[:, None] & self.categories[rate]


def features(opinions: Opinions, choice: Choice) -> np.ndarray:
    """float (N, C + 4): log-odds per category, the scores' entropy, the bands' doubt, log length, disguised or not."""
    scores = np.clip(opinions.student, LEAST, 1 - LEAST)
    entropy = -(scores * np.log(scores) + (1 - scores) * np.log1p(-scores)).sum(axis=1)
    doubt = text_doubts(opinions.student, choice.block_at, choice.helped, opinions.keeps_block)
    return np.column_stack([log_odds(scores), entropy, doubt, np.log1p(opinions.tokens), opinions.keeps_block])


def fit_router(dev: Opinions, choice: Choice, rates: tuple[float, ...]) -> Router | None:
    """Fit on the labelled texts of dev, each as much as the traffic that it stands for: does the teacher mend this verdict?
    None where it mends fewer than ``MIN_LABELS``."""
    labelled = dev.take(is_labelled(dev.labels))
    target = mended(labelled, pooled(labelled.student, labelled.teacher, choice.teacher_weight), choice.block_at)
    if min(target.sum(), (~target).sum()) < MIN_LABELS:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(features(labelled, choice), target, logisticregression__sample_weight=labelled.weights)
    likely = _likely(model, dev, choice)
    ask_from = {rate: _lowest_within(likely, dev.weights, budget=rate) for rate in rates}
    together = pooled(dev.student, dev.teacher, choice.teacher_weight)
    saved = costs(dev.student, dev.labels, choice.block_at) - costs(together, dev.labels, choice.block_at)
    saved = dev.weights[:, None] * saved
    categories = {rate: saved[likely >= start].sum(axis=0) > 0 for rate, start in ask_from.items()}
    return Router(model, choice, ask_from, categories)


def compare(router: Router, by_rate: dict[float, np.ndarray], test: Bench, *, seed: int = 0) -> list[dict[str, Any]]:
    """Router against bands on test, rate by rate.

    Returns:
        One record per rate: the router's operating point, the bands' ``au_prc``, and the ``lead`` of the router in pooled
        AU-PRC with its 90 % interval from a paired bootstrap over texts; ``wins`` where the interval lies above 0.
    """
    records = []
    truth, weights = test.opinions.labels, test.opinions.weights
    for rate, bands in by_rate.items():
        name = f"router@{rate:g}"
        questions = router.questions(test.opinions, rate)
        point = test.answering(name, questions)
        ours, theirs = (test.served(asked) for asked in (questions, test.questions(bands)))
        lead, low, high = bootstrap_lead(ours, theirs, truth, weights=weights, seed=seed)
        records.append(
            {
                "rate": rate,
                "router": point,
                "bands_au_prc": average_precision(theirs.ravel(), truth.ravel(), np.repeat(weights, truth.shape[1])),
                "lead": lead,
                "interval": [low, high],
                "wins": low > 0,
            }
        )
    return records


def bootstrap_lead(
    ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray, *, weights: np.ndarray | None = None, seed: int
) -> tuple[float, float, float]:
    """Pooled AU-PRC of one set of scores (N, C) above another's on the same texts, and its 5th and 95th percentile over
    resampled texts. ``weights`` is (N,), the traffic that each stands for."""
    mass = np.ones(len(labels)) if weights is None else weights
    rng = np.random.default_rng(seed)

    def lead(rows: np.ndarray) -> float:
        truth, masses = labels[rows].ravel(), np.repeat(mass[rows], labels.shape[1])
        figures = [average_precision(scores[rows].ravel(), truth, masses) for scores in (ours, theirs)]
        return 0.0 if None in figures else figures[0] - figures[1]

    draws = [lead(rng.integers(len(labels), size=len(labels))) for _ in range(_DRAWS)]
    low, high = np.percentile(draws, [5, 95])
    return lead(np.arange(len(labels))), float(low), float(high)


def _likely(model: Pipeline, opinions: Opinions, choice: Choice) -> np.ndarray:
    """float (N,): how likely the teacher mends a verdict; 0 for a text that keeps its block, as it does under bands."""
    no_bands = bands_at(1.0, choice.block_at, choice.helped)
    kept = keeps_its_block(opinions.student, choice.block_at, no_bands, opinions.keeps_block)
    return np.where(kept, 0.0, model.predict_proba(features(opinions, choice))[:, 1])


def _lowest_within(likely: np.ndarray, weights: np.ndarray, *, budget: float) -> float:
    """The lowest probability such that at most ``budget`` of the weight lies at or above it; infinite where none is."""
    values, group = np.unique(-likely, return_inverse=True)
    share = np.cumsum(np.bincount(group, weights=weights)) / weights.sum()
    within = np.flatnonzero(share <= budget)
    return float(-values[within[-1]]) if len(within) else float("inf")
