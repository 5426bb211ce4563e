"""The targets that the project set itself, held against a run."""

import math

from loadtest.bench.report import Report
from loadtest.goal import Goal

P99_SHARE = 0.6
"""The open-loop load at which p99 is judged."""


def goals(report: Report) -> list[Goal]:
    """Every target, in the order of the issue that set them."""
    ceiling = report.ceiling_texts_per_s
    footprint = report.footprint
    litserve = report.peers.get("litserve")
    at_share = report.opened.get(P99_SHARE)
    saturation = report.saturation.texts_per_s
    stock = report.stock
    return [
        Goal("single texts at saturation / ceiling", saturation / ceiling, 0.90, True),
        Goal("arrays of texts at saturation / ceiling", report.array_saturation.texts_per_s / ceiling, 0.97, True),
        Goal("rate / LitServe's", _over_peer(report, "litserve"), 3.0, True),
        Goal("rate / infinity's", _over_peer(report, "infinity"), 10.0, True),
        Goal(
            "p99 / LitServe's, at LitServe's own maximum",
            _ratio(litserve.ours.latency.p99_s, litserve.at_maximum.latency.p99_s) if litserve and litserve.ours else None,
            0.25,
            False,
        ),
        Goal(
            f"p99 at {P99_SHARE:.0%} of saturation / unloaded median",
            _ratio(at_share.latency.p99_s, report.unloaded.latency.p50_s) if at_share else None,
            4.0,
            False,
        ),
        Goal("what an idle server adds to the model's time", report.overhead_s, 0.0004, False, "s"),
        Goal("CPU of an idle server", footprint.idle_cpu if footprint else None, 0.01, False, "cores"),
        Goal("ceiling / stock ceiling", report.ceiling.best.texts_per_s / stock.best.texts_per_s if stock else None, 1.6, True),
        Goal("resident memory after all loads", footprint.rss_loaded_bytes if footprint else None, 250e6, False, "bytes"),
        Goal("from exec to ready", footprint.ready_s if footprint else None, 2.0, False, "s"),
    ]


def _over_peer(report: Report, peer: str) -> float | None:
    """Our highest rate in the peer's; None where it wasn't run."""
    return report.saturation.texts_per_s / report.peers[peer].saturation.texts_per_s if peer in report.peers else None


def _ratio(part: float, whole: float) -> float | None:
    """None where either is NaN, the latency of nothing."""
    return None if math.isnan(part) or math.isnan(whole) else part / whole
