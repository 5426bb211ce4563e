"""How much may be asked of the teacher: a share of the texts, questions per second and tokens per second.

Each bound is a token bucket, so that it holds over *every* stretch and not only on average: over any n texts at most
share · (n + ``SHARE_BURST_TEXTS``) questions are sent, over any t seconds at most rate · (t + ``BURST_S``), give or take those
that are paid together.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from server.teacher.teacher import TeacherUnavailable

BURST_S = 10.0
SHARE_BURST_TEXTS = 500
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLimits:
    """``max_share`` in (0, 1] of the checked texts; the rates above 0. None bounds nothing."""

    max_share: float | None = None
    max_per_s: float | None = None
    max_tokens_per_s: float | None = None


class Budget:
    """What all may ask together, and what each API key may. A question is sent only if every bound has room for it.

    Args:
        per_key: applies to each key's name on its own; requests without a key are bounded by ``total`` alone.
        clock: in seconds, never going back.
    """

    def __init__(self, *, total: BudgetLimits, per_key: BudgetLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._per_key_limits = per_key
        self._total = _Account(total, clock())
        self._by_key: dict[str, _Account] = {}

    def texts_checked(self, texts: int, key: str | None) -> None:
        """So many texts were checked, whether or not the teacher is asked about them: each earns its share."""
        for account in self._accounts(key):
            account.share.fill(texts)

    def spend(self, tokens: int, key: str | None, *, questions: int = 1) -> None:
        """Pay for so many questions of about ``tokens`` in all.

        Raises:
            TeacherUnavailable: ``over_budget``; nothing was paid.
        """
        now = self._clock()
        bills = [bill for account in self._accounts(key) for bill in account.bills(questions, tokens, now)]
        if not all(bucket.has_room(amount) for bucket, amount in bills):
            raise TeacherUnavailable("over_budget", "the teacher's budget is spent", is_teachers_fault=False)
        for bucket, amount in bills:
            bucket.level -= amount

    def give_back(self, tokens: int, key: str | None) -> None:
        """What one question cost that was never sent."""
        for account in self._accounts(key):
            for bucket, amount in account.bills(1, tokens, self._clock()):
                bucket.fill_with(amount)

    def _accounts(self, key: str | None) -> list["_Account"]:
        if key is None:
            return [self._total]
        if key not in self._by_key:
            self._by_key[key] = _Account(self._per_key_limits, self._clock())
        return [self._total, self._by_key[key]]


class _Bucket:
    """Earns ``rate`` per unit up to ``rate · burst``, 1 at least; without a rate it is bottomless. It starts full."""

    def __init__(self, rate: float | None, *, burst: float) -> None:
        self._rate = rate or 0.0
        self._capacity = math.inf if rate is None else max(rate * burst, 1.0)
        self.level = self._capacity

    def has_room(self, amount: float) -> bool:
        """A full bucket has room for any payment, which may leave it in debt: else what is larger than it never passes."""
        return self.level >= min(amount, self._capacity) - _ROUNDING

    def fill(self, units: float) -> None:
        self.fill_with(self._rate * units)

    def fill_with(self, amount: float) -> None:
        self.level = min(self._capacity, self.level + amount)


class _Account:
    """The three buckets of one payer."""

    def __init__(self, limits: BudgetLimits, now: float) -> None:
        self.share = _Bucket(limits.max_share, burst=SHARE_BURST_TEXTS)
        self._questions = _Bucket(limits.max_per_s, burst=BURST_S)
        self._tokens = _Bucket(limits.max_tokens_per_s, burst=BURST_S)
        self._filled_at = now

    def bills(self, questions: int, tokens: int, now: float) -> list[tuple[_Bucket, float]]:
        """(bucket, what so many questions of ``tokens`` in all take from it), after what was earned since the last time."""
        for bucket in (self._questions, self._tokens):
            bucket.fill(now - self._filled_at)
        self._filled_at = now
        return [(self.share, float(questions)), (self._questions, float(questions)), (self._tokens, float(tokens))]
