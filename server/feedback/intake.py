"""What waits for the writer: bounded, and never in the way of whoever hands something in."""

from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from server.core.feedback import Record

_CHARS_PER_RECORD = 500
"""What a record holds beside its text, roughly, so that short texts fill the bound on characters too."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A record that lacks what is made of its text: the writer's thread has the time for that."""

    record: Record
    text: str | None = field(repr=False)

    @property
    def chars(self) -> int:
        return _CHARS_PER_RECORD + len(self.text or "")


class Intake:
    """From the event loop to the writer's thread. No lock is ever waited for by the event loop: each side counts for itself,
    and the queue's own ``put`` never blocks."""

    def __init__(self, *, max_items: int, max_chars: int) -> None:
        self._queue: SimpleQueue[Draft | None] = SimpleQueue()
        self._max_items = max_items
        self._max_chars = max_chars
        self._chars_in = 0
        self._chars_out = 0
        self._is_closed = False

    def offer(self, draft: Draft) -> bool:
        """False if too much waits, or it is closed. On the event loop."""
        chars = draft.chars
        is_full = self._queue.qsize() >= self._max_items or self._chars_in - self._chars_out + chars > self._max_chars
        if self._is_closed or is_full:
            return False
        self._chars_in += chars
        self._queue.put(draft)
        return True

    def close(self) -> None:
        """Take no more; what waits can still be had. Not while something is being offered."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)

    def take(self, timeout_s: float | None) -> Draft | None:
        """The next one. On the writer's thread.

        Returns:
            None when it is closed and nothing waits.

        Raises:
            TimeoutError: nothing came in time.
        """
        try:
            draft = self._queue.get(timeout=timeout_s)
        except Empty:
            raise TimeoutError from None
        if draft is None:
            self._queue.put(None)
        else:
            self._chars_out += draft.chars
        return draft
