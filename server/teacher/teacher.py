"""The seam to the teacher: one canonical text and the rules in question in, scores out."""

from collections.abc import Mapping
from typing import Protocol

from server.core.policy import Rule
from server.core.taxonomy import Category, Role
from server.core.types import EscalationOutcome, Scores


class TeacherUnavailable(Exception):
    """The teacher gave no answer. ``outcome`` says why, as the reply and the metrics name it; never ``answered``."""

    def __init__(self, outcome: EscalationOutcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Teacher(Protocol):
    """A judge that answers slowly and well."""

    async def judge(self, text: str, role: Role, rules: Mapping[Category, Rule], *, deadline: float) -> Scores:
        """A calibrated score for each asked category.

        Args:
            text: canonical, and short enough for one window of the student.
            deadline: ``time.monotonic()`` by which the answer must be there.

        Raises:
            TeacherUnavailable: no answer, for whatever reason. Nothing else is raised, cancellation apart.
        """
        ...

    async def close(self) -> None:
        """Release connections; a judge in flight fails with ``TeacherUnavailable``."""
        ...
