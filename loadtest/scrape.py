"""The server's own numbers: its /metrics, read with Prometheus' parser."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]

STAGES = ("encode", "queue", "infer", "student", "teacher", "total")
_GAUGES = {"queue_items": "stillguard_queue_items", "queue_tokens": "stillguard_queue_tokens"}


class Scrape:
    """All samples of one moment."""

    def __init__(self, exposition: str) -> None:
        """Raises ValueError: this is no exposition format."""
        self._values: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                self._values.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value

    def total(self, name: str, **labels: str) -> float:
        """The sum of a name's series that have these labels; 0 of none."""
        return sum(value for found, value in self._values.get(name, {}).items() if labels.items() <= dict(found).items())

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums by a label's values."""
        values = {dict(labels).get(label) for labels in self._values.get(name, {})}
        return {value: self.total(name, **{label: value}) for value in sorted(filter(None, values))}

    def labels(self, name: str) -> dict[str, str]:
        """Those of a name's first series; none of none."""
        return dict(next(iter(self._values.get(name, {})), ()))

    @property
    def rss_bytes(self) -> float:
        return self.total("process_resident_memory_bytes")

    @property
    def cpu_s(self) -> float:
        return self.total("process_cpu_seconds_total")


@dataclass(frozen=True, slots=True)
class Moment:
    """A scrape, ``at_s`` seconds from the load's beginning."""

    at_s: float
    scrape: Scrape


def scrape(client: httpx.Client, url: str) -> Scrape | None:
    """What a /metrics says now; None if nothing that can be read."""
    with contextlib.suppress(httpx.TransportError, ValueError):
        reply = client.get(url)
        if reply.status_code == httpx.codes.OK:
            return Scrape(reply.text)
    return None


def describe_server(moments: Sequence[Moment]) -> dict[str, Any] | None:
    """What the server says of the time from the first scrape to the last; None of fewer than two."""
    if len(moments) < 2:
        return None
    first, last = moments[0].scrape, moments[-1].scrape
    seconds = moments[-1].at_s - moments[0].at_s
    rss = [moment.scrape.rss_bytes for moment in moments]
    batches = last.total("stillguard_batch_items_count") - first.total("stillguard_batch_items_count")
    windows = last.total("stillguard_batch_items_sum") - first.total("stillguard_batch_items_sum")
    return {
        "info": last.labels("stillguard_info"),
        "seconds": seconds,
        "requests": _grown(first, last, "stillguard_requests_total", "outcome"),
        "errors": _grown(first, last, "stillguard_errors_total", "code"),
        "verdicts": _grown(first, last, "stillguard_verdicts_total", "verdict"),
        "escalations": _grown(first, last, "stillguard_escalations_total", "outcome"),
        "stages": {stage: found for stage in STAGES if (found := _stage(first, last, stage))},
        "windows_per_batch": windows / batches if batches else None,
        "cpu_cores": (last.cpu_s - first.cpu_s) / seconds,
        "rss_bytes": {"first": rss[0], "last": rss[-1], "max": max(rss), "growth": growth_bytes(moments)},
        **{f"max_{name}": max(moment.scrape.total(metric) for moment in moments) for name, metric in _GAUGES.items()},
    }


def growth_bytes(moments: Sequence[Moment]) -> float | None:
    """How much resident memory grew between the second quarter of the scrapes and the last, by their medians; the first
    quarter fills what is there to be filled. None of fewer than four."""
    quarter = len(moments) // 4
    if not quarter:
        return None
    rss = [moment.scrape.rss_bytes for moment in moments]
    return median(rss[-quarter:]) - median(rss[quarter : 2 * quarter])


def series(moments: Sequence[Moment]) -> list[dict[str, float]]:
    """A line a scrape, for the picture: CPU is in cores, since the scrape before."""
    before = [moments[0], *moments] if moments else []
    return [
        {
            "at_s": now.at_s,
            "rss_bytes": now.scrape.rss_bytes,
            "cpu_cores": (now.scrape.cpu_s - was.scrape.cpu_s) / (now.at_s - was.at_s) if now.at_s > was.at_s else 0.0,
            "queue_items": now.scrape.total(_GAUGES["queue_items"]),
        }
        for was, now in zip(before, moments, strict=False)
    ]


def _grown(first: Scrape, last: Scrape, name: str, label: str) -> dict[str, float]:
    before = first.by(name, label)
    return {value: grown for value, total in last.by(name, label).items() if (grown := total - before.get(value, 0.0))}


def _stage(first: Scrape, last: Scrape, stage: str) -> dict[str, float] | None:
    name = "stillguard_stage_seconds"
    count = last.total(f"{name}_count", stage=stage) - first.total(f"{name}_count", stage=stage)
    if not count:
        return None
    buckets = {
        float(edge): last.total(f"{name}_bucket", stage=stage, le=edge) - first.total(f"{name}_bucket", stage=stage, le=edge)
        for edge in last.by(f"{name}_bucket", "le")
    }
    total_s = last.total(f"{name}_sum", stage=stage) - first.total(f"{name}_sum", stage=stage)
    p50_s, p99_s = (quantile(buckets, share) for share in (0.5, 0.99))
    return {"count": count, "mean_s": total_s / count, "p50_s": p50_s, "p99_s": p99_s}


def quantile(buckets: Mapping[float, float], share: float) -> float:
    """As Prometheus' histogram_quantile: linear within a bucket, and the largest finite edge beyond it.

    Args:
        buckets: upper edge → how many are at most that.
    """
    edges = sorted(buckets)
    rank = share * buckets[edges[-1]]
    below_edge = below = 0.0
    for edge in edges:
        if buckets[edge] >= rank:
            if math.isinf(edge):
                return below_edge
            inside = buckets[edge] - below
            return below_edge + (edge - below_edge) * ((rank - below) / inside if inside else 1.0)
        below_edge, below = edge, buckets[edge]
    return below_edge
