"""A :class:`~server.teacher.observer.TeacherObserver` that tests can read, and a clock that they can turn."""

from dataclasses import dataclass, field


@dataclass
class Counting:
    sources: list[str] = field(default_factory=list)
    tokens: int = 0
    openings: int = 0
    hedges: int = 0

    def question_done(self, *, source: str) -> None:
        self.sources.append(source)

    def tokens_sent(self, tokens: int) -> None:
        self.tokens += tokens

    def breaker_opened(self) -> None:
        self.openings += 1

    def hedged(self) -> None:
        self.hedges += 1


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now
