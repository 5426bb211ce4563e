"""The cascade: which texts go on from the student to the teacher, and what the teacher's answer may change.

A text goes on if the student is unsure of it and a teacher's answer can change the verdict. The teacher reads the text,
so a text can try to talk to it; the bound on that is here and not in the teacher:

* a text that is blocked by a score above its unsure band is never asked about, so none can be talked out of a sure block;
* where the text may be speaking to a model (the student's jailbreak score says so), where it hides what it says (invisible
  or look-alike characters, spelt-out words), where a category is blocked in more than one of its windows (the teacher reads
  one for each category), and under a policy without ``teacher_may_clear``, the teacher may raise the verdict and not lower
  it: a text that the student blocks isn't asked about, its block stands.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from server.core.policy import Policy, Rule
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX, Category, Role
from server.core.types import Escalation, EscalationOutcome, Scores, ShadowDirection, TextResult
from server.deferred import Deferred, DeferredResults
from server.teacher.route import TeacherRoute
from server.teacher.teacher import TeacherUnavailable
from server.verdict import contested, decide

MAX_SHADOWS = 32
"""Shadow questions under way at once; more are skipped and counted as over the budget."""


class CascadeObserver(Protocol):
    """What the cascade needs of the metrics."""

    def escalation_withheld(self) -> None:
        """A text of which the student was unsure kept its block, for a teacher's No could not be trusted."""
        ...

    def escalation_done(self, outcome: EscalationOutcome) -> None:
        """A pending escalation has ended."""
        ...

    def shadow_done(self, outcome: EscalationOutcome, disagreements: Mapping[Category, ShadowDirection]) -> None:
        """The teacher was asked, for comparison only, about every category of one text."""
        ...


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the student says of one text, and how it came to it.

    ``passage`` gives what raised a category's score, as the teacher would read it. ``is_disguised`` says that the text held
    what no reader sees, or reads otherwise when spelt-out words are put together. ``elsewhere`` is what the text would score
    without those passages, category by category; None for a text of one window.
    """

    role: Role
    scores: Scores
    windows: int
    scanned_chars: int
    is_disguised: bool
    passage: Callable[[Category], str]
    elsewhere: Scores | None = None

    def decide(self, policy: Policy, escalation: Escalation | None) -> TextResult:
        return decide(policy, self.scores, escalation, windows=self.windows, scanned_chars=self.scanned_chars)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """In whose name the teacher is asked: the artefact that was unsure, and the API key's name, if there is one."""

    policy: Policy
    artifact: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a request. ``results`` are its texts', in order. ``later`` are those to come of the texts, by their place,
    about which the teacher is still being asked: under ``async`` the result that takes the first one's place, under ``shadow``
    the same one with the teacher's opinion beside it. A server that stops cancels them."""

    results: list[TextResult]
    later: Mapping[int, asyncio.Task[TextResult]]


class Cascade:
    """One per server; used on the event loop only.

    Args:
        teacher_timeout_s: the longest that an escalation may take.
        draw: uniform in [0, 1), to choose shadow samples.
    """

    def __init__(
        self,
        route: TeacherRoute,
        *,
        deferred: DeferredResults,
        teacher_timeout_s: float,
        observer: CascadeObserver,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._route = route
        self._deferred = deferred
        self._teacher_timeout_s = teacher_timeout_s
        self._observer = observer
        self._draw = draw
        self._background: set[asyncio.Task[TextResult]] = set()
        self._shadows = 0

    async def settle(self, opinions: Sequence[Opinion], asker: Asker, *, deadline: float) -> Settled:
        """A result for each text of a request. Escalations run side by side; each is settled on its own."""
        policy = asker.policy
        self._route.texts_checked(len(opinions), asker.key)
        if policy.mode == "shadow":
            shadows = {i: task for i, opinion in enumerate(opinions) if (task := self._maybe_shadow(opinion, asker))}
            return Settled([opinion.decide(policy, None) for opinion in opinions], shadows)
        asked = {i: categories for i, opinion in enumerate(opinions) if (categories := self._to_ask(opinion, policy))}
        if not asked:
            return Settled([opinion.decide(policy, None) for opinion in opinions], {})
        later: dict[int, asyncio.Task[TextResult]] = {}
        if policy.mode == "async":
            deferred = {i: self._defer(opinions[i], categories, asker) for i, categories in asked.items()}
            escalations = {i: escalation for i, (escalation, _) in deferred.items()}
            later = {i: task for i, (_, task) in deferred.items() if task is not None}
        else:
            deadline = min(deadline, time.monotonic() + self._teacher_timeout_s)
            async with asyncio.TaskGroup() as group:
                tasks = {
                    i: group.create_task(self._escalate(opinions[i], categories, asker, deadline))
                    for i, categories in asked.items()
                }
            escalations = {i: task.result() for i, task in tasks.items()}
        return Settled([opinion.decide(policy, escalations.get(i)) for i, opinion in enumerate(opinions)], later)

    def find(self, deferred_id: str) -> Deferred | None:
        """What became of a pending escalation; None if there is none of that id, or no longer."""
        return self._deferred.find(deferred_id)

    async def close(self) -> None:
        """Give up what runs in the background, and what is under way to the teacher."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._route.close()

    def _to_ask(self, opinion: Opinion, policy: Policy) -> tuple[Category, ...]:
        categories = policy.questions(opinion.scores)
        if not categories or may_clear(opinion, policy) or not policy.violated(opinion.scores):
            return categories
        self._observer.escalation_withheld()
        return ()

    async def _escalate(self, opinion: Opinion, categories: Sequence[Category], asker: Asker, deadline: float) -> Escalation:
        """Ask about each unsure category in the passage that raised it, and about further ones in the first of those: one
        question per passage. In a text of which the student is sure, each category has its own passage.

        One unanswered question leaves the text unanswered: half a judgement isn't one.
        """
        started = time.monotonic()
        unsure = asker.policy.unsure(opinion.scores)
        questions: dict[str, dict[Category, Rule]] = defaultdict(dict)
        for category in categories:
            passage = opinion.passage(category if category in unsure or not unsure else unsure[0])
            questions[passage][category] = asker.policy.rules[CATEGORY_INDEX[category]]
        student_scores = {category: opinion.scores[category] for category in categories}
        try:
            judgement = await self._route.judge(
                questions, opinion.role, artifact=asker.artifact, deadline=deadline, key=asker.key
            )
        except TeacherUnavailable as error:
            return Escalation(error.outcome, time.monotonic() - started, {}, student_scores)
        scores = {category: judgement.scores[category] for category in categories}
        return Escalation("answered", time.monotonic() - started, scores, student_scores, judgement.basis)

    def _defer(
        self, opinion: Opinion, categories: Sequence[Category], asker: Asker
    ) -> tuple[Escalation, asyncio.Task[TextResult] | None]:
        student_scores = {category: opinion.scores[category] for category in categories}
        deferred_id = self._deferred.open()
        if deferred_id is None:
            return Escalation("over_budget", 0.0, {}, student_scores), None

        async def ask() -> TextResult:
            deadline = time.monotonic() + self._teacher_timeout_s
            escalation = await self._escalate(opinion, categories, asker, deadline)
            result = opinion.decide(asker.policy, escalation)
            self._deferred.fill(deferred_id, result)
            self._observer.escalation_done(escalation.outcome)
            return result

        return Escalation("pending", 0.0, {}, student_scores, id=deferred_id), self._run(ask())

    def _maybe_shadow(self, opinion: Opinion, asker: Asker) -> asyncio.Task[TextResult] | None:
        if self._draw() >= asker.policy.shadow_share:
            return None
        if self._shadows >= MAX_SHADOWS:
            self._observer.shadow_done("over_budget", {})
            return None
        self._shadows += 1

        async def ask() -> TextResult:
            try:
                deadline = time.monotonic() + self._teacher_timeout_s
                escalation = await self._escalate(opinion, CATEGORIES, asker, deadline)
                self._observer.shadow_done(escalation.outcome, disagreements(asker.policy, escalation))
                return replace(opinion.decide(asker.policy, None), escalation=escalation)
            finally:
                self._shadows -= 1

        return self._run(ask())

    def _run(self, work: Coroutine[Any, Any, TextResult]) -> asyncio.Task[TextResult]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def may_clear(opinion: Opinion, policy: Policy) -> bool:
    """Whether a teacher's No may lift the student's block of this text."""
    if not policy.teacher_may_clear or opinion.is_disguised or policy.suspects_injection(opinion.scores):
        return False
    return opinion.elsewhere is None or not policy.violated(opinion.elsewhere)


def disagreements(policy: Policy, escalation: Escalation) -> dict[Category, ShadowDirection]:
    """Where student and teacher would decide otherwise; nowhere without the teacher's answer."""
    found = contested(policy, escalation.student_scores, escalation.scores)
    return {
        category: "only_student_blocks" if is_students else "only_teacher_blocks" for category, is_students in found.items()
    }
