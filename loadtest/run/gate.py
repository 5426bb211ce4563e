"""The gate: what a run must keep to. Its defaults are the objectives that the alerts watch (docs/playbooks.md)."""

from dataclasses import dataclass
from typing import Any

from loadtest.goal import Goal
from loadtest.measures import NO_ANSWER


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Attributes:
        p99_s: of the requests that check texts, in seconds.
        error_share: most requests that may end otherwise than rightly.
        achieved: least answered requests, as a share of those offered; in an open loop.
        goodput_per_s: least right answers a second; under a ramp the most of all steps. None asks for nothing.
        growth_bytes: most that the server's resident memory may grow by, under a soak.
        recovery_s: how soon after a spike latency must be as before.
    """

    p99_s: float = 0.05
    error_share: float = 0.001
    achieved: float = 0.99
    goodput_per_s: float | None = None
    growth_bytes: float = 16 * 2**20
    recovery_s: float = 2.0


def judge_run(record: dict[str, Any], limits: Limits) -> list[Goal]:
    """Every criterion of the run's shape. A ramp and a spike go beyond what the server holds, so only its manners are judged
    there: every request is answered, no answer is wrong."""
    client, shape = record["client"], record["load"]["shape"]
    outcomes = client["outcomes"]
    goals = [
        Goal("wrong answers", outcomes.get("wrong", 0), 0, False, "requests"),
        Goal("workers lost", client["lost_workers"], 0, False, "workers"),
    ]
    if shape in ("steady", "soak"):
        goals.append(Goal("p99 of checks", client["latency"]["p99_s"], limits.p99_s, False, "s"))
        goals.append(Goal("requests not answered rightly", client["error_share"], limits.error_share, False, "of all"))
        if record["load"]["is_open"]:
            offered = client["offered_per_s"]
            achieved = client["answered_per_s"] / offered if offered else None
            goals.append(Goal("answered / offered", achieved, limits.achieved, True, "of offered"))
    else:
        goals.append(Goal("requests without an answer", sum(outcomes.get(name, 0) for name in NO_ANSWER), 0, False, "requests"))
    if shape == "spike":
        goals.append(Goal("latency as before, after the spike", record["recovered_after_s"], limits.recovery_s, False, "s"))
    if shape == "soak":
        growth = record["server"] and record["server"]["rss_bytes"]["growth"]
        goals.append(Goal("growth of the server's memory", growth, limits.growth_bytes, False, "bytes"))
    if limits.goodput_per_s is not None:
        reached = max((step["goodput_per_s"] for step in record["steps"]), default=None)
        goodput = reached if shape == "ramp" else client["goodput_per_s"]
        goals.append(Goal("right answers", goodput, limits.goodput_per_s, True, "requests/s"))
    return goals


def saturation(record: dict[str, Any], limits: Limits) -> dict[str, float | None]:
    """Of a ramp's steps: the most right answers a second, and the highest offered rate up to which every step kept to the
    limits on p99 and errors; None if the first didn't."""
    holds = None
    for step in record["steps"]:
        p99_s, error_share = step["latency"]["p99_s"], step["error_share"]
        if None in (p99_s, error_share) or p99_s > limits.p99_s or error_share > limits.error_share:
            break
        holds = step["offered_per_s"]
    return {
        "goodput_per_s": max((step["goodput_per_s"] for step in record["steps"]), default=None),
        "holds_per_s": holds,
    }
