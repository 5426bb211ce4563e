"""The road to the teacher: what was asked before isn't asked again, what is being asked is waited for, the rest is paid for."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cachetools import TTLCache

from server.core.policy import Rule
from server.core.taxonomy import Category, Role
from server.core.types import CHARS_PER_TOKEN
from server.teacher.budget import Budget
from server.teacher.observer import TeacherObserver
from server.teacher.teacher import Judgement, Teacher, TeacherUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """``max_items`` judgements for ``ttl_s`` each; 0 items keep none."""

    max_items: int
    ttl_s: float


class TeacherRoute:
    """What the server asks instead of the teacher. Used on one event loop.

    Cache and flights know a question by a digest of all that its answer depends on, keyed with random bytes of this
    process: no text is kept, and none can be guessed from what is. The first asker pays; who finds the answer in the
    cache, or joins the flight, pays nothing.

    Args:
        flight_timeout_s: the longest that a question may be under way. Its first asker may have less time, and others who
            join it later may have more.
    """

    def __init__(
        self,
        teacher: Teacher,
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
        text: str,
        role: Role,
        rules: Mapping[Category, Rule],
        *,
        artifact: str,
        deadline: float,
        key: str | None = None,
    ) -> Judgement:
        """As :meth:`server.teacher.teacher.Teacher.judge`.

        Args:
            artifact: hash of the artefact whose student was unsure: another student's questions are not answered from what
                was kept for this one.
            key: name of the API key that the request came with.

        Raises:
            TeacherUnavailable: no answer; ``over_budget`` too.
        """
        digest = self._digest(text, role, rules, artifact)
        if (kept := self._cache.get(digest)) is not None:
            self._observer.question_done(source="cache")
            return kept
        flight = self._flights.get(digest)
        if flight is not None:
            self._observer.question_done(source="shared")
        else:
            if self._teacher.is_ready:
                tokens = self._estimate_tokens(text, role, rules)
                self._budget.spend(tokens, key)
                self._observer.question_done(source="teacher")
                self._observer.tokens_sent(tokens)
            flight = self._take_off(digest, text, role, rules)
        return await self._await(flight, digest, deadline)

    async def close(self) -> None:
        """Give up what is under way; those who wait for it are told ``unreachable``."""
        for flight in self._flights.values():
            flight.task.cancel()
        await asyncio.gather(*(flight.task for flight in self._flights.values()), return_exceptions=True)

    def _estimate_tokens(self, text: str, role: Role, rules: Mapping[Category, Rule]) -> int:
        """How many prompt tokens the question costs where no prefix is cached."""
        return sum(len(self._teacher.form.prompt(text, role, rule)) for rule in rules.values()) // CHARS_PER_TOKEN

    def _digest(self, text: str, role: Role, rules: Mapping[Category, Rule], artifact: str) -> bytes:
        wordings = [(category, rule.wording(role)) for category, rule in rules.items()]
        question = json.dumps([self._teacher.identity, artifact, role, text, wordings])
        return hashlib.blake2b(question.encode(), key=self._secret, digest_size=16).digest()

    def _take_off(self, digest: bytes, text: str, role: Role, rules: Mapping[Category, Rule]) -> "_Flight":
        deadline = time.monotonic() + self._flight_timeout_s
        flight = _Flight(asyncio.create_task(self._teacher.judge(text, role, rules, deadline=deadline)))
        self._flights[digest] = flight

        def land(task: asyncio.Task[Judgement]) -> None:
            if self._flights.get(digest) is flight:
                del self._flights[digest]
            if not task.cancelled() and task.exception() is None and self._cache.maxsize:
                self._cache[digest] = task.result()

        flight.task.add_done_callback(land)
        return flight

    async def _await(self, flight: "_Flight", digest: bytes, deadline: float) -> Judgement:
        """The flight's result. Who runs out of time leaves it under way: its answer is worth keeping, its failure worth
        knowing. Who is cancelled as the last to wait takes it along: nobody wants it."""
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


@dataclass(slots=True)
class _Flight:
    """One question under way, and how many wait for its answer."""

    task: asyncio.Task[Judgement]
    waiting: int = 0
