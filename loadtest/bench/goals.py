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
    litserve, infinity = report.peers.get("litserve"), report.peers.get("infinity")
    at_share = report.opened.get(P99_SHARE)
    saturation = report.saturation.texts_per_s
    stock = report.stock
    return [
        Goal("single texts at saturation / ceiling", saturation / ceiling, 0.90, True),
        Goal("arrays of texts at saturation / ceiling", report.array_saturation.texts_per_s / ceiling, 0.97, True),
        Goal("rate / LitServe's", litserve and saturation / litserve.saturation.texts_per_s, 3.0, True),
        Goal("rate / infinity's", infinity and saturation / infinity.saturation.texts_per_s, 10.0, True),
        Goal(
            "p99 / LitServe's, at LitServe's own maximum",
            litserve and litserve.ours and _ratio(litserve.ours.latency.p99_s, litserve.at_maximum.latency.p99_s),
            0.25,
            False,
        ),
        Goal(
            f"p99 at {P99_SHARE:.0%} of saturation / unloaded median",
            at_share and _ratio(at_share.latency.p99_s, report.unloaded.latency.p50_s),
            4.0,
            False,
        ),
        Goal("what an idle server adds to the model's time", report.overhead_s, 0.0004, False, "s"),
        Goal("CPU of an idle server", footprint and footprint.idle_cpu, 0.01, False, "cores"),
        Goal("ceiling / stock ceiling", stock and report.ceiling.best.texts_per_s / stock.best.texts_per_s, 1.6, True),
        Goal("resident memory after all loads", footprint and footprint.rss_loaded_bytes, 250e6, False, "bytes"),
        Goal("from exec to ready", footprint and footprint.ready_s, 2.0, False, "s"),
    ]


def _ratio(part: float, whole: float) -> float | None:
    """None where either is NaN, the latency of nothing."""
    return None if math.isnan(part) or math.isnan(whole) else part / whole
