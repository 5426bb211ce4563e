"""What waits: items, and the request that they belong to.

A request is settled by the event loop's thread alone. Session threads only read ``is_live`` and ``deadline``.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Payload = TypeVar("Payload")
Row = TypeVar("Row")

GIVES_WAY_S_PER_TOKEN = 3e-4
"""How long a request gives way to shorter ones that came after it, per token that it brought: 0.6 s for a text of 2,000
tokens, which would otherwise keep every short text behind it waiting for all of its windows."""
GIVES_WAY_SHARE = 0.25
"""The most that a request gives way, of the time that it has until its deadline."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[Row]):
    """One item's row, how long it waited, and how long the model call that gave the row took."""

    row: Row
    queue_s: float
    infer_s: float


class Request(Generic[Payload, Row]):
    """The items that one caller waits for. It ends exactly once: with every answer, or with one error."""

    __slots__ = ("answers", "deadline", "future", "is_live", "items", "queued_at", "tokens", "turn_at", "unanswered")

    def __init__(
        self, costed: Sequence[tuple[Payload, int]], *, queued_at: float, deadline: float, future: asyncio.Future
    ) -> None:
        """Args:
        costed: each payload with its cost in tokens, at least 1.
        queued_at: ``time.monotonic()`` when it came.
        deadline: the same clock's time after which nobody wants an answer.
        """
        self.queued_at = queued_at
        self.deadline = deadline
        self.future: asyncio.Future[list[Answer[Row]]] = future
        self.is_live = True
        least = min(cost for _, cost in costed)
        assert least >= 1, f"an item costs at least 1, not {least}"
        self.tokens = sum(cost for _, cost in costed)
        self.turn_at = queued_at + min(GIVES_WAY_S_PER_TOKEN * self.tokens, GIVES_WAY_SHARE * (deadline - queued_at))
        self.items = [Item(self, index, payload, cost) for index, (payload, cost) in enumerate(costed)]
        self.answers: list[Answer[Row] | None] = [None] * len(self.items)
        self.unanswered = len(self.items)

    def answer(self, index: int, answer: Answer[Row]) -> bool:
        """Record one item's answer; True when it was the last one, which ends the request."""
        assert self.is_live, "an ended request takes no answer"
        assert self.answers[index] is None, f"item {index} is answered twice"
        self.answers[index] = answer
        self.unanswered -= 1
        if self.unanswered:
            return False
        self.is_live = False
        if not self.future.done():
            self.future.set_result([answer for answer in self.answers if answer is not None])
        return True

    def end(self, error: Exception | None) -> int:
        """End the request without its answers; ``error`` is None when nobody waits any more.

        Returns:
            how many of its items went unanswered.
        """
        assert self.is_live, "a request ends once"
        self.is_live = False
        if error is not None and not self.future.done():
            self.future.set_exception(error)
        return self.unanswered


class Item(Generic[Payload, Row]):
    """One payload that waits for its row. ``cost`` is in tokens. On the clock of ``time.monotonic()``, ``queued_at`` is when it
    came, and ``turn_at`` when it goes before all that comes later."""

    __slots__ = ("cost", "index", "payload", "queued_at", "request", "turn_at")

    def __init__(self, request: Request[Payload, Row], index: int, payload: Payload, cost: int) -> None:
        self.request = request
        self.index = index
        self.payload = payload
        self.cost = cost
        self.queued_at = request.queued_at
        self.turn_at = request.turn_at

    def is_wanted(self, now: float) -> bool:
        """Somebody waits for this item and its deadline is ahead of ``now``."""
        return self.request.is_live and now < self.request.deadline
