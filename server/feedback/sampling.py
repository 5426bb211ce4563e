"""Which verdicts are worth keeping."""

import math
import random
from collections.abc import Callable, Sequence

from server.cascade import Opinion, disagreements
from server.core.feedback import Reason
from server.core.policy import Policy
from server.core.taxonomy import CATEGORIES, Category
from server.core.types import TextResult

Zone = tuple[Category, float, float]


class Sampler:
    """A text is kept that was escalated, on which the teacher and the student would decide a category differently, that
    scores near a threshold, or that a draw picks. The near zone is counted in log-odds and not as a share of the unsure
    band: a category that the teacher is no help with has no band, and is the one to learn most about.

    Args:
        share: of all texts, to draw whatever they score.
        near_log_odds: how far from ``block_at`` a score counts as near it; 0 for none.
        draw: uniform in [0, 1).
    """

    def __init__(self, *, share: float, near_log_odds: float, draw: Callable[[], float] = random.random) -> None:
        self._share = share
        self._near_log_odds = near_log_odds
        self._draw = draw
        self._zones: dict[str, tuple[Policy, Sequence[Zone]]] = {}

    def reasons(self, opinion: Opinion, result: TextResult, policy: Policy) -> tuple[Reason, ...]:
        """Why this text is to be kept; empty if it isn't."""
        found: list[Reason] = []
        if result.escalation is not None:
            if policy.mode != "shadow":  # a shadow's text is asked about, sure or not
                found.append("escalated")
            if disagreements(policy, result.escalation):
                found.append("disagreeing")
        scores = opinion.scores
        for category, low, high in self._zones_of(policy):
            if low <= scores[category] <= high:
                found.append("near_threshold")
                break
        if self._draw() < self._share:
            found.append("sampled")
        return tuple(found)

    def _zones_of(self, policy: Policy) -> Sequence[Zone]:
        known = self._zones.get(policy.id)
        if known is None or known[0] is not policy:  # the first of its id, or another since a reload
            known = self._zones[policy.id] = (policy, near_zones(policy, self._near_log_odds))
        return known[1]


def near_zones(policy: Policy, log_odds: float) -> Sequence[Zone]:
    """For each category the scores that are at most so many log-odds from its ``block_at``; none for 0."""
    if not log_odds:
        return ()
    ratio = math.exp(log_odds)
    zones = []
    for category, rule in zip(CATEGORIES, policy.rules, strict=True):
        yes, no = rule.block_at, 1 - rule.block_at
        low, high = yes / (yes + no * ratio), yes * ratio / (yes * ratio + no)
        zones.append((category, min(low, yes), max(high, yes)))  # next to 0 and 1 rounding can pass it
    return tuple(zones)
