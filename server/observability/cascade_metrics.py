"""The series about the way from the student to the teacher; part of :class:`server.observability.metrics.Metrics`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from server.core.taxonomy import CATEGORIES, Category
from server.core.types import EscalationOutcome, ShadowDirection
from server.teacher.observer import BreakerState, QuestionSource


class CascadeMetrics:
    """Implements :class:`server.teacher.observer.TeacherObserver` and :class:`server.cascade.CascadeObserver`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        escalations = Counter(
            "stillguard_escalations",
            "Escalated texts by outcome; one that is answered later counts as pending, and again when it has ended.",
            ["outcome"],
            registry=registry,
        )
        self._escalations = {outcome: escalations.labels(outcome) for outcome in get_args(EscalationOutcome)}
        self._withheld = Counter(
            "stillguard_withheld_escalations",
            "Texts in a band that were blocked without asking: no answer could have lifted the block.",
            registry=registry,
        )
        questions = Counter(
            "stillguard_teacher_questions",
            "Questions by who answered: the teacher, the cache, or the same question in flight.",
            ["source"],
            registry=registry,
        )
        self._questions = {source: questions.labels(source) for source in get_args(QuestionSource)}
        self._tokens = Counter(
            "stillguard_teacher_prompt_tokens", "Prompt tokens sent to the teacher, estimated by length.", registry=registry
        )
        self._openings = Counter(
            "stillguard_teacher_breaker_openings", "Times that an endpoint's breaker opened.", registry=registry
        )
        self._hedges = Counter("stillguard_teacher_hedges", "Second tries because the first was slow.", registry=registry)
        endpoints = Gauge(
            "stillguard_teacher_endpoints", "Endpoints by the state of their breaker.", ["breaker"], registry=registry
        )
        self._endpoints = {state: endpoints.labels(state) for state in get_args(BreakerState)}
        shadows = Counter(
            "stillguard_shadow_texts",
            "Texts about which the teacher was asked to compare, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._shadows = {outcome: shadows.labels(outcome) for outcome in get_args(EscalationOutcome)}
        disagreements = Counter(
            "stillguard_shadow_disagreements",
            "Compared texts that one of the two would block in this category and the other not.",
            ["category", "direction"],
            registry=registry,
        )
        self._disagreements = {
            (category, direction): disagreements.labels(category, direction)
            for category in CATEGORIES
            for direction in get_args(ShadowDirection)
        }

    def follow_endpoints(self, states: Callable[[], Sequence[BreakerState]]) -> None:
        """Let ``stillguard_teacher_endpoints`` follow the breakers, read at each scrape; called once, before traffic."""
        for state, gauge in self._endpoints.items():
            gauge.set_function(partial(_count, states, state))

    def escalation_done(self, outcome: EscalationOutcome) -> None:
        self._escalations[outcome].inc()

    def escalation_withheld(self) -> None:
        self._withheld.inc()

    def shadow_done(self, outcome: EscalationOutcome, disagreements: Mapping[Category, ShadowDirection]) -> None:
        self._shadows[outcome].inc()
        for disagreement in disagreements.items():
            self._disagreements[disagreement].inc()

    def question_done(self, *, source: QuestionSource) -> None:
        self._questions[source].inc()

    def tokens_sent(self, tokens: int) -> None:
        self._tokens.inc(tokens)

    def breaker_opened(self) -> None:
        self._openings.inc()

    def hedged(self) -> None:
        self._hedges.inc()


def _count(states: Callable[[], Sequence[BreakerState]], state: BreakerState) -> int:
    return states().count(state)
