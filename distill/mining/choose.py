"""Which candidates become the next training set: failures first, and in balance over categories and polarity."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from distill.mining.candidates import REASONS, Candidate

Stratum = tuple[int, int]
"""A category's column, and 1 where it is held to be violated, 0 where not, −1 where nobody says."""

LOPSIDED = 3.0
"""A stratum may have so many times what the others have on average: a student that learns one thing only unlearns the rest."""
FEW = 200
"""As many are never too many of a kind: beside the draw of the base data they can't tilt a student."""


def choose(candidates: Sequence[Candidate], rows: int, left_out: Counter[str]) -> list[int]:
    """Indices of at most ``rows`` candidates, reason by reason; within a reason from the (category, polarity) that has least,
    and of none more than balance allows.

    Candidates of one stratum and reason are taken in the order given.

    Args:
        left_out: counts those beyond the balance, and those beyond ``rows``.
    """
    strata = _strata(candidates)
    sizes = Counter(strata)
    allowed = {stratum: min(size, _most(stratum, sizes)) for stratum, size in sizes.items()}
    taken: Counter[Stratum] = Counter()
    chosen: list[int] = []
    for reason in REASONS:
        members: dict[Stratum, list[int]] = defaultdict(list)
        for index, candidate in enumerate(candidates):
            if candidate.reason == reason:
                members[strata[index]].append(index)
        drawable = {stratum: indices[: allowed[stratum] - taken[stratum]] for stratum, indices in members.items()}
        chosen += _draw(drawable, rows - len(chosen), taken)
    balanced = sum(allowed.values())
    left_out["over_balance"] += len(candidates) - balanced
    left_out["over_rows"] += balanced - len(chosen)
    return chosen


def _most(stratum: Stratum, sizes: Counter[Stratum]) -> int:
    """How many texts of a stratum the balance allows: all, if nobody judged them or there is no other judged stratum."""
    others = [size for other, size in sizes.items() if other != stratum and other[1] >= 0]
    if stratum[1] < 0 or not others:
        return sizes[stratum]
    return max(FEW, int(LOPSIDED * sum(others) / len(others)))


def _draw(members: dict[Stratum, list[int]], limit: int, taken: Counter[Stratum]) -> list[int]:
    """At most ``limit`` of the members, each from the stratum of which least was taken so far; ``taken`` is kept up."""
    waiting = {stratum: iter(indices) for stratum, indices in members.items()}
    emptiest = [(taken[stratum], stratum) for stratum in waiting]
    heapq.heapify(emptiest)
    drawn: list[int] = []
    while emptiest and len(drawn) < limit:
        _, stratum = heapq.heappop(emptiest)
        index = next(waiting[stratum], None)
        if index is not None:
            drawn.append(index)
            taken[stratum] += 1
            heapq.heappush(emptiest, (taken[stratum], stratum))
    return drawn


def _strata(candidates: Sequence[Candidate]) -> list[Stratum]:
    """A text belongs to its rarest violated category, or else to the one that the student suspected most."""
    opinions = [candidate.opinion() for candidate in candidates]
    positives = np.sum([opinion == 1 for opinion in opinions], axis=0)
    strata = []
    for candidate, opinion in zip(candidates, opinions, strict=True):
        scores = np.nan_to_num(candidate.scores)
        violated = np.flatnonzero(opinion == 1)
        known = np.flatnonzero(~np.isnan(opinion))
        if len(violated):
            strata.append((int(violated[np.argmin(positives[violated])]), 1))
        elif len(known):
            strata.append((int(known[np.argmax(scores[known])]), 0))
        else:
            strata.append((int(np.argmax(scores)), -1))
    return strata
