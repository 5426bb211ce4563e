"""The circuit breaker before one endpoint: who has failed often is left alone for a while, then tried once.

    closed ── `failures` of the last `window` trials failed or were slow ──► open
    open ── after `open_s` ──► half_open: one trial at a time
    half_open ── it succeeds ──► closed, the past forgotten; it fails ──► open

A refusal that the text may have brought about is no failure, until `window` different texts in a row were refused: then it is
the endpoint that refuses whatever it is asked, and each further refusal is a failure.

The states and the rule on slow calls are resilience4j's; see docs/adr/0006 for why no library of Python's is used.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.teacher.observer import BreakerState
from server.teacher.teacher import TeacherUnavailable

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Trial:
    """One try under way. Set ``is_overtaken`` where one that began later, elsewhere, has answered: then it counts as slow."""

    is_overtaken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerLimits:
    """A trial that takes longer than ``slow_s`` counts as failed, though its answer is used."""

    window: int
    failures: int
    slow_s: float
    open_s: float


class Breaker:
    """Used on one event loop. ``on_open`` is called whenever it opens, after a failed probe too. The log, where the endpoint
    goes by ``name``, is told when it leaves the closed state and when it is back."""

    def __init__(
        self, limits: BreakerLimits, *, name: str, on_open: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._name = name
        self._on_open = on_open
        self._clock = clock
        self._failed: deque[bool] = deque(maxlen=limits.window)
        self._refused: set[int] = set()
        self._opened_at: float | None = None
        self._is_probing = False
        self._epoch = 0

    @property
    def state(self) -> BreakerState:
        if self._opened_at is None:
            return "closed"
        return "half_open" if self._clock() >= self._opened_at + self._limits.open_s else "open"

    @property
    def is_admitting(self) -> bool:
        """Whether :meth:`trial` would let one in."""
        state = self.state
        return state == "closed" or (state == "half_open" and not self._is_probing)

    @contextmanager
    def trial(self, text: str, trial: Trial | None = None) -> Iterator[None]:
        """Around one try with ``text``, of which only a hash is kept: its success, failure and time are the breaker's evidence.

        A cancelled try and one that fails by no fault of the teacher's are evidence only if they were slow or overtaken, or the
        last of many refusals. A try that began before the breaker opened says nothing once it has.

        Raises:
            TeacherUnavailable: ``breaker_open``; the body isn't run.
        """
        if not self.is_admitting:
            raise TeacherUnavailable("breaker_open", "the teacher failed too often of late", was_asked=False)
        epoch, self._is_probing = self._epoch, self._opened_at is not None
        began = self._clock()
        has_failed: bool | None = None
        try:
            yield
            has_failed = False
            self._refused.clear()
        except TeacherUnavailable as error:
            has_failed = True if error.is_teachers_fault or self._is_one_of_many(error, text) else None
            raise
        finally:
            if self._clock() - began > self._limits.slow_s or (trial is not None and trial.is_overtaken):
                has_failed = True
            if epoch == self._epoch:
                self._is_probing = False
                if has_failed is not None:
                    self._note(has_failed)

    def _is_one_of_many(self, error: TeacherUnavailable, text: str) -> bool:
        """Whether so many different texts were refused in a row, this one too, that it isn't the texts."""
        if error.outcome == "error" and len(self._refused) < self._limits.window:
            self._refused.add(hash(text))
        return error.outcome == "error" and len(self._refused) == self._limits.window

    def _note(self, has_failed: bool) -> None:
        if self._opened_at is None:
            self._failed.append(has_failed)
            if sum(self._failed) >= self._limits.failures:
                self._open()
        elif has_failed:
            self._open()
        else:
            self._opened_at = None
            self._epoch += 1
            log.info("teacher's endpoint answers again", extra={"endpoint": self._name})

    def _open(self) -> None:
        if self._opened_at is None:
            log.warning("teacher's endpoint failed or was slow too often, and is left alone", extra={"endpoint": self._name})
        self._opened_at = self._clock()
        self._epoch += 1
        self._failed.clear()
        self._on_open()
