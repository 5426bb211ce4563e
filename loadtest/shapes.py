"""How a load goes over time: stairs of constant level, and the times at which requests come under them."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

STAIRS = 10
SPIKE_BASE = 0.25
"""A spike's level before and after, as a share of its peak."""


@dataclass(frozen=True, slots=True)
class Step:
    """``level`` from ``start_s`` to ``end_s``: requests a second in an open loop, users in a closed one."""

    start_s: float
    end_s: float
    level: float


Steps = tuple[Step, ...]
"""Without gaps, from 0 on."""


def steady(peak: float, seconds: float) -> Steps:
    return stairs([peak], [seconds])


def ramp(peak: float, seconds: float) -> Steps:
    """To ``peak`` in :data:`STAIRS` equal steps, each long enough to be measured by itself."""
    return stairs([peak * (number + 1) / STAIRS for number in range(STAIRS)], [seconds / STAIRS] * STAIRS)


def spike(peak: float, seconds: float) -> Steps:
    """A fifth of the time at ``peak``, and two fifths before and after it at a quarter of that."""
    return stairs([peak * SPIKE_BASE, peak, peak * SPIKE_BASE], [0.4 * seconds, 0.2 * seconds, 0.4 * seconds])


SHAPES: dict[str, Callable[[float, float], Steps]] = {"steady": steady, "ramp": ramp, "spike": spike, "soak": steady}
"""Name → (peak, seconds) → steps. A soak is a steady load that is judged for its memory, too."""


def stairs(levels: Sequence[float], seconds: Sequence[float]) -> Steps:
    """One step after another."""
    ends = [0.0]
    for length in seconds:
        ends.append(ends[-1] + length)
    return tuple(Step(start, end, level) for (start, end), level in zip(pairwise(ends), levels, strict=True))


def arrivals(steps: Steps, rng: random.Random) -> Iterator[float]:
    """Random (Poisson) times in seconds from the beginning, ``level`` a second on average; none depends on an answer.

    Several of these at shares of one rate are, together, arrivals at that rate.
    """
    for step in steps:
        at = step.start_s
        while step.level > 0:
            at += rng.expovariate(step.level)
            if at >= step.end_s:
                break
            yield at
