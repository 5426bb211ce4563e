"""A token bucket: how often something may happen, over every stretch of time and not only on average."""

import time
from collections.abc import Callable


class TokenBucket:
    """Over any t seconds at most ``burst + rate_per_s · t`` pass. It starts full.

    Args:
        rate_per_s: above 0.
        burst: what may pass at once after a pause, at least 1.
        clock: in seconds, never going back.
    """

    def __init__(self, rate_per_s: float, burst: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._at = clock()

    def take(self) -> float:
        """0 if one may pass, which is paid for; else the seconds until one may."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate_per_s)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate_per_s
