"""How the traffic of late differs from a reference: its scores, and how much of it is flagged, escalated or disguised."""

import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from server.cascade import Opinion
from server.check import Checked
from server.core.artifact import Manifest
from server.core.errors import ConfigurationError
from server.core.histograms import BINS, DriftReference, ScoreHistograms, add_up, bin_of, histograms_from_json, psi
from server.core.taxonomy import CATEGORIES, Category
from server.core.types import TextResult

BUCKETS = 24
"""The window moves by this part of itself."""

MIN_TEXTS = 1_000
"""In the window, and in the reference, before one is held against the other: with fewer, chance alone looks like drift."""


class _Tally:
    """What is counted of the texts of one bucket."""

    def __init__(self) -> None:
        self.texts = self.escalated = self.canonicalised = 0
        self.flagged: Counter[Category] = Counter()
        self.scores: dict[Category, list[int]] = {category: [0] * BINS for category in CATEGORIES}

    def add(self, opinion: Opinion, result: TextResult) -> None:
        self.texts += 1
        self.escalated += result.escalation is not None
        self.canonicalised += opinion.is_disguised
        for category in result.categories:
            self.flagged[category] += 1
        for category, counts in self.scores.items():
            counts[bin_of(opinion.scores[category])] += 1


class DriftWindow:
    """The texts that one artefact judged in the last ``window_s``: a :class:`server.check.Watcher`, on the event loop only.

    Time is cut into :data:`BUCKETS` buckets and the oldest is forgotten whole, so counts stay counts of texts: the window of
    one week is the reference of the next. A text costs some two microseconds.
    """

    def __init__(
        self,
        artifact_hash: str,
        reference: DriftReference | None,
        *,
        window_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bucket_s = window_s / BUCKETS
        self._clock = clock
        self._begin(artifact_hash)
        self.reference = reference

    def judge_by(self, artifact_hash: str, reference: DriftReference | None) -> None:
        """Count what this artefact judges from now on, and hold it against ``reference``; what another judged is forgotten."""
        if artifact_hash != self._artifact_hash:
            self._begin(artifact_hash)
        self.reference = reference

    def checked(self, request: Checked) -> None:
        if request.answer.artifact.hash != self._artifact_hash:
            return  # begun before a reload
        self._move()
        tally = self._buckets[-1]
        for opinion, result in zip(request.opinions, request.answer.results, strict=True):
            tally.add(opinion, result)

    @property
    def texts(self) -> int:
        return self._count(lambda tally: tally.texts)

    def psi(self, category: Category) -> float:
        """The window against the reference; NaN, which no alert's threshold is below, while either has too few texts."""
        if self.reference is None or min(self.texts, self.reference.histograms.texts) < MIN_TEXTS:
            return math.nan
        return psi(self.reference.histograms.scores[category], self._scores(category))

    def flagged_share(self, category: Category) -> float:
        """Of the window's texts, those that violate the category; NaN without texts, as the next two."""
        return self._share(lambda tally: tally.flagged[category])

    def escalated_share(self) -> float:
        return self._share(lambda tally: tally.escalated)

    def canonicalised_share(self) -> float:
        return self._share(lambda tally: tally.canonicalised)

    def histograms(self) -> ScoreHistograms:
        """The window's scores, as they can be the reference of another time."""
        return ScoreHistograms(self.texts, {c: self._scores(c) for c in CATEGORIES}, self._artifact_hash)

    def _scores(self, category: Category) -> tuple[int, ...]:
        self._move()
        return tuple(map(sum, zip(*(tally.scores[category] for tally in self._buckets), strict=True)))

    def _begin(self, artifact_hash: str) -> None:
        self._artifact_hash = artifact_hash
        self._newest = self._bucket_now()
        self._buckets = deque([_Tally()], maxlen=BUCKETS)

    def _share(self, count: Callable[[_Tally], int]) -> float:
        texts = self.texts
        return self._count(count) / texts if texts else math.nan

    def _count(self, count: Callable[[_Tally], int]) -> int:
        self._move()
        return sum(map(count, self._buckets))

    def _bucket_now(self) -> int:
        return int(self._clock() / self._bucket_s)

    def _move(self) -> None:
        now = self._bucket_now()
        for _ in range(min(now - self._newest, BUCKETS)):
            self._buckets.append(_Tally())
        self._newest = now


def find_reference(file: Path | None, manifest: Manifest) -> DriftReference | None:
    """What an artefact's scores are held against: the traffic in ``file``, where it was this artefact that judged it, and the
    manifest's own reference otherwise.

    Raises:
        ConfigurationError: one line that says why the file can't be used.
    """
    if file is not None:
        traffic = _load_traffic(file)
        if traffic.artifact_hash == manifest.hash:
            return DriftReference(traffic, "traffic")
    return None if manifest.reference is None else DriftReference(manifest.reference, "artifact")


def _load_traffic(file: Path) -> ScoreHistograms:
    """One answer of ``GET /admin/drift``, or a list of several servers' answers."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return add_up([histograms_from_json(part) for part in (record if isinstance(record, list) else [record])])
    except OSError as error:
        raise ConfigurationError(f"drift reference {file}: {error.strerror or error}") from None
    except (ValueError, ConfigurationError) as error:
        raise ConfigurationError(f"drift reference {file}: {error}") from None
