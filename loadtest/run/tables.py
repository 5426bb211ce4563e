"""A run's report as tables: the same for the terminal and for the HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.goal import titled

Row = tuple[str, ...]
_LATENCIES = ("p50", "p90", "p99", "p999", "max")
_LATENCY_HEADER = tuple(f"{name} ms" for name in ("p50", "p90", "p99", "p99.9", "max"))
_LATE_S = 0.05
"""A driver whose requests leave later than this, at the 99th percentile, is measured along with the server: it is said."""


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    header: Row
    rows: Sequence[Row]

    def __str__(self) -> str:
        return titled(self.title, self.header, self.rows)


def tables(record: dict[str, Any]) -> list[Table]:
    """Client and server, side by side."""
    found = [_overall(record), _kinds(record)]
    if len(record["steps"]) > 1:
        found.append(_steps(record))
    if record["server"] is not None:
        found += [_counts(record["server"]), _stages(record["server"])]
    return found


def notes(record: dict[str, Any]) -> list[str]:
    """What a reader must know to believe the tables."""
    client, load, server = record["client"], record["load"], record["server"]
    lines = [f"not answered rightly: {count} × {complaint}" for complaint, count in client["complaints"].items()]
    if not load["is_open"]:
        lines.append(
            "Closed loop: users wait for the server, so a stall hides the requests that would have come (coordinated omission)."
        )
    if client["lateness_p99_s"] is not None and client["lateness_p99_s"] > _LATE_S:
        lines.append(
            f"The driver was late ({client['lateness_p99_s'] * 1e3:.0f} ms at the 99th percentile): it had too little CPU, or "
            "no free connection. Give it --workers, more --connections, or a machine of its own."
        )
    if server is None:
        lines.append("The server's metrics couldn't be read: --metrics-url.")
    if client["lost_workers"]:
        lines.append(f"{client['lost_workers']} workers ended without a last report.")
    return lines


def _overall(record: dict[str, Any]) -> Table:
    client, server = record["client"], record["server"]
    rows = [
        (
            "requests",
            str(client["requests"]),
            "" if server is None else f"{sum(server['requests'].values()):.0f} (checks alone)",
        ),
        ("offered/s", f"{client['offered_per_s']:.1f}", ""),
        ("answered/s", f"{client['answered_per_s']:.1f}", ""),
        ("answered rightly/s", f"{client['goodput_per_s']:.1f}", "" if server is None else _per_s(server, "ok")),
        ("outcomes", _outcomes(client["outcomes"]), "" if server is None else _outcomes(server["requests"])),
        ("longest wait", f"{client['longest_s']:.2f} s", ""),
        ("sent late, p99", _ms(client["lateness_p99_s"]) + " ms", ""),
        (
            "CPU",
            ", ".join(f"{driver['cpu_cores']:.2f}" for driver in client["drivers"]) + " cores",
            "" if server is None else f"{server['cpu_cores']:.2f} cores",
        ),
        (
            "resident memory",
            ", ".join(f"{driver['rss_bytes'] / 1e6:.0f}" for driver in client["drivers"]) + " MB",
            "" if server is None else f"{server['rss_bytes']['first'] / 1e6:.0f}–{server['rss_bytes']['max'] / 1e6:.0f} MB",
        ),
    ]
    return Table("The whole load", ("", "client", "server"), rows)


def _kinds(record: dict[str, Any]) -> Table:
    rows = [
        (row["kind"], _outcomes(row["outcomes"]), *(_ms(row["latency"][f"{name}_s"]) for name in _LATENCIES))
        for row in record["client"]["kinds"]
    ]
    latency = record["client"]["latency"]
    rows.append(("all checks", "", *(_ms(latency[f"{name}_s"]) for name in _LATENCIES)))
    return Table("Requests, by what they ask", ("kind", "outcomes", *_LATENCY_HEADER), rows)


def _steps(record: dict[str, Any]) -> Table:
    unit = "requests/s" if record["load"]["is_open"] else "users"
    rows = [
        (
            f"{step['level']:.0f}",
            *(f"{step[name]:.1f}" for name in ("offered_per_s", "answered_per_s", "goodput_per_s")),
            *(_ms(step["latency"][f"{name}_s"]) for name in ("p50", "p99")),
            _outcomes(step["outcomes"]),
        )
        for step in record["steps"]
    ]
    header = (unit, "offered/s", "answered/s", "rightly/s", "p50 ms", "p99 ms", "ended in it")
    return Table("Steps", header, rows)


def _counts(server: dict[str, Any]) -> Table:
    batch = server["windows_per_batch"]
    rows = [
        ("verdicts", _outcomes(server["verdicts"])),
        ("errors", _outcomes(server["errors"])),
        ("escalations", _outcomes(server["escalations"])),
        ("windows per batch", "" if batch is None else f"{batch:.1f}"),
        ("most windows that waited", f"{server['max_queue_items']:.0f}"),
        ("growth of memory", "" if server["rss_bytes"]["growth"] is None else f"{server['rss_bytes']['growth'] / 1e6:.1f} MB"),
        ("artefact", " ".join(server["info"].get(name, "") for name in ("artifact_version", "precision"))),
    ]
    return Table("What the server says", ("", ""), rows)


def _stages(server: dict[str, Any]) -> Table:
    rows = [
        (stage, f"{found['count']:.0f}", _ms(found["mean_s"]), _ms(found["p50_s"]), _ms(found["p99_s"]))
        for stage, found in server["stages"].items()
    ]
    return Table("Where the server's time goes", ("stage", "requests", "mean ms", "p50 ms", "p99 ms"), rows)


def _per_s(server: dict[str, Any], outcome: str) -> str:
    return f"{server['requests'].get(outcome, 0) / server['seconds']:.1f}"


def _outcomes(counts: dict[str, float]) -> str:
    return ", ".join(f"{count:.0f} × {outcome}" for outcome, count in counts.items())


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.1f}"
