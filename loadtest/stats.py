"""Numbers of a sample."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds over ``count`` requests; all NaN without any."""

    count: int
    p50_s: float
    p90_s: float
    p99_s: float
    p999_s: float
    max_s: float


def summarise(latencies_s: Sequence[float]) -> Latency:
    ordered = sorted(latencies_s)
    p50_s, p90_s, p99_s, p999_s = (percentile(ordered, share) for share in (0.5, 0.9, 0.99, 0.999))
    return Latency(len(ordered), p50_s, p90_s, p99_s, p999_s, ordered[-1] if ordered else math.nan)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of an ordered sample doesn't exceed (nearest rank); NaN of nothing."""
    return ordered[max(1, math.ceil(share * len(ordered))) - 1] if ordered else math.nan
