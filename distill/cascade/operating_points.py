"""What each way of answering is worth and what it costs: student alone, the cascade, the teacher alone, an oracle."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from distill.cascade.bands import asked, pooled, served_scores
from distill.cascade.budget import Objective, best_bands
from distill.cascade.choose import Choice
from distill.cascade.opinions import Opinions, is_labelled, is_wrong
from distill.metrics import evaluate
from server.core.policy import AskAbout, Policy
from server.core.taxonomy import CATEGORIES

RATES = (0.01, 0.02, 0.05, 0.10, 0.20)
TARGET_RATE, TARGET_GAP = 0.10, 0.80


@dataclass(frozen=True, slots=True)
class Prices:
    """Measured core-seconds, and the price of a core for an hour in any currency.

    Attributes:
        student_core_s: of the student for a text.
        teacher_core_s: of the teacher for a text that it is asked one question about.
        question_core_s: of the teacher for each further question about a text: less, since it has read the text.
    """

    student_core_s: float
    teacher_core_s: float
    question_core_s: float
    core_hour_price: float

    def per_1000_texts(self, *, escalated: float, questions: float, with_student: bool = True) -> float:
        """``escalated`` is a share of all texts, ``questions`` their mean number over all texts."""
        teacher_core_s = self.teacher_core_s * escalated + self.question_core_s * (questions - escalated)
        return 1000 * (self.student_core_s * with_student + teacher_core_s) * self.core_hour_price / 3600


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One way of answering, on one split.

    Attributes:
        name: ``student``, ``cascade@0.1`` (by the budget on dev), ``chosen``, ``router@0.1``, ``both`` (every text is judged by
            both), ``teacher`` or ``oracle``.
        escalated: share of traffic that was sent to the teacher, in [0, 1].
        questions: categories asked per escalated text; None where none is escalated.
        unanswered: share of the escalated texts of which the teacher has no signal; the student's answer stood.
        cost_per_1000_texts: in the currency of the prices; None without prices, and for the oracle.
        wrong, missed, false_blocks: share of wrong verdicts in all labelled traffic, in its harmful and in its harmless part.
        quality: :func:`distill.metrics.evaluate` of the served scores on human labels, in the mix of the traffic.
    """

    name: str
    escalated: float
    questions: float | None
    unanswered: float | None
    cost_per_1000_texts: float | None
    wrong: float
    missed: float | None
    false_blocks: float | None
    quality: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Bench:
    """Measures ways of answering on one set of opinions, at one choice of thresholds."""

    def __init__(self, opinions: Opinions, choice: Choice, policy: Policy, prices: Prices | None) -> None:
        """``policy`` carries the chosen ``block_at``, from which the figures take their thresholds, and ``ask_about``."""
        self.opinions = opinions
        self.together = pooled(opinions.student, opinions.teacher, choice.teacher_weight)
        self._choice = choice
        self._policy = policy
        self._prices = prices

    def student(self) -> OperatingPoint:
        return self.answering("student", np.zeros_like(self.opinions.student, dtype=bool))

    def teacher(self) -> OperatingPoint:
        """Every text judged on every category, and no student; where it has no signal, the student's answer stands."""
        return self._answering("teacher", self.opinions.teacher, self._everything(), with_student=False)

    def both(self) -> OperatingPoint:
        """Every text judged by both on every category: what a cascade without a budget would answer."""
        return self.answering("both", self._everything())

    def cascade(self, name: str, bands: np.ndarray) -> OperatingPoint:
        return self.answering(name, self.questions(bands))

    def questions(self, bands: np.ndarray) -> np.ndarray:
        """bool (N, C): what these bands (C, 2) ask the teacher."""
        block_at = self._choice.block_at
        return asked(self.opinions.student, block_at, bands, self.opinions.keeps_block, self._policy.ask_about)

    def answering(self, name: str, questions: np.ndarray) -> OperatingPoint:
        """Ask these questions, bool (N, C), and serve what comes of it."""
        return self._answering(name, self.together, questions)

    def served(self, questions: np.ndarray) -> np.ndarray:
        """The scores (N, C) that come of asking these questions."""
        return served_scores(self.opinions.student, self.together, questions)

    def _everything(self) -> np.ndarray:
        return np.ones_like(self.opinions.student, dtype=bool)

    def _answering(self, name: str, answers: np.ndarray, questions: np.ndarray, *, with_student: bool = True) -> OperatingPoint:
        scores = served_scores(self.opinions.student, answers, questions)
        escalated = questions.any(axis=1)
        share = float(np.average(escalated, weights=self.opinions.weights))
        unanswered = (questions & np.isnan(self.opinions.teacher)).any(axis=1)
        each = float(np.average(questions.sum(axis=1), weights=self.opinions.weights))
        cost = self._prices and self._prices.per_1000_texts(escalated=share, questions=each, with_student=with_student)
        return self._point(
            name,
            scores,
            escalated=share,
            questions=float(questions[escalated].sum(axis=1).mean()) if escalated.any() else None,
            unanswered=float(unanswered[escalated].mean()) if escalated.any() else None,
            cost=cost,
        )

    def oracle(self) -> OperatingPoint:
        """Of the two scores always the one nearer to the label: no router over these two models ranks better.

        Its ``escalated`` is the share of texts whose verdict asking mends: what an all-knowing router would ask.
        """
        student, teacher, labels = self.opinions.student, self.opinions.teacher, self.opinions.labels
        scores = np.where(labels == 1, np.fmax(student, teacher), np.fmin(student, teacher))
        is_mended = mended(self.opinions, self.together, self._choice.block_at)
        escalated = float(np.average(is_mended, weights=self.opinions.weights))
        return self._point("oracle", scores, escalated=escalated, questions=None, unanswered=None, cost=None)

    def _point(self, name: str, scores: np.ndarray, *, escalated, questions, unanswered, cost) -> OperatingPoint:
        labelled = is_labelled(self.opinions.labels)
        labels, weights = self.opinions.labels[labelled], self.opinions.weights[labelled]
        wrong, harmful = is_wrong(scores[labelled], labels, self._choice.block_at), (labels == 1).any(axis=1)
        return OperatingPoint(
            name=name,
            escalated=escalated,
            questions=questions,
            unanswered=unanswered,
            cost_per_1000_texts=cost,
            wrong=float(np.average(wrong, weights=weights)),
            missed=_share(wrong[harmful], weights[harmful]),
            false_blocks=_share(wrong[~harmful], weights[~harmful]),
            quality=evaluate(scores, self.opinions.labels, self._policy, weights=self.opinions.weights),
        )


def mended(opinions: Opinions, together: np.ndarray, block_at: np.ndarray) -> np.ndarray:
    """bool (N,): the student's verdict is wrong and that of both together is right, over the known labels."""
    together = np.where(np.isnan(together), opinions.student, together)
    by_student = is_wrong(opinions.student, opinions.labels, block_at)
    return by_student & ~is_wrong(together, opinions.labels, block_at)


def rate_bands(dev: Opinions, choice: Choice, objective: Objective, ask_about: AskAbout) -> dict[float, np.ndarray]:
    """For each of :data:`RATES`, the best bands (C, 2) that keep escalation within it on dev."""
    return {
        rate: best_bands(
            dev,
            choice.block_at,
            choice.helped,
            choice.teacher_weight,
            budget=rate,
            objective=objective,
            ask_about=ask_about,
        )
        for rate in RATES
    }


def gap_closed(student: float | None, teacher: float | None, cascade: float | None) -> dict[str, Any]:
    """How far the cascade gets from the student to the teacher.

    Returns:
        The three figures; ``closed_gap``, 1 where it equals the teacher and more where it beats both, None where the
        teacher has no lead over the student; and ``is_met``: at least :data:`TARGET_GAP` closed, or better than both.
    """
    record: dict[str, Any] = {"student": student, "teacher": teacher, "cascade": cascade, "closed_gap": None, "is_met": None}
    if student is None or teacher is None or cascade is None:
        return record
    if teacher > student:
        record["closed_gap"] = (cascade - student) / (teacher - student)
        record["is_met"] = record["closed_gap"] >= TARGET_GAP
    else:
        record["is_met"] = cascade > student
    return record


def gaps(student: OperatingPoint, teacher: OperatingPoint, cascade: OperatingPoint) -> dict[str, Any]:
    """:func:`gap_closed` in AU-PRC: pooled, macro and per category, with the positives that a figure stands on."""
    qualities = [point.quality for point in (student, teacher, cascade)]
    report = {key: gap_closed(*(quality[key]["au_prc"] for quality in qualities)) for key in ("pooled", "macro")}
    report["categories"] = {
        name: gap_closed(*(quality["categories"][name]["au_prc"] for quality in qualities))
        | {"positives": qualities[0]["categories"][name]["positives"]}
        for name in CATEGORIES
    }
    return report


def _share(wrong: np.ndarray, weights: np.ndarray) -> float | None:
    return float(np.average(wrong, weights=weights)) if len(wrong) else None
