"""What the batcher tells whoever counts. Every method is called on the event loop's thread, and must not block."""

from typing import Literal, Protocol

DropReason = Literal["expired", "cancelled", "failed", "shutdown"]
LossReason = Literal["died", "stuck"]


class BatchObserver(Protocol):
    """Arguments are passed by name."""

    def batch_done(self, *, items: int, tokens: int, padded_tokens: int, infer_s: float) -> None:
        """A batch left its session: ``tokens`` without padding, ``infer_s`` with the retries of a failed batch."""
        ...

    def dropped(self, *, reason: DropReason, items: int) -> None:
        """A request ended with ``items`` (at least 1) of its items unanswered. Not told of a request that was shed."""
        ...

    def session_lost(self, *, reason: LossReason) -> None:
        """A session's model died, or is stuck in a call and was given up; another is being made."""
        ...


class NullObserver:
    """Counts nothing."""

    def batch_done(self, *, items: int, tokens: int, padded_tokens: int, infer_s: float) -> None:
        pass

    def dropped(self, *, reason: DropReason, items: int) -> None:
        pass

    def session_lost(self, *, reason: LossReason) -> None:
        pass
