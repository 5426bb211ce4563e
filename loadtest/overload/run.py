"""One run: the saturation, then as much of it as is normal, three times as much, and normal again."""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from loadtest.bench.driver import drive, pin_to_last_core
from loadtest.bench.load import Closed, Load, Target
from loadtest.command import Unusable
from loadtest.goal import Goal
from loadtest.measures import plain, rates, recovered_after_s, timeline
from loadtest.overload.drive import flood
from loadtest.scrape import Moment, describe_server, growth_bytes, scrape, series
from loadtest.shapes import Steps, stairs
from loadtest.tally import Tally

NORMAL_SHARE, FLOOD_TIMES = 0.5, 3.0
"""Of the saturation: what is sent before and after, and what is sent between."""
SATURATING_CLIENTS = 64
GOODPUT_SHARE, RECOVERY_S, GROWTH_BYTES = 0.9, 2.0, 16 * 2**20
DEADLINE_SLACK = 1.05
"""A request may be this many times its deadline on the way, as the driver sees it: both have to get to their turn."""
_SCRAPE_S = 1.0


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each part; ``settle_s`` at the beginning of the normal load isn't counted as normal."""

    saturation_s: float
    normal_s: float
    flood_s: float
    after_s: float
    settle_s: float
    drain_s: float


def run(target: Target, texts: Sequence[str], times: Times, *, metrics_url: str, machine: dict[str, Any]) -> dict[str, Any]:
    """The report, JSON's kinds alone.

    Raises:
        Unusable: the server answers nothing rightly, or its metrics don't tell what is to be judged.
        OSError: the server can't be connected to.
    """
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(max_workers=1, mp_context=spawn, initializer=pin_to_last_core) as pool,
        httpx.Client(trust_env=False, timeout=10.0) as client,
    ):
        load = Load(Closed(SATURATING_CLIENTS), 1, times.saturation_s / 5, times.saturation_s, times.drain_s)
        saturated = pool.submit(drive, target, texts, {}, load).result()
        if not saturated.texts_per_s:
            raise Unusable(f"not one right answer came: {saturated.outcomes}, {saturated.complaint}")
        first = scrape(client, metrics_url)
        deadline_s = 0.0 if first is None else first.total("stillguard_request_timeout_seconds")
        if not deadline_s:
            raise Unusable(f"{metrics_url} doesn't tell the server's deadline, so neither that nor memory can be judged")
        saturation = saturated.texts_per_s
        steps = stairs(
            [NORMAL_SHARE * saturation, FLOOD_TIMES * saturation, NORMAL_SHARE * saturation],
            [times.normal_s, times.flood_s, times.after_s],
        )
        flooding = pool.submit(flood, target, texts, steps, drain_s=times.drain_s)
        moments = _watch(flooding, client, metrics_url)
        tally = flooding.result()
    return describe(
        tally, steps, moments, saturation=saturation, deadline_s=deadline_s, settle_s=times.settle_s, machine=machine
    )


def describe(
    tally: Tally,
    steps: Steps,
    moments: Sequence[Moment],
    *,
    saturation: float,
    deadline_s: float,
    settle_s: float,
    machine: dict[str, Any],
) -> dict[str, Any]:
    """What came of it, as one record."""
    normal, peak, after = steps
    during = [moment for moment in moments if peak.start_s <= moment.at_s < peak.end_s]
    return plain(
        {
            "machine": machine,
            "load": {"shape": "overload", "is_open": True, "seconds": after.end_s, "steps": [asdict(step) for step in steps]},
            "saturation_per_s": saturation,
            "deadline_s": deadline_s,
            "parts": {
                name: rates(tally, step.start_s, step.end_s)
                for name, step in (("normal", normal), ("overload", peak), ("after", after))
            },
            "outcomes": {
                outcome: len(histogram) for (_, outcome), histogram in sorted(tally.kinds.items(), key=lambda item: item[0])
            },
            "longest_s": tally.longest_s,
            "lateness_p99_s": tally.late.percentile(0.99),
            "complaints": dict(tally.complaints.most_common()),
            "growth_bytes": growth_bytes(during),
            "recovered_after_s": recovered_after_s(
                tally, before=(settle_s, normal.end_s), over_at_s=peak.end_s, until_s=after.end_s
            ),
            "server": describe_server(moments),
            "timeline": timeline(tally, after.end_s),
            "server_timeline": series(moments),
        }
    )


def judge_flood(record: dict[str, Any]) -> list[Goal]:
    """The five things that an overloaded server owes its clients, and that no answer is wrong."""
    outcomes = record["outcomes"]
    goodput = record["parts"]["overload"]["goodput_per_s"] / record["saturation_per_s"]
    unanswered = sum(outcomes.get(name, 0) for name in ("lost", "unanswered", "failed"))
    return [
        Goal("right answers under overload / saturation", goodput, GOODPUT_SHARE, True),
        Goal("requests that got no answer, or a failure", unanswered, 0, False, "requests"),
        Goal("wrong answers", outcomes.get("wrong", 0), 0, False, "requests"),
        Goal("longest wait for an answer / the deadline", record["longest_s"] / record["deadline_s"], DEADLINE_SLACK, False),
        Goal("growth of memory under overload", record["growth_bytes"], GROWTH_BYTES, False, "bytes"),
        Goal("latency as before, after the overload", record["recovered_after_s"], RECOVERY_S, False, "s"),
    ]


def _watch(running: Future, client: httpx.Client, metrics_url: str) -> list[Moment]:
    """The server's metrics, once a second until ``running`` has ended."""
    began_at, moments = time.perf_counter(), []
    while not running.done():
        at_s = time.perf_counter() - began_at
        found = scrape(client, metrics_url)
        if found is not None:
            moments.append(Moment(at_s, found))
        wait([running], timeout=_SCRAPE_S)
    return moments
