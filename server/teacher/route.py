"""The road to the teacher: what was asked before isn't asked again, what is being asked is waited for, the rest is paid for."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cachetools import TTLCache

from server.core.policy import Rule
from server.core.taxonomy import Category, Role
from server.core.types import CHARS_PER_TOKEN
from server.teacher.budget import Budget
from server.teacher.endpoints import Endpoints
from server.teacher.observer import QuestionSource, TeacherObserver
from server.teacher.teacher import Judgement, TeacherUnavailable

_Question = tuple[str, Mapping[Category, Rule]]
"""A passage, and the rules to judge it by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """``max_items`` judgements for ``ttl_s`` each; 0 items keep none."""

    max_items: int
    ttl_s: float


class TeacherRoute:
    """What the server asks instead of the teacher. Used on one event loop.

    Cache and flights know a question by a digest of all that its answer depends on, keyed with random bytes of this
    process: no text is kept, and none can be guessed from what is. The first asker pays, for every try at another endpoint
    too; who finds the answer in the cache, or joins the flight, pays nothing.

    Args:
        flight_timeout_s: the longest that a question may be under way. Its first asker may have less time, and others who
            join it later may have more.
    """

    def __init__(
        self,
        teacher: Endpoints,
        *,
        budget: Budget,
        cache: CacheLimits,
        flight_timeout_s: float,
        observer: TeacherObserver,
    ) -> None:
        self._teacher = teacher
        self._budget = budget
        self._observer = observer
        self._flight_timeout_s = flight_timeout_s
        self._secret = secrets.token_bytes(32)
        self._cache: TTLCache[bytes, Judgement] = TTLCache(cache.max_items, cache.ttl_s, timer=time.monotonic)
        self._flights: dict[bytes, _Flight] = {}

    def texts_checked(self, texts: int, key: str | None) -> None:
        """Let the budget know of every text that is checked, so that a share of them may be asked about."""
        self._budget.texts_checked(texts, key)

    async def judge(
        self,
        questions: Mapping[str, Mapping[Category, Rule]],
        role: Role,
        *,
        artifact: str,
        deadline: float,
        key: str | None = None,
    ) -> Judgement:
        """Judge one text by its passages, side by side. What must be asked is paid for together, so that nothing is spent on
        half a judgement.

        Args:
            questions: the rules to judge each passage by, as for :meth:`server.teacher.teacher.Teacher.judge`; each category
                once.
            artifact: hash of the artefact whose student was unsure: another student's questions are not answered from what
                was kept for this one.
            key: name of the API key that the request came with.

        Raises:
            TeacherUnavailable: no answer; ``over_budget`` too.
        """
        asked = {self._digest(passage, role, rules, artifact): (passage, rules) for passage, rules in questions.items()}
        kept = {digest: judgement for digest in asked if (judgement := self._cache.get(digest)) is not None}
        shared = {digest: flight for digest in asked if (flight := self._flights.get(digest)) is not None}
        new = {digest: question for digest, question in asked.items() if digest not in kept and digest not in shared}
        is_paid = bool(new) and self._teacher.is_ready
        if is_paid:
            self._budget.spend(sum(self._tokens(question, role) for question in new.values()), key, questions=len(new))
        self._count(kept, "cache")
        self._count(shared, "shared")
        flights = shared | {
            digest: self._take_off(digest, question, role, key, is_paid=is_paid) for digest, question in new.items()
        }
        judgements = list(kept.values())
        if flights:
            judgements += await _landed(flights.values(), deadline)
        return _joined(judgements)

    async def close(self) -> None:
        """Give up what is under way; those who wait for it are told ``unreachable``."""
        for flight in self._flights.values():
            flight.task.cancel()
        await asyncio.gather(*(flight.task for flight in self._flights.values()), return_exceptions=True)

    def _tokens(self, question: _Question, role: Role) -> int:
        """About as many as one try takes without a cached prefix."""
        passage, rules = question
        return sum(len(self._teacher.form.prompt(passage, role, rule)) for rule in rules.values()) // CHARS_PER_TOKEN

    def _count(self, questions: Collection[bytes], source: QuestionSource) -> None:
        for _ in questions:
            self._observer.question_done(source=source)

    def _digest(self, text: str, role: Role, rules: Mapping[Category, Rule], artifact: str) -> bytes:
        wordings = [(category, rule.wording(role)) for category, rule in rules.items()]
        question = json.dumps([self._teacher.identity, artifact, role, text, wordings])
        return hashlib.blake2b(question.encode(), key=self._secret, digest_size=16).digest()

    def _take_off(self, digest: bytes, question: _Question, role: Role, key: str | None, *, is_paid: bool) -> "_Flight":
        passage, rules = question
        tokens = self._tokens(question, role)

        def pay_again() -> None:
            self._budget.spend(tokens, key)
            self._observer.tokens_sent(tokens)

        judging = self._teacher.judge(
            passage,
            role,
            rules,
            deadline=time.monotonic() + self._flight_timeout_s,
            pay_again=pay_again,
            is_wanted=lambda: flight.waiting > 0,
        )
        flight = self._flights[digest] = _Flight(asyncio.create_task(judging))

        def land(task: asyncio.Task[Judgement]) -> None:
            del self._flights[digest]
            error = None if task.cancelled() else task.exception()
            if is_paid and isinstance(error, TeacherUnavailable) and not error.was_asked:
                self._budget.give_back(tokens, key)
            elif is_paid:
                self._count([digest], "teacher")
                self._observer.tokens_sent(tokens)
            if not task.cancelled() and error is None and self._cache.maxsize:
                self._cache[digest] = task.result()

        flight.task.add_done_callback(land)
        return flight


@dataclass(slots=True)
class _Flight:
    """One question under way, and how many wait for its answer."""

    task: asyncio.Task[Judgement]
    waiting: int = 0


async def _landed(flights: Collection[_Flight], deadline: float) -> list[Judgement]:
    """All their answers; the first failure is raised as soon as it is known.

    A caller whose time runs out, or who goes away, leaves the flights going: their answers are cached and their failures
    counted. A question that hasn't left when nobody waits for it any more never does.
    """
    for flight in flights:
        flight.waiting += 1
    tasks = [flight.task for flight in flights]
    try:
        done, under_way = await asyncio.wait(
            tasks, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_EXCEPTION
        )
    finally:
        for flight in flights:
            flight.waiting -= 1
    if any(task.cancelled() for task in done):
        raise TeacherUnavailable("unreachable", "the teacher was closed")
    judgements = [task.result() for task in done]
    if under_way:
        raise TeacherUnavailable("deadline", "the teacher's deadline passed")
    return judgements


def _joined(judgements: Collection[Judgement]) -> Judgement:
    scores = {category: score for judgement in judgements for category, score in judgement.scores.items()}
    return Judgement(scores, "answer" if any(judgement.basis == "answer" for judgement in judgements) else "logprobs")
