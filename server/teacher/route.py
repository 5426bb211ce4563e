"""The road to the teacher: what was asked before isn't asked again, what is being asked is waited for, the rest is paid for."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

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
        if new and self._teacher.is_ready:
            self._pay(new.values(), role, key)
            self._count(new, "teacher")
        self._count(kept, "cache")
        self._count(shared, "shared")
        flights = shared | {digest: self._take_off(digest, question, role, key) for digest, question in new.items()}
        replies = await asyncio.gather(
            *(self._await(flight, digest, deadline) for digest, flight in flights.items()), return_exceptions=True
        )
        return _joined([*kept.values(), *replies])

    async def close(self) -> None:
        """Give up what is under way; those who wait for it are told ``unreachable``."""
        for flight in self._flights.values():
            flight.task.cancel()
        await asyncio.gather(*(flight.task for flight in self._flights.values()), return_exceptions=True)

    def _pay(self, questions: Collection[_Question], role: Role, key: str | None) -> None:
        """For one try at each, as many tokens as without a cached prefix; raises ``over_budget``."""
        prompts = (self._teacher.form.prompt(passage, role, rule) for passage, rules in questions for rule in rules.values())
        tokens = sum(map(len, prompts)) // CHARS_PER_TOKEN
        self._budget.spend(tokens, key, questions=len(questions))
        self._observer.tokens_sent(tokens)

    def _count(self, questions: Collection[bytes], source: QuestionSource) -> None:
        for _ in questions:
            self._observer.question_done(source=source)

    def _digest(self, text: str, role: Role, rules: Mapping[Category, Rule], artifact: str) -> bytes:
        wordings = [(category, rule.wording(role)) for category, rule in rules.items()]
        question = json.dumps([self._teacher.identity, artifact, role, text, wordings])
        return hashlib.blake2b(question.encode(), key=self._secret, digest_size=16).digest()

    def _take_off(self, digest: bytes, question: _Question, role: Role, key: str | None) -> "_Flight":
        passage, rules = question
        deadline = time.monotonic() + self._flight_timeout_s
        pay_again = partial(self._pay, [question], role, key)
        judging = self._teacher.judge(passage, role, rules, deadline=deadline, pay_again=pay_again)
        flight = _Flight(asyncio.create_task(judging))
        self._flights[digest] = flight

        def land(task: asyncio.Task[Judgement]) -> None:
            if self._flights.get(digest) is flight:
                del self._flights[digest]
            if not task.cancelled() and task.exception() is None and self._cache.maxsize:
                self._cache[digest] = task.result()

        flight.task.add_done_callback(land)
        return flight

    async def _await(self, flight: "_Flight", digest: bytes, deadline: float) -> Judgement:
        """The flight's result. A caller whose time runs out leaves the flight going, for its answer is cached and its failure
        counted. The last caller that is cancelled cancels the flight, for nobody waits for it."""
        flight.waiting += 1
        try:
            done, _ = await asyncio.wait([flight.task], timeout=max(0.0, deadline - time.monotonic()))
        except asyncio.CancelledError:
            if flight.waiting == 1 and not flight.task.done():
                flight.task.cancel()
                self._flights.pop(digest, None)
            raise
        finally:
            flight.waiting -= 1
        if not done:
            raise TeacherUnavailable("deadline", "the teacher's deadline passed")
        if flight.task.cancelled():
            raise TeacherUnavailable("unreachable", "the teacher was closed")
        return flight.task.result()


def _joined(replies: Iterable[Judgement | BaseException]) -> Judgement:
    """All of them as one; the first failure among them is raised."""
    judgements: list[Judgement] = []
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
        judgements.append(reply)
    scores = {category: score for judgement in judgements for category, score in judgement.scores.items()}
    return Judgement(scores, "answer" if any(judgement.basis == "answer" for judgement in judgements) else "logprobs")


@dataclass(slots=True)
class _Flight:
    """One question under way, and how many wait for its answer."""

    task: asyncio.Task[Judgement]
    waiting: int = 0
