"""A load test that never was, and its record."""

import random
from typing import Any

from loadtest.run.plan import Plan
from loadtest.run.played import Played
from loadtest.run.report import describe
from loadtest.scrape import Moment, Scrape
from loadtest.shapes import SHAPES, arrivals
from loadtest.tally import Sample, Tally
from tests.unit.loadtest.answers import ASK_CHECK

MACHINE = {"cpu": "A CPU", "cores": 2, "load_before": 0.1, "started": "2026-11-22T00:00:00Z"}
EXPOSITION = """\
stillguard_requests_total{{route="native",outcome="ok"}} {requests}
stillguard_stage_seconds_bucket{{stage="total",le="0.01"}} {requests}
stillguard_stage_seconds_bucket{{stage="total",le="+Inf"}} {requests}
stillguard_stage_seconds_count{{stage="total"}} {requests}
stillguard_stage_seconds_sum{{stage="total"}} {requests}
process_resident_memory_bytes {rss_bytes}
process_cpu_seconds_total {requests}
stillguard_info{{artifact_version="7<b>",precision="int8"}} 1
"""


def plan_of(shape: str = "steady", *, peak: float = 50.0, seconds: float = 10.0, is_open: bool = True) -> Plan:
    steps = SHAPES[shape](peak, seconds)
    return Plan("http://guard:8000", shape, steps, is_open, 8, 1.0, 10.0, 5.0, 1, (ASK_CHECK,))


def play(plan: Plan, *, outcome=lambda at_s: "ok", latency=lambda at_s: 0.02, complaint: str | None = None) -> Played:
    """Answers as the two functions say, by the second in which a request was due."""
    tally = Tally(plan.bin_s, from_s=plan.warm_up_s)
    for at_s in arrivals(plan.steps, random.Random(1)):
        tally.add(Sample("check short", True, outcome(at_s), at_s, at_s, at_s + latency(at_s), complaint))
    return Played(tally, [{"cpu_cores": 0.5, "rss_bytes": 1e8}])


def moments(*rss_bytes: float) -> list[Moment]:
    return [
        Moment(float(at_s), Scrape(EXPOSITION.format(requests=100 * at_s, rss_bytes=value)))
        for at_s, value in enumerate(rss_bytes)
    ]


def record_of(plan: Plan, played: Played, seen: list[Moment] | None = None) -> dict[str, Any]:
    return describe(plan, played, moments(*[2e8] * 11) if seen is None else seen, machine=MACHINE, source="made up <i>")
