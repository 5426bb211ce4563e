"""What flows between the rooms: immutable, free of wire formats and of arrays.

A score is a calibrated probability in [0, 1], finite and unrounded. Durations are seconds.
"""

from dataclasses import dataclass, field
from typing import Literal

from server.core.taxonomy import Category, Role

Verdict = Literal["allow", "review", "block"]
Device = Literal["cpu", "cuda"]
DecidedBy = Literal["student", "teacher", "student_degraded"]
EscalationOutcome = Literal[
    "answered", "pending", "deadline", "breaker_open", "over_budget", "unreachable", "error", "disabled"
]
Basis = Literal["logprobs", "answer"]
ShadowDirection = Literal["only_student_blocks", "only_teacher_blocks"]
ShadowStudentDirection = Literal["only_student_blocks", "only_shadow_blocks"]
ShadowStudentOutcome = Literal["compared", "dropped", "failed"]
Outcome = Literal["ok", "shed", "expired", "cancelled", "invalid", "unauthorized", "limited", "failed"]
ErrorCode = Literal[
    "invalid_request",
    "too_large",
    "unknown_policy",
    "malformed_body",
    "unsupported_media_type",
    "body_too_slow",
    "unauthorized",
    "rate_limited",
    "queue_full",
    "shutting_down",
    "deadline_exceeded",
    "classifier_failed",
    "request_error",
    "internal_error",
]
"""What ``code`` can be in an error's envelope: those of :class:`server.core.errors.RequestError`'s tree, and
``internal_error`` for what nobody foresaw."""

TurnedAwayStatus = Literal[400, 404, 405, 408, 431]
"""How HTTP itself refuses what comes to no route: no HTTP, no such path or method, a head too slow or too large."""

CHARS_PER_TOKEN = 4
"""Of English, about: to tell what a text will cost before it is read."""

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
    what the student had said of those that were asked. ``basis`` says what the teacher's scores rest on: the
    log-probabilities of its answers, or the bare words Yes and No (``answer``), which carry no degree. ``id`` is given
    while ``outcome`` is ``pending``: the answer can be had under it later.
    """

    outcome: EscalationOutcome
    latency_s: float
    scores: Scores
    student_scores: Scores
    basis: Basis | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class TextResult:
    """The verdict on one text, and how it came about.

    ``categories`` are the violated ones in taxonomy order. ``scores`` is the student's, with both opinions pooled
    (:mod:`server.core.pooling`) for each category that the teacher answered. ``scanned_chars`` counts characters of the text
    as sent; all of it is scanned or the request is refused.
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
class ArtifactId:
    """Which artefact answered: its manifest's ``version``, ``hash`` and ``precision``."""

    version: str
    hash: str
    precision: str


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """The answer to one request: one result per text, in the order sent. All of it is by one artefact and one policy."""

    results: tuple[TextResult, ...]
    policy_id: str
    policy_version: str
    timings: Timings
    artifact: ArtifactId
