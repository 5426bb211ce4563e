"""What one load test found out, as one record: JSON's kinds alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from loadtest.measures import plain, rates, recovered_after_s, timeline
from loadtest.run.plan import Plan
from loadtest.run.played import Played
from loadtest.scenario.judge import OUTCOMES
from loadtest.scrape import Moment, describe_server, series
from loadtest.tally import Histogram, Tally, merged

SCHEMA = 1


def describe(plan: Plan, played: Played, moments: Sequence[Moment], *, machine: dict[str, Any], source: str) -> dict[str, Any]:
    """
    Args:
        moments: what the server's metrics said meanwhile; empty if they couldn't be read.
        source: where the texts are from.
    """
    tally = played.tally
    return plain(
        {
            "schema": SCHEMA,
            "machine": machine,
            "url": plan.url,
            "texts": source,
            "load": {
                "shape": plan.shape,
                "is_open": plan.is_open,
                "steps": [asdict(step) for step in plan.steps],
                "users": plan.users,
                "seconds": plan.seconds,
                "warm_up_s": plan.warm_up_s,
                "timeout_s": plan.timeout_s,
                "seed": plan.seed,
            },
            "client": _client(plan, played),
            "steps": [
                {"level": step.level} | rates(tally, max(step.start_s, plan.warm_up_s), step.end_s)
                for step in plan.steps
                if tally.bins(max(step.start_s, plan.warm_up_s), step.end_s)
            ],
            "recovered_after_s": _recovery(plan, tally),
            "server": describe_server(moments),
            "timeline": timeline(tally, plan.seconds),
            "server_timeline": series(moments),
        }
    )


def _client(plan: Plan, played: Played) -> dict[str, Any]:
    """Over all measured seconds. ``outcomes`` counts every request that was due in them, however late it ended."""
    tally = played.tally
    outcomes: Counter[str] = Counter()
    kinds: dict[str, dict[str, Histogram]] = {}
    for (kind, outcome), histogram in tally.kinds.items():
        outcomes[outcome] += len(histogram)
        kinds.setdefault(kind, {})[outcome] = histogram
    requests = outcomes.total()
    return rates(tally, plan.warm_up_s, plan.seconds) | {
        "requests": requests,
        "outcomes": {outcome: outcomes[outcome] for outcome in OUTCOMES if outcomes[outcome]},
        "error_share": 1 - outcomes["ok"] / requests if requests else None,
        "kinds": [
            {
                "kind": kind,
                "outcomes": {outcome: len(histogram) for outcome, histogram in sorted(found.items())},
                "latency": asdict(merged([found["ok"]] if "ok" in found else []).latency()),
            }
            for kind, found in sorted(kinds.items())
        ],
        "lateness_p99_s": tally.late.percentile(0.99),
        "longest_s": tally.longest_s,
        "complaints": dict(tally.complaints.most_common()),
        "drivers": played.drivers,
        "lost_workers": played.lost_workers,
    }


def _recovery(plan: Plan, tally: Tally) -> float | None:
    """How soon after the spike it was as before; None for another shape, or if it never was."""
    if plan.shape != "spike":
        return None
    before, peak, after = plan.steps
    return recovered_after_s(tally, before=(plan.warm_up_s, before.end_s), over_at_s=peak.end_s, until_s=after.end_s)
