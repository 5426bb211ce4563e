"""Histograms of a student's scores, and how far one is from another.

The bins are part of the format and the same for every category: one unit of log-odds each between −10 and 4, scores of
0.00005 and 0.98, and one open bin on either side. Most scores of ordinary traffic are far below 0.01, where bins of equal
width in the score itself would hold all of them in one.

As JSON, in an artefact's manifest, from ``GET /admin/drift`` and in the file that ``drift_reference`` names::

    {"artifact_hash": "…", "log_odds": [-10, …, 4], "texts": 8000, "scores": {"hate": [0, 12, …], …}}
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES, Category

LOG_ODDS = tuple(range(-10, 5))
"""The edges of the bins."""

EDGES = tuple(1.0 / (1.0 + math.exp(-odds)) for odds in LOG_ODDS)
"""The same as scores."""

BINS = len(EDGES) + 1

ReferenceSource = Literal["artifact", "traffic"]
"""What drift is measured against: the labelled texts that the artefact was measured on, or the operator's own traffic."""

_UNSEEN = 0.5
"""Added to each bin, so that one that is empty on either side costs a bounded amount (Jeffreys' prior)."""


def bin_of(score: float) -> int:
    """The bin of a score in [0, 1]; an edge belongs to the bin above it."""
    return bisect_right(EDGES, score)


def psi(reference: Sequence[int], present: Sequence[int]) -> float:
    """The population stability index of one histogram against another, at least 0: Σ (p − q) · ln(p / q) over the bins.

    Between n and m texts of the same kind it is about 15 · (1/n + 1/m) by chance alone. By convention below 0.1 is no change
    and over 0.25 a large one.
    """
    wanted, found = sum(reference) + _UNSEEN * BINS, sum(present) + _UNSEEN * BINS
    total = 0.0
    for expected, actual in zip(reference, present, strict=True):
        q, p = (expected + _UNSEEN) / wanted, (actual + _UNSEEN) / found
        total += (p - q) * math.log(p / q)
    return total


@dataclass(frozen=True, slots=True)
class ScoreHistograms:
    """How the scores of some texts are spread.

    Attributes:
        texts: how many texts; each has a score in every category, so each category's counts add up to it.
        scores: texts in each of the :data:`BINS` bins, by category.
        artifact_hash: whose scores these are; None in an artefact's own manifest.
    """

    texts: int
    scores: Mapping[Category, tuple[int, ...]]
    artifact_hash: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.artifact_hash, str | None):
            raise ConfigurationError("the artifact_hash of histograms is not a string")
        if set(self.scores) != set(CATEGORIES):
            raise ConfigurationError(f"histograms are of {sorted(self.scores)}, not of {list(CATEGORIES)}")
        for category, counts in self.scores.items():
            if len(counts) != BINS or any(type(count) is not int or count < 0 for count in counts):
                raise ConfigurationError(f"the histogram of {category} is not {BINS} counts of 0 or more")
            if sum(counts) != self.texts:
                raise ConfigurationError(f"the histogram of {category} holds {sum(counts)} texts, not {self.texts}")

    def to_json(self) -> dict[str, Any]:
        return {
            "artifact_hash": self.artifact_hash,
            "log_odds": list(LOG_ODDS),
            "texts": self.texts,
            "scores": {category: list(self.scores[category]) for category in CATEGORIES},
        }


@dataclass(frozen=True, slots=True)
class DriftReference:
    """What the present is held against."""

    histograms: ScoreHistograms
    source: ReferenceSource


def histograms_from_json(value: Any) -> ScoreHistograms:
    """The inverse.

    Raises:
        ConfigurationError: it has another shape, other bins, or counts that don't add up.
    """
    try:
        if tuple(value["log_odds"]) != LOG_ODDS:
            raise ConfigurationError(f"histograms have edges at log-odds {value['log_odds']}, not at {list(LOG_ODDS)}")
        scores = {category: tuple(counts) for category, counts in value["scores"].items()}
        return ScoreHistograms(value["texts"], scores, value.get("artifact_hash"))
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"histograms are malformed: {error!r}") from None


def add_up(parts: Sequence[ScoreHistograms]) -> ScoreHistograms:
    """The histograms of all texts of ``parts`` together, such as the windows of several servers.

    Raises:
        ConfigurationError: there are none, or they are of different artefacts.
    """
    hashes = {part.artifact_hash for part in parts}
    if len(hashes) != 1:
        raise ConfigurationError(f"histograms of {len(hashes)} artefacts can't be added up, only those of one")
    scores = {c: tuple(map(sum, zip(*(part.scores[c] for part in parts), strict=True))) for c in CATEGORIES}
    return ScoreHistograms(sum(part.texts for part in parts), scores, hashes.pop())
