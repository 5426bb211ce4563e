"""Several endpoints of one teacher behind one: the least busy healthy one is asked, another if that fails or is slow."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from cachetools import TTLCache

from server.core.policy import Rule
from server.core.taxonomy import Category, Role
from server.teacher.breaker import Breaker, BreakerLimits, Trial
from server.teacher.observer import BreakerState, TeacherObserver
from server.teacher.teacher import Judgement, Teacher, TeacherUnavailable

log = logging.getLogger(__name__)

TOLD_REASONS = 32
TOLD_FOR_S = 60.0
"""Of an endpoint's failures the log is told each reason once in this time, for so many reasons."""


class Endpoints:
    """One teacher made of :class:`~server.teacher.teacher.Teacher` that answer alike, each behind a breaker of its own.

    A question goes to the endpoint with the fewest under way, of those that are up and whose breaker admits; ties go to
    the one that was asked longest ago, so one that has come back is found out by the next question. If the try fails by the
    endpoint's fault or it refuses the text, another is asked while time is left and no other try is under way: only if all
    refuse is it the text's fault.

    Args:
        teachers: at least one. The same URL twice lets a hedge go through a balancer to another replica.
        max_in_flight: questions under way per endpoint; more wait, within their deadlines, and waiting isn't held against
            the endpoint.
        try_timeout_s: the longest one try may take, within the deadline; None bounds it by the deadline alone.
        hedge_after_s: a first try that has taken this long gets a rival on another endpoint, once per question; the first
            answer counts and the other try is given up, which is held against an endpoint that its rival has overtaken. None
            never hedges.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        *,
        breaker: BreakerLimits,
        max_in_flight: int,
        observer: TeacherObserver,
        try_timeout_s: float | None = None,
        hedge_after_s: float | None = None,
    ) -> None:
        self._endpoints = [_Endpoint(teacher, breaker, max_in_flight, observer) for teacher in teachers]
        self._observer = observer
        self._try_timeout_s = try_timeout_s
        self._hedge_after_s = hedge_after_s
        self.identity, self.form = teachers[0].identity, teachers[0].form

    @property
    def is_ready(self) -> bool:
        """As :attr:`server.teacher.teacher.Teacher.is_ready`."""
        return any(endpoint.is_ready for endpoint in self._endpoints)

    @property
    def breaker_states(self) -> list[BreakerState]:
        """One per endpoint, in the order given."""
        return [endpoint.breaker.state for endpoint in self._endpoints]

    async def start(self) -> None:
        """As :meth:`server.teacher.teacher.Teacher.start`."""
        for endpoint in self._endpoints:
            await endpoint.teacher.start()

    async def judge(
        self,
        text: str,
        role: Role,
        rules: Mapping[Category, Rule],
        *,
        deadline: float,
        pay_again: Callable[[], None],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Judgement:
        """As :meth:`server.teacher.teacher.Teacher.judge`.

        Args:
            pay_again: called before every try but the first, which is paid for; raises ``TeacherUnavailable`` where there is no
                budget for another.
            is_wanted: asked when a try's turn has come; the try isn't made if nobody wants its answer any more.
        """
        asked: set[_Endpoint] = set()
        tries: set[asyncio.Task[Judgement]] = set()
        trials: dict[asyncio.Task[Judgement], Trial] = {}  # in the order in which they began
        failure: TeacherUnavailable | None = None
        hedge_after_s = self._hedge_after_s
        is_hedging = False
        try:
            while True:
                if is_hedging or not tries:
                    endpoint = self._choose(asked, pay_again)
                    if endpoint is not None:
                        asked.add(endpoint)
                        trial = Trial()
                        work = self._try(endpoint, text, role, rules, deadline, trial=trial, is_wanted=is_wanted)
                        task = endpoint.begin(work)
                        trials[task] = trial
                        tries.add(task)
                        if is_hedging:
                            self._observer.hedged()
                    elif failure is not None:
                        raise failure
                    elif not tries:
                        return await self._refuse(text, role, rules, deadline)
                done, tries = await asyncio.wait(tries, timeout=hedge_after_s, return_when=asyncio.FIRST_COMPLETED)
                is_hedging, hedge_after_s = not done, None
                if answered := [task for task in done if task.exception() is None]:
                    for earlier in takewhile(lambda task: task is not answered[0], trials):
                        trials[earlier].is_overtaken = True
                    return answered[0].result()
                failure = _most_telling(failure, done)
                if failure is not None and not tries and time.monotonic() >= deadline:
                    raise failure
        finally:
            await _give_up(tries)

    async def close(self) -> None:
        """As :meth:`server.teacher.teacher.Teacher.close`."""
        for endpoint in self._endpoints:
            await endpoint.teacher.close()

    def _choose(self, asked: set["_Endpoint"], pay_again: Callable[[], None]) -> "_Endpoint | None":
        """Whom to ask next, paid for; None if there is nobody else, or no budget."""
        free = [endpoint for endpoint in self._endpoints if endpoint.is_ready and endpoint not in asked]
        if free and asked:
            try:
                pay_again()
            except TeacherUnavailable:
                return None
        return min(free, key=lambda endpoint: (endpoint.in_flight, endpoint.asked_at), default=None)

    async def _refuse(self, text: str, role: Role, rules: Mapping[Category, Rule], deadline: float) -> Judgement:
        """Raises: nobody can be asked. A teacher that isn't up says why itself, at once."""
        if any(endpoint.teacher.is_ready for endpoint in self._endpoints):
            raise TeacherUnavailable("breaker_open", "the teacher failed too often of late", was_asked=False)
        return await self._endpoints[0].teacher.judge(text, role, rules, deadline=deadline)

    async def _try(
        self,
        endpoint: "_Endpoint",
        text: str,
        role: Role,
        rules: Mapping[Category, Rule],
        deadline: float,
        *,
        trial: Trial,
        is_wanted: Callable[[], bool],
    ) -> Judgement:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await endpoint.slots.acquire()
        except TimeoutError:
            raise TeacherUnavailable(
                "deadline", "the deadline passed while others were asked about", is_teachers_fault=False, was_asked=False
            ) from None
        try:
            if not is_wanted():
                raise TeacherUnavailable("deadline", "nobody waits any more", is_teachers_fault=False, was_asked=False)
            with endpoint.breaker.trial(text, trial):
                if self._try_timeout_s is not None:
                    deadline = min(deadline, time.monotonic() + self._try_timeout_s)
                return await endpoint.judge(text, role, rules, deadline)
        finally:
            endpoint.slots.release()


class _Endpoint:
    def __init__(self, teacher: Teacher, limits: BreakerLimits, max_in_flight: int, observer: TeacherObserver) -> None:
        self.teacher = teacher
        self.breaker = Breaker(limits, name=teacher.name, on_open=observer.breaker_opened)
        self.slots = asyncio.Semaphore(max_in_flight)
        self.in_flight = 0
        self.asked_at = 0.0
        self._told: TTLCache[str, None] = TTLCache(TOLD_REASONS, TOLD_FOR_S, timer=time.monotonic)

    @property
    def is_ready(self) -> bool:
        return self.teacher.is_ready and self.breaker.is_admitting

    def begin(self, work: Coroutine[Any, Any, Judgement]) -> asyncio.Task[Judgement]:
        """Counted from this moment on, so that whoever chooses next knows of it."""
        self.in_flight += 1
        self.asked_at = time.monotonic()
        task = asyncio.create_task(work)
        task.add_done_callback(self._end)
        return task

    async def judge(self, text: str, role: Role, rules: Mapping[Category, Rule], deadline: float) -> Judgement:
        try:
            return await self.teacher.judge(text, role, rules, deadline=deadline)
        except TeacherUnavailable as error:
            if error.is_teachers_fault or error.outcome == "error":
                self._tell(str(error))
            raise

    def _tell(self, reason: str) -> None:
        if reason not in self._told:
            self._told[reason] = None
            log.warning("teacher's endpoint gave no answer", extra={"endpoint": self.teacher.name, "reason": reason})

    def _end(self, _task: asyncio.Task[Judgement]) -> None:
        self.in_flight -= 1


def _most_telling(failure: TeacherUnavailable | None, failed: Iterable[asyncio.Task[Judgement]]) -> TeacherUnavailable | None:
    """The last that is an endpoint's fault; the text's only where none is."""
    for task in failed:
        error = task.exception()
        assert error is not None, "it failed"
        if not isinstance(error, TeacherUnavailable):
            raise error
        if failure is None or error.is_teachers_fault:
            failure = error
    return failure


async def _give_up(tries: Iterable[asyncio.Task[Judgement]]) -> None:
    tries = list(tries)
    for task in tries:
        task.cancel()
    await asyncio.gather(*tries, return_exceptions=True)
