"""The seam to the teacher: one canonical text and the rules in question in, scores out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from server.core.policy import Rule
from server.core.prompt import PromptForm
from server.core.taxonomy import Category, Role
from server.core.types import Basis, EscalationOutcome, Scores


class TeacherUnavailable(Exception):
    """The teacher gave no answer. ``outcome`` says why, as the reply and the metrics name it; never ``answered``.

    ``is_teachers_fault`` is False where another text, or another moment on our side, would have got an answer: a text that
    the teacher can't read, a deadline that passed before it was asked. Such a failure says nothing about its health.
    ``was_asked`` is False where the question never left.
    """

    def __init__(
        self, outcome: EscalationOutcome, message: str, *, is_teachers_fault: bool = True, was_asked: bool = True
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.is_teachers_fault = is_teachers_fault
        self.was_asked = was_asked


@dataclass(frozen=True, slots=True)
class Judgement:
    """A calibrated score for each asked category, and what they rest on; ``answer`` if that is so for any of them."""

    scores: Scores
    basis: Basis


class Teacher(Protocol):
    """A judge that answers slowly and well."""

    @property
    def name(self) -> str:
        """What the log calls it: for one at a URL its host and port, and nothing else of the URL."""
        ...

    @property
    def identity(self) -> str:
        """What its answers depend on besides the question, in a few characters that hold no secret."""
        ...

    @property
    def form(self) -> PromptForm:
        """How it is asked."""
        ...

    @property
    def is_ready(self) -> bool:
        """A question would be sent now; while this is False, :meth:`judge` fails at once and costs nothing."""
        ...

    async def start(self) -> None:
        """Begin whatever it takes to answer; returns at once. Called once, on the loop that will ask."""
        ...

    async def judge(self, text: str, role: Role, rules: Mapping[Category, Rule], *, deadline: float) -> Judgement:
        """Judge one text by each of the rules.

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
