"""A teacher for tests and demonstrations: answers by keyword, and misbehaves when told to."""

import asyncio
import time
from collections.abc import Mapping

from server.core.policy import Rule
from server.core.prompt import GUIDELINE
from server.core.taxonomy import Category, Role
from server.core.types import Basis, EscalationOutcome
from server.teacher.teacher import Judgement, TeacherUnavailable


class FakeTeacher:
    """A deterministic :class:`~server.teacher.teacher.Teacher`.

    A category's score is the largest among the keywords that the text holds (compared without case), else
    ``otherwise``: with no keywords and the default it is a teacher that always says No.

    Attributes:
        calls: how often :meth:`judge` was called, failures included.
        asked: the categories of each call, in order.
        basis: what its answers say that they rest on.
        fails_with: while set, each call raises ``TeacherUnavailable`` with this outcome.
        release: while not set, calls hang until it is, or until their deadline.
        is_closed: :meth:`close` was called; calls in flight and later ones fail as ``unreachable``.
    """

    def __init__(
        self,
        scores: Mapping[str, float] | None = None,
        *,
        otherwise: float = 0.01,
        basis: Basis = "logprobs",
        fails_with: EscalationOutcome | None = None,
        release: asyncio.Event | None = None,
    ) -> None:
        self._scores = {keyword.lower(): score for keyword, score in (scores or {}).items()}
        self._otherwise = otherwise
        self._closing = asyncio.Event()
        self.name = self.identity = "fake"
        self.form = GUIDELINE
        self.basis = basis
        self.fails_with = fails_with
        self.release = release
        self.calls = 0
        self.asked: list[tuple[Category, ...]] = []

    @property
    def is_closed(self) -> bool:
        return self._closing.is_set()

    @property
    def is_ready(self) -> bool:
        return not self.is_closed

    async def start(self) -> None:
        """It is always up."""

    async def judge(self, text: str, role: Role, rules: Mapping[Category, Rule], *, deadline: float) -> Judgement:
        self.calls += 1
        self.asked.append(tuple(rules))
        if self.release is not None:
            await self._hang(self.release, deadline)
        if self.is_closed:
            raise TeacherUnavailable("unreachable", "the teacher is closed")
        if self.fails_with is not None:
            raise TeacherUnavailable(self.fails_with, "the fake teacher was told to fail")
        found = [score for keyword, score in self._scores.items() if keyword in text.lower()]
        return Judgement(dict.fromkeys(rules, max(found, default=self._otherwise)), self.basis)

    async def close(self) -> None:
        self._closing.set()

    async def _hang(self, release: asyncio.Event, deadline: float) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (release, self._closing)]
        try:
            done, _ = await asyncio.wait(
                waits, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in waits:
                wait.cancel()
        if not done:
            raise TeacherUnavailable("deadline", "the teacher's deadline passed")
