"""Sees a session that is stuck in a model call."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from server.batching.item import Item
from server.batching.session import Session


class Watchdog:
    """One timer on the event loop, set to when the oldest call will have lasted ``stuck_s``; none while nothing is called.

    So a stuck call is seen at that very moment, a batch costs nothing to watch, and an idle server has no timer.
    """

    def __init__(
        self,
        *,
        stuck_s: float,
        sessions: Callable[[], Iterable[Session]],
        is_idle: Callable[[], bool],
        on_stuck: Callable[[Session, Sequence[Item]], None],
    ) -> None:
        """Args:
        sessions: those to look after.
        is_idle: nothing waits, and no session has taken what did.
        on_stuck: called on the loop with a session and the batch that was taken away from it.
        """
        self._stuck_s = stuck_s
        self._sessions = sessions
        self._is_idle = is_idle
        self._on_stuck = on_stuck
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def arm(self) -> None:
        """Watch from now on, if that isn't so already. To be called when something may be called soon."""
        if self._timer is None:
            self._set(time.monotonic() + self._stuck_s)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, due: float) -> None:
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - time.monotonic()), self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        if now - self._due > self._stuck_s / 2:
            # The whole process was stopped, or starved, and its sessions with it: they get their time again.
            self.arm()
            return
        for session in list(self._sessions()):
            batch = session.abandon_call(begun_by=now - self._stuck_s)
            if batch is not None:
                self._on_stuck(session, batch)
        oldest = min((since for session in self._sessions() if (since := session.busy_since()) is not None), default=None)
        if oldest is not None:
            self._set(oldest + self._stuck_s)
        elif not self._is_idle():
            self.arm()
