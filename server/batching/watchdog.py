"""Sees a session that is stuck in a model call."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from server.batching.item import Item
from server.batching.session import Session

LOOKS = 4
"""How many looks a call of ``stuck_s`` is given."""


class Watchdog:
    """One timer on the event loop, for four looks in ``stuck_s`` at what is called; none while nothing is.

    A call is stuck if it had begun by the fourth look before. So it is seen after one to one and a quarter of ``stuck_s``, a
    batch costs nothing to watch, and an idle server has no timer. Time in which the whole process stood still (SIGSTOP, a
    suspended machine) or was starved is a quarter of ``stuck_s`` to the calls, however long it was: nobody is blamed for it.
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
        self._pause_s = stuck_s / LOOKS
        self._sessions = sessions
        self._is_idle = is_idle
        self._on_stuck = on_stuck
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at: deque[float] = deque(maxlen=LOOKS + 1)

    def arm(self) -> None:
        """Watch from now on, if that isn't so already. To be called when something may be called soon."""
        if self._timer is None:
            self._look()

    def _look(self) -> None:
        self._looked_at.append(time.monotonic())
        if len(self._looked_at) > LOOKS:
            for session in list(self._sessions()):
                batch = session.abandon_call(begun_by=self._looked_at[0])
                if batch is not None:
                    self._on_stuck(session, batch)
        self._timer = None if self._is_idle() else asyncio.get_running_loop().call_later(self._pause_s, self._look)
