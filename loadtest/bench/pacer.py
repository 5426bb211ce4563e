"""A timer of microseconds for an event loop, whose own timers count in milliseconds: Linux's timerfd.

At some hundred requests a second a millisecond of lateness would be a third of what is measured.
"""

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator

_TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = os.O_NONBLOCK, os.O_CLOEXEC, 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Pacer:
    """Calls back once, at a ``time.monotonic()`` time, as often as it is set anew. Used as a context manager."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Raises OSError where there is no timerfd."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._loop = loop
        self._callback = callback
        self._descriptor = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        self._check(self._descriptor)

    def __enter__(self) -> "Pacer":
        self._loop.add_reader(self._descriptor, self._fire)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def set(self, at: float) -> None:
        """Call back at ``at``, or at once if that has passed."""
        seconds, nanoseconds = divmod(max(1, round(at * 1e9)), 1_000_000_000)
        wanted = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        self._check(self._libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(wanted), None))

    def _fire(self) -> None:
        with contextlib.suppress(BlockingIOError):  # set anew since it was due
            os.read(self._descriptor, 8)
            self._callback()

    @staticmethod
    def _check(result: int) -> None:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def sending(times: Iterator[float], send: Callable[[float], None]) -> Iterator[None]:
    """Meanwhile call ``send`` with each of ``times`` when it has come; late ones at once, in their order.

    Args:
        times: ``time.monotonic()`` times in ascending order. Needs a running event loop.
    """
    due_at = next(times, None)

    def send_due() -> None:
        nonlocal due_at
        while due_at is not None and due_at <= time.monotonic():
            send(due_at)
            due_at = next(times, None)
        if due_at is not None:
            pacer.set(due_at)

    with Pacer(asyncio.get_running_loop(), send_due) as pacer:
        if due_at is not None:
            pacer.set(due_at)
        yield
