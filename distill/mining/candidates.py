"""What may be learnt from: a text, what is known of it and who says so, and why it is worth learning."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from server.core.taxonomy import CATEGORIES, Role

Source = Literal["moderator", "stress", "teacher", "nobody"]
"""Who judged the text: a moderator's correction, a stress set's labels, the serving teacher, or nobody yet."""

Reason = Literal["overturned", "failed", "disagreeing", "escalated", "near_threshold", "sampled"]
"""Why the text is of interest, the strongest reason first: a moderator overturned the verdict; the student is wrong by a
stress set's labels; the teacher would decide otherwise; the student was unsure; its score was near the threshold; chance."""

REASONS: tuple[Reason, ...] = get_args(Reason)
SOURCES: tuple[Source, ...] = get_args(Source)
PEOPLE: tuple[Source, ...] = ("moderator", "stress")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """One text.

    Attributes:
        text: canonical.
        dataset: where it is from; ``feedback_log`` for what was served.
        labels: float32 (C,) with 1, 0 or NaN, by people.
        answers: float32 (C,), the serving teacher's calibrated scores; NaN where it wasn't asked, where its answer can't be
            trusted, and where a label is known.
        scores: float32 (C,), the student's calibrated scores; all NaN where they weren't logged.
        teacher_may_clear: whether a teacher's No to it may be learnt, whoever asks it and whenever.
        copies: how many texts this one stands for, near duplicates folded into it included.
    """

    text: str = field(repr=False)
    role: Role
    dataset: str
    source: Source
    reason: Reason
    labels: np.ndarray
    answers: np.ndarray
    scores: np.ndarray
    teacher_may_clear: bool = True
    copies: int = 1

    @property
    def rank(self) -> tuple[bool, int, int]:
        """What people said first, whatever the reason; then failures first."""
        return self.source not in PEOPLE, REASONS.index(self.reason), SOURCES.index(self.source)

    def opinion(self) -> np.ndarray:
        """float32 (C,) with 1, 0 or NaN: what is held of the text, the teacher's answers read as Yes or No."""
        answered = np.where(np.isnan(self.answers), np.nan, self.answers >= 0.5)
        return np.where(np.isnan(self.labels), answered, self.labels).astype(np.float32)

    def contradicts(self, other: "Candidate") -> bool:
        """Some category is held to be violated in one of the two and not in the other."""
        return bool((np.abs(self.opinion() - other.opinion()) == 1).any())


def unknown() -> np.ndarray:
    """float32 (C,), all NaN."""
    return np.full(len(CATEGORIES), np.nan, dtype=np.float32)
