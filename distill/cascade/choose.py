"""Thresholds, the teacher's weight and unsure bands for a stated aim and a stated target, on dev."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.linear_model import LogisticRegression

from distill.cascade.aims import Aim, Threshold, choose_thresholds
from distill.cascade.bands import FLOORS, bands_at, is_escalated, log_odds, pooled
from distill.cascade.budget import Objective, best_bands, symmetric_bands
from distill.cascade.guarantees import controlled_risk, furthest_rejected, selective_p_value
from distill.cascade.opinions import Opinions, is_labelled, is_wrong
from server.core.errors import ConfigurationError
from server.core.policy import AskAbout
from server.core.pooling import LEAST
from server.core.taxonomy import CATEGORIES

_PRIOR_LABELS = 200.0
"""As how many labels of its own the saving of all categories counts for each of them."""
_START_SHARES = (0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True)
class Target:
    """What the bands are chosen for.

    Attributes:
        kind: ``budget`` bounds the share of traffic that is escalated, on these texts; ``joint-risk`` bounds the expected
            P(wrong and not escalated); ``selective-risk`` bounds P(wrong | not escalated) with probability 1 − ``delta``.
        value: in (0, 1).
        delta: in (0, 1); the selective risk's only.
        objective: what a budget's bands shall be best at, and those of the report's rates.
    """

    kind: Literal["budget", "joint-risk", "selective-risk"]
    value: float
    delta: float = 0.1
    objective: Objective = "verdicts"

    def __post_init__(self) -> None:
        if not (0 < self.value < 1 and 0 < self.delta < 1):
            raise ConfigurationError(f"{self.kind} {self.value:g} and delta {self.delta:g} must lie between 0 and 1")


@dataclass(frozen=True, slots=True)
class Choice:
    """``helped`` is bool (C,), the categories that have a band; ``bands`` is (C, 2); ``teacher_weight`` is in [0, 1].

    With a weight of 0 no category has a band.
    """

    thresholds: tuple[Threshold, ...]
    helped: np.ndarray
    bands: np.ndarray
    teacher_weight: float = 1.0

    @property
    def block_at(self) -> np.ndarray:
        return np.array([threshold.block_at for threshold in self.thresholds])

    def policy_numbers(self) -> dict[str, dict[str, Any]]:
        """``block_at`` and ``unsure`` by category, as :func:`distill.policy_file.write_numbers` takes them."""
        bands = [(low, high) for low, high in self.bands.tolist()]
        return {
            "block_at": dict(zip(CATEGORIES, self.block_at.tolist(), strict=True)),
            "unsure": dict(zip(CATEGORIES, bands, strict=True)),
        }


def choose_without_teacher(scores: np.ndarray, labels: np.ndarray, *, budget: float) -> Choice:
    """Best-F1 thresholds, and the widest bands within the budget, as if the teacher were equally good at every category.

    Args:
        scores: (N, C), calibrated.
        labels: (N, C) with 1, 0 or NaN.
        budget: share of these texts in (0, 1).
    """
    weights, everywhere = np.ones(len(scores)), np.ones(len(CATEGORIES), dtype=bool)
    thresholds = tuple(choose_thresholds(Aim("best-f1"), scores, labels, weights))
    block_at = np.array([threshold.block_at for threshold in thresholds])
    keeps_block = np.zeros(len(scores), dtype=bool)
    bands = symmetric_bands(scores, block_at, everywhere, keeps_block, budget=budget, weights=weights)
    return Choice(thresholds, everywhere, bands)


def choose(dev: Opinions, aim: Aim, target: Target, ask_about: AskAbout) -> Choice:
    """The best bands within a budget, or the narrowest that keep a promise.

    A budget is spent on the categories that the teacher was seen to help with, and all of dev is used. A promise is about
    the student's own mistakes: every category has a band, one half of dev chooses the thresholds, and the other half
    certifies the bands, since the bounds hold only for choices that its labels had no part in.

    Args:
        ask_about: the policy's.

    Raises:
        ConfigurationError: too few texts for the promise, or a teacher that can't help to keep it.
    """
    weight = choose_weight(dev)
    if target.kind == "budget":
        thresholds = choose_thresholds(aim, dev.student, dev.fit_labels, dev.weights)
        block_at = np.array([threshold.block_at for threshold in thresholds])
        helped = helped_categories(dev, weight)
        bands = best_bands(dev, block_at, helped, weight, budget=target.value, objective=target.objective, ask_about=ask_about)
        return Choice(tuple(thresholds), helped, bands, weight)
    if weight == 0:
        raise ConfigurationError(
            f"no {target.kind} can be promised: on these texts the teacher can't be told from a useless one"
        )
    choosing, certifying = dev.halves()
    thresholds = choose_thresholds(aim, choosing.student, choosing.fit_labels, choosing.weights)
    block_at = np.array([threshold.block_at for threshold in thresholds])
    certifying = certifying.take(is_labelled(certifying.labels))
    find = _floor_for_joint_risk if target.kind == "joint-risk" else _floor_for_selective_risk
    floor = find(choosing, certifying, block_at, target) if len(certifying) else None
    if floor is None:
        raise ConfigurationError(f"{len(certifying)} labelled texts can't promise a {target.kind} of {target.value:g}")
    everywhere = np.ones(len(CATEGORIES), dtype=bool)
    return Choice(tuple(thresholds), everywhere, bands_at(floor, block_at, everywhere), weight)


def choose_weight(opinions: Opinions) -> float:
    """The teacher's weight in [0, 1] that the labels give it, to two decimals; 0 if they can't tell it from a useless one.

    Logistic regression of the label on both log-odds, over all labels and categories, gives the two coefficients of the best
    log-linear pool; the weight is the teacher's share of them, since both scores are calibrated already. It is 0 where the
    teacher's coefficient is within two standard errors of nothing. All texts count and not only those of which the student
    is unsure: those are too few. One weight for all categories: a logistic fit for each was 0.002 better in AU-PRC
    on texts that it hadn't seen (``docs/lab-notes.md``).
    """
    known = ~(np.isnan(opinions.labels) | np.isnan(opinions.teacher))
    inputs = np.column_stack([log_odds(opinions.student[known]), log_odds(opinions.teacher[known])])
    weights = np.broadcast_to(opinions.weights[:, None], known.shape)[known]
    if len(set(opinions.labels[known])) < 2:
        return 0.0
    model = LogisticRegression(C=np.inf, max_iter=1000).fit(inputs, opinions.labels[known], weights)
    likely = model.predict_proba(inputs)[:, 1]
    terms = np.column_stack([inputs, np.ones(len(inputs))])
    information = terms.T @ (terms * (weights * likely * (1 - likely))[:, None])
    student, teacher = model.coef_[0]
    if teacher < 2 * np.sqrt(np.linalg.pinv(information)[1, 1]):
        return 0.0
    return round(float(teacher / (max(student, 0.0) + teacher)), 2)


def helped_categories(opinions: Opinions, weight: float) -> np.ndarray:
    """bool (C,): where both opinions together lose less than the student alone.

    A category with few labels leans on all of them together: it counts as if it had ``_PRIOR_LABELS`` labels more, with
    the saving that all categories have on average. None where the weight is 0.
    """
    if weight == 0:
        return np.zeros(len(CATEGORIES), dtype=bool)
    before, labels = _log_losses(opinions, opinions.student)
    after, _ = _log_losses(opinions, pooled(opinions.student, opinions.teacher, weight))
    common = (before - after).sum() / max(labels.sum(), 1e-12)
    return before - after + _PRIOR_LABELS * common > 0


def _log_losses(opinions: Opinions, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C,) summed log loss, and (C,) summed weight of the labels, both where the teacher has an opinion."""
    known = ~(np.isnan(opinions.labels) | np.isnan(opinions.teacher))
    right = np.clip(np.where(opinions.labels == 1, scores, 1 - scores), LEAST, 1.0)
    weights = opinions.weights[:, None] * known
    return (weights * np.where(known, -np.log(right), 0.0)).sum(axis=0), weights.sum(axis=0)


def costs(scores: np.ndarray, labels: np.ndarray, block_at: np.ndarray) -> np.ndarray:
    """(N, C): 1 − t for a miss, t for a false block, 0 for what is right, unknown or unanswered."""
    missed = (labels == 1) & (scores < block_at)
    false_block = (labels == 0) & (scores >= block_at)
    return missed * (1 - block_at) + false_block * block_at


def _floor_for_joint_risk(choosing: Opinions, certifying: Opinions, block_at: np.ndarray, target: Target) -> float | None:
    """The highest floor that keeps the bound.

    A text counts as lost at a floor if it is lost there or at a lower one, down to the floor at which the choosing half
    loses least: so its loss can only fall as bands widen, though a text may be withheld from the teacher under wide bands.
    """
    losses = _kept(choosing, block_at) & is_wrong(choosing.student, choosing.labels, block_at)
    risk = (losses @ choosing.weights).round(9)
    widest = int(np.flatnonzero(risk == risk.min())[-1])
    lost = _kept(certifying, block_at) & is_wrong(certifying.student, certifying.labels, block_at)
    lost_from_here = np.logical_or.accumulate(lost[widest::-1])[::-1]
    for row, floor in zip(lost_from_here, FLOORS, strict=False):
        if controlled_risk(row, certifying.weights) <= target.value:
            return float(floor)
    return None


def _floor_for_selective_risk(choosing: Opinions, certifying: Opinions, block_at: np.ndarray, target: Target) -> float | None:
    """The highest floor that Learn then Test reaches, from starts at fixed shares of kept traffic in the choosing half."""
    kept, wrong = _kept(certifying, block_at)[::-1], is_wrong(certifying.student, certifying.labels, block_at)
    heaviest = max(choosing.weights.max(), certifying.weights.max())
    p_values = [selective_p_value(wrong[row], certifying.weights[row], heaviest=heaviest, alpha=target.value) for row in kept]
    shares = _kept(choosing, block_at)[::-1].mean(axis=1)
    starts = [int(np.argmax(shares >= share)) for share in _START_SHARES if shares.max() >= share]
    reached = furthest_rejected(p_values, starts, delta=target.delta)
    return None if reached is None else float(FLOORS[::-1][reached])


def _kept(opinions: Opinions, block_at: np.ndarray) -> np.ndarray:
    """bool (floors, N): the texts that stay with the student, from no bands to the widest."""
    everywhere = np.ones(len(block_at), dtype=bool)
    bands = [bands_at(floor, block_at, everywhere) for floor in FLOORS]
    return ~np.stack([is_escalated(opinions.student, block_at, ends, opinions.keeps_block) for ends in bands])
