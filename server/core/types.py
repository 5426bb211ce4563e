"""What flows between the rooms: immutable, free of wire formats and of arrays.

A score is a calibrated probability in [0, 1], finite and unrounded. Durations are seconds.
"""

from dataclasses import dataclass, field
from typing import Literal

from server.core.taxonomy import Category, Role

Verdict = Literal["allow", "review", "block"]
DecidedBy = Literal["student", "teacher", "student_degraded"]
EscalationOutcome = Literal["answered", "deadline", "unreachable", "error", "disabled"]
Outcome = Literal["ok", "shed", "expired", "cancelled", "invalid", "failed"]

Scores = dict[Category, float]
"""All eight categories for a text's scores; the asked ones only in an :class:`Escalation`."""


@dataclass(frozen=True, slots=True)
class Text:
    """One string to be checked, as it was sent."""

    text: str = field(repr=False)
    role: Role = "user"


@dataclass(frozen=True, slots=True)
class Escalation:
    """What came of asking the teacher about one text.

    ``scores`` is the teacher's, for the asked categories; empty unless ``outcome`` is ``answered``. ``student_scores`` is
    what the student had said of those that were asked.
    """

    outcome: EscalationOutcome
    latency_s: float
    scores: Scores
    student_scores: Scores


@dataclass(frozen=True, slots=True)
class TextResult:
    """The verdict on one text, and how it came about.

    ``categories`` are the violated ones in taxonomy order. ``scores`` is the student's, with the teacher's in place of
    it for each category that the teacher answered. ``scanned_chars`` counts characters of the text as sent; all of it is
    scanned or the request is refused.
    """

    verdict: Verdict
    decided_by: DecidedBy
    categories: tuple[Category, ...]
    scores: Scores
    windows: int
    scanned_chars: int
    escalation: Escalation | None


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one request's time went. Stages of different texts overlap, so they need not add up to ``total_s``."""

    encode_s: float
    queue_s: float
    infer_s: float
    teacher_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """The answer to one request: one result per text, in the order sent."""

    results: tuple[TextResult, ...]
    policy_id: str
    policy_version: str
    timings: Timings
