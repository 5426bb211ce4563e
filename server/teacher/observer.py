"""What the road to the teacher tells whoever counts."""

from typing import Literal, Protocol

QuestionSource = Literal["teacher", "cache", "shared"]
BreakerState = Literal["closed", "half_open", "open"]


class TeacherObserver(Protocol):
    """Called on the event loop."""

    def question_done(self, *, source: QuestionSource) -> None:
        """A question was sent to the teacher, answered from the cache, or joined to the same one in flight."""
        ...

    def tokens_sent(self, tokens: int) -> None:
        """About so many tokens of prompt were sent."""
        ...

    def breaker_opened(self) -> None:
        """An endpoint is not asked for a while."""
        ...

    def hedged(self) -> None:
        """A second endpoint was asked because the first was slow."""
        ...
