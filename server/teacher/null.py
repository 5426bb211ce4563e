"""No teacher: every escalation is answered at once that there is none."""

from collections.abc import Mapping

from server.core.policy import Rule
from server.core.taxonomy import Category, Role
from server.core.types import Scores
from server.teacher.teacher import TeacherUnavailable


class NoTeacher:
    """The :class:`~server.teacher.teacher.Teacher` of ``STILLGUARD_TEACHER=none``."""

    async def judge(self, text: str, role: Role, rules: Mapping[Category, Rule], *, deadline: float) -> Scores:
        raise TeacherUnavailable("disabled", "no teacher is configured")

    async def close(self) -> None:
        """There is nothing to release."""
