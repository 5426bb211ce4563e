"""What is read off a tally: rates, the course over time, and how soon it is as quick as before."""

import math
from collections import Counter
from dataclasses import asdict
from typing import Any

from loadtest.scenario.judge import OUTCOMES
from loadtest.tally import Tally

NO_ANSWER = ("lost", "unanswered")
MAX_ROWS = 300
_SLOWER, _SLOW_SHARE, _SLOW_S = 2.0, 0.9, 0.01


def rates(tally: Tally, start_s: float, end_s: float) -> dict[str, Any]:
    """What happened between two times, by the bins that lie wholly between them: offered by when a request was due, done by
    when it ended. ``latency`` is that of the requests that check texts and were due there, ``error_share`` the share of
    those that ended otherwise than rightly."""
    bins = tally.bins(start_s, end_s)
    seconds = len(bins) * tally.bin_s
    done: Counter[str] = Counter()
    for at in bins:
        done.update({outcome: tally.done[at, outcome] for outcome in OUTCOMES if tally.done[at, outcome]})
    offered = sum(tally.offered[at] for at in bins)
    answered = done.total() - sum(done[outcome] for outcome in NO_ANSWER)
    return {
        "seconds": seconds,
        "offered_per_s": offered / seconds,
        "answered_per_s": answered / seconds,
        "goodput_per_s": done["ok"] / seconds,
        "error_share": 1 - done["ok"] / done.total() if done.total() else None,
        "outcomes": dict(done),
        "latency": asdict(tally.latencies(bins, checks_only=True).latency()),
    }


def timeline(tally: Tally, seconds: float) -> list[dict[str, float]]:
    """At most :data:`MAX_ROWS` rows in order of time, each of one bin or of several neighbours."""
    bins = math.ceil(round(seconds / tally.bin_s, 6))
    width = math.ceil(bins / MAX_ROWS)
    rows = []
    for first in range(0, bins, width):
        found = rates(tally, first * tally.bin_s, (first + width) * tally.bin_s)
        latency = found["latency"]
        rows.append(
            {
                "at_s": first * tally.bin_s,
                "offered_per_s": found["offered_per_s"],
                "goodput_per_s": found["goodput_per_s"],
                "refused_per_s": found["answered_per_s"] - found["goodput_per_s"],
                "p50_s": latency["p50_s"],
                "p99_s": latency["p99_s"],
            }
        )
    return rows


def plain(value: Any) -> Any:
    """What couldn't be measured is null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def recovered_after_s(tally: Tally, *, before: tuple[float, float], over_at_s: float, until_s: float) -> float | None:
    """Seconds from ``over_at_s`` until a whole second without a slow bin begins; 0 if none was slow by then.

    A bin is slow if the 90th percentile of its latencies is over twice that of the time ``before`` (and over 10 ms), or if
    less than nine in ten of what ended in it was answered rightly: a refusal is quick, and no recovery.

    Returns:
        None if nothing was answered before, nothing was due after, or there was no such second before ``until_s``.
    """
    normal = tally.latencies(tally.bins(*before), checks_only=True)
    after = [at for at in tally.bins(over_at_s, until_s) if tally.offered[at]]
    if not len(normal) or not after:
        return None
    limit_s = max(_SLOWER * normal.percentile(_SLOW_SHARE), _SLOW_S)

    def is_slow(at: int) -> bool:
        ended = sum(tally.done[at, outcome] for outcome in OUTCOMES)
        latency = tally.latencies([at], checks_only=True)
        return tally.done[at, "ok"] < _SLOW_SHARE * ended or latency.percentile(_SLOW_SHARE) > limit_s

    calm_bins = math.ceil(1.0 / tally.bin_s)
    slow = [is_slow(at) for at in after]
    for first in range(len(after) - calm_bins + 1):
        if not any(slow[first : first + calm_bins]):
            return 0.0 if first == 0 else after[first] * tally.bin_s - over_at_s
    return None
