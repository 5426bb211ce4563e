"""What came of many requests, kept small enough to be sent between processes and to last for hours."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from loadtest.stats import Latency

_GROWTH = math.log(1.01)
_SMALLEST_S = 1e-6
WAITED_FOR = ("ok", "lost", "unanswered")
"""Outcomes whose time counts as latency: a refusal is quick, and no answer."""
MAX_COMPLAINTS = 20


class Histogram:
    """Times in buckets that are 1 % wide: what is read from it is at most 1 % too high."""

    def __init__(self, counts: dict[int, int] | None = None) -> None:
        self.counts = Counter(counts or {})

    def add(self, seconds: float) -> None:
        self.counts[math.floor(math.log(max(seconds, _SMALLEST_S)) / _GROWTH)] += 1

    def merge(self, other: "Histogram") -> None:
        self.counts.update(other.counts)

    def __len__(self) -> int:
        return self.counts.total()

    def percentile(self, share: float) -> float:
        """The smallest upper edge that at least ``share`` of the times don't exceed; NaN of nothing."""
        rank, seen = max(1, math.ceil(share * len(self))), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return math.exp((bucket + 1) * _GROWTH)
        return math.nan

    def latency(self) -> Latency:
        p50_s, p90_s, p99_s, p999_s, max_s = (self.percentile(share) for share in (0.5, 0.9, 0.99, 0.999, 1.0))
        return Latency(len(self), p50_s, p90_s, p99_s, p999_s, max_s)


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """One of all of them."""
    whole = Histogram()
    for histogram in histograms:
        whole.merge(histogram)
    return whole


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times are seconds from the load's beginning: when it should have been sent, when it was, and when its
    answer was there or it was given up."""

    kind: str
    is_check: bool
    outcome: str
    intended_s: float
    sent_s: float
    done_s: float
    complaint: str | None = None


class Tally:
    """Counts of samples, by bins of ``bin_s`` seconds; what isn't by bins leaves requests out that were due before ``from_s``.

    Attributes:
        offered: bin of the intended time → requests.
        done: (bin of the end, outcome) → requests.
        latency: (bin of the intended time, is_check) → times from the intended time to the end, of outcomes in
            :data:`WAITED_FOR`.
        kinds: (kind, outcome) → times from the intended time to the end.
        late: from the intended time to sending.
        longest_s: the longest time from sending to the end, whatever the outcome.
        complaints: what was wrong → how often; the first :data:`MAX_COMPLAINTS` kinds.
    """

    def __init__(self, bin_s: float, *, from_s: float = 0.0) -> None:
        self.bin_s = bin_s
        self.from_s = from_s
        self.offered: Counter[int] = Counter()
        self.done: Counter[tuple[int, str]] = Counter()
        self.latency: dict[tuple[int, bool], Histogram] = {}
        self.kinds: dict[tuple[str, str], Histogram] = {}
        self.late = Histogram()
        self.longest_s = 0.0
        self.complaints: Counter[str] = Counter()

    def add(self, sample: Sample) -> None:
        latency_s = sample.done_s - sample.intended_s
        intended_bin = int(sample.intended_s / self.bin_s)
        self.offered[intended_bin] += 1
        self.done[int(sample.done_s / self.bin_s), sample.outcome] += 1
        if sample.outcome in WAITED_FOR:
            self.latency.setdefault((intended_bin, sample.is_check), Histogram()).add(latency_s)
        if sample.complaint:
            self._complain(sample.complaint, 1)
        if sample.intended_s >= self.from_s:
            self.kinds.setdefault((sample.kind, sample.outcome), Histogram()).add(latency_s)
            self.late.add(sample.sent_s - sample.intended_s)
            self.longest_s = max(self.longest_s, sample.done_s - sample.sent_s)

    def merge(self, other: "Tally") -> None:
        """Add another's counts, of the same bins."""
        bins, other_bins = (self.bin_s, self.from_s), (other.bin_s, other.from_s)
        assert bins == other_bins, f"bins and beginnings of {bins} and {other_bins} seconds"
        self.offered.update(other.offered)
        self.done.update(other.done)
        _merge(self.latency, other.latency)
        _merge(self.kinds, other.kinds)
        self.late.merge(other.late)
        self.longest_s = max(self.longest_s, other.longest_s)
        for complaint, count in other.complaints.items():
            self._complain(complaint, count)

    def bins(self, start_s: float, end_s: float) -> range:
        """The bins that lie wholly between two times."""
        return range(math.ceil(round(start_s / self.bin_s, 6)), math.floor(round(end_s / self.bin_s, 6)))

    def latencies(self, bins: Iterable[int], *, checks_only: bool) -> Histogram:
        """Of requests that were due in these bins."""
        kinds = (True,) if checks_only else (True, False)
        return merged(self.latency[at, kind] for at in bins for kind in kinds if (at, kind) in self.latency)

    def to_record(self) -> dict[str, Any]:
        """Lists, numbers and strings alone."""
        return {
            "bin_s": self.bin_s,
            "from_s": self.from_s,
            "offered": list(self.offered.items()),
            "done": [[*key, count] for key, count in self.done.items()],
            "latency": [[*key, list(histogram.counts.items())] for key, histogram in self.latency.items()],
            "kinds": [[*key, list(histogram.counts.items())] for key, histogram in self.kinds.items()],
            "late": list(self.late.counts.items()),
            "longest_s": self.longest_s,
            "complaints": list(self.complaints.items()),
        }

    def _complain(self, complaint: str, count: int) -> None:
        if complaint in self.complaints or len(self.complaints) < MAX_COMPLAINTS:
            self.complaints[complaint] += count


def _merge(into: dict[Any, Histogram], other: dict[Any, Histogram]) -> None:
    for key, histogram in other.items():
        into.setdefault(key, Histogram()).merge(histogram)


def read_tally(record: dict[str, Any]) -> Tally:
    """The inverse of :meth:`Tally.to_record`."""
    tally = Tally(record["bin_s"], from_s=record["from_s"])
    tally.offered.update(dict(record["offered"]))
    tally.done.update({(at, outcome): count for at, outcome, count in record["done"]})
    tally.latency = {(at, is_check): Histogram(dict(counts)) for at, is_check, counts in record["latency"]}
    tally.kinds = {(kind, outcome): Histogram(dict(counts)) for kind, outcome, counts in record["kinds"]}
    tally.late = Histogram(dict(record["late"]))
    tally.longest_s = record["longest_s"]
    tally.complaints.update(dict(record["complaints"]))
    return tally
