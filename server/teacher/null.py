"""No teacher: every escalation is answered at once that there is none."""

from collections.abc import Mapping

from server.core.policy import Rule
from server.core.prompt import GUIDELINE
from server.core.taxonomy import Category, Role
from server.teacher.teacher import Judgement, TeacherUnavailable


class NoTeacher:
    """The :class:`~server.teacher.teacher.Teacher` of ``STILLGUARD_TEACHER=none``."""

    name = identity = "none"
    form = GUIDELINE
    is_ready = False

    async def start(self) -> None:
        """There is nothing to begin."""

    async def judge(self, text: str, role: Role, rules: Mapping[Category, Rule], *, deadline: float) -> Judgement:
        raise TeacherUnavailable("disabled", "no teacher is configured")

    async def close(self) -> None:
        """There is nothing to release."""
