"""``python -m loadtest overload``."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from loadtest.bench.driver import MAX_CONNECTIONS
from loadtest.bench.load import Target
from loadtest.bench.processes import SHIPPED, stillguard, target_at
from loadtest.command import UNUSABLE, Unusable, add_out, conclude, judged, open_out, verb_parser
from loadtest.goal import render_goals, titled
from loadtest.machine import allow_open_files, describe_machine
from loadtest.overload.run import Times, judge_flood, run
from loadtest.plot import draw
from loadtest.texts import generate_texts

TEXTS = 2_048
QUICK = Times(saturation_s=1.5, normal_s=2.0, flood_s=3.0, after_s=3.0, settle_s=0.5, drain_s=10.0)

DESCRIPTION = """\
Find out what a server can hold, then send it three times as much for a minute, at random times and come what may (open
loop), and judge: goodput, that every request is answered, that none waits beyond its deadline, that memory stays flat, and
that latency is as before within two seconds after. Writes report.json and report.png, and ends with the report as one line
of JSON.

Leave the machine alone meanwhile. The server must take requests without a key.

exit code: 0; 1 if one of these was missed, or couldn't be measured; 2 if it couldn't be run
"""


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    full = Times(saturation_s=10.0, normal_s=10.0, flood_s=options.seconds, after_s=10.0, settle_s=2.0, drain_s=15.0)
    out = open_out(options.out, "overload")
    allow_open_files(2 * MAX_CONNECTIONS)
    machine = describe_machine()
    try:
        with _target(options.url, out) as target:
            metrics_url = options.metrics_url or f"http://{target.host}:{target.port}/metrics"
            texts = generate_texts(TEXTS)
            record = run(target, texts, QUICK if options.quick else full, metrics_url=metrics_url, machine=machine)
    except (Unusable, OSError) as error:
        print(f"overload: {error}", file=sys.stderr)
        return UNUSABLE
    goals = judge_flood(record)
    draw(record, out / "report.png")
    header = ("part", "offered/s", "answered/s", "rightly/s", "p50 ms", "p99 ms", "ended in it")
    rows = [_row(*part) for part in record["parts"].items()]
    parts = [titled(f"Saturation: {record['saturation_per_s']:.0f} texts/s", header, rows), render_goals(goals)]
    return conclude(judged(record, goals), out, shown="\n\n".join(parts), written=[out / "report.png"])


def _row(name: str, part: dict[str, Any]) -> tuple[str, ...]:
    latency = part["latency"]
    return (
        name,
        *(f"{part[rate]:.0f}" for rate in ("offered_per_s", "answered_per_s", "goodput_per_s")),
        *("" if latency[at] is None else f"{latency[at] * 1e3:.1f}" for at in ("p50_s", "p99_s")),
        ", ".join(f"{count} × {outcome}" for outcome, count in part["outcomes"].items()),
    )


def _target(url: str | None, out: Path) -> Any:
    """A context that gives the server: one of its own, or the one at ``url``."""
    if url is None:
        return _started(out)
    return nullcontext(target_at(url))


@contextmanager
def _started(out: Path) -> Iterator[Target]:
    with stillguard(SHIPPED, out / "stillguard.log") as (_, target, _):
        yield target


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("overload", DESCRIPTION)
    add = parser.add_argument
    add("--url", help="a server that runs already; by default one is started, with the shipped student and no teacher")
    add("--metrics-url", help="its /metrics; by default on --url")
    add("--seconds", type=float, default=60.0, metavar="S", help="how long three times the saturation is sent; by default 60")
    add_out(parser, takes="the report")
    add("--quick", action="store_true", help="a few seconds of each part: shows that it works, not how the server behaves")
    return parser
