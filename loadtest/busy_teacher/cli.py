"""``python -m loadtest teacher``: what a busy teacher costs the texts that have nothing to do with it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.busy_teacher.run import measure
from loadtest.command import UNUSABLE, Unusable, add_out, conclude, judged, open_out, verb_parser
from loadtest.goal import Goal, render_goals, titled
from loadtest.texts import generate_texts, read_texts

TIMES_SLOWER = 2.0
TEXTS = 2_048

DESCRIPTION = """\
Send texts that the student is sure of at a steady rate (open loop), first alone and then while other clients keep the
embedded teacher busy with texts that the student is unsure of. The first ones' 99th percentile may be twice as long then,
and each must be answered.
Ends with the report as one line of JSON.

Leave the machine alone meanwhile.

exit code: 0; 1 if one of these was missed or couldn't be measured; 2 if it couldn't be run
"""


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    out = open_out(options.out, "teacher")
    try:
        texts = read_texts(options.data, TEXTS) if options.data else generate_texts(TEXTS)
        record = measure(texts, rate_per_s=options.rate, seconds=options.seconds, out=out)
    except (Unusable, OSError) as error:
        print(f"teacher: {error}", file=sys.stderr)
        return UNUSABLE
    unanswered = sum(count for outcome, count in record["beside_teacher"]["outcomes"].items() if outcome != "200")
    goals = [
        Goal("p99 beside a busy teacher / without", record["p99_ratio"], TIMES_SLOWER, False),
        Goal("sure texts not answered rightly beside it", unanswered, 0, False, "texts"),
    ]
    rows = [(name, *_milliseconds(record[name]["latency"])) for name in ("alone", "beside_teacher")]
    parts = [
        titled(f"{options.rate:g} sure texts a second", ("", "p50 ms", "p90 ms", "p99 ms"), rows),
        f"the teacher judged {record['judged_per_s']:.1f} texts a second",
        render_goals(goals),
    ]
    return conclude(judged(record, goals), out, shown="\n\n".join(parts))


def _milliseconds(latency: dict[str, float | None]) -> list[str]:
    return ["" if (value := latency[name]) is None else f"{value * 1e3:.1f}" for name in ("p50_s", "p90_s", "p99_s")]


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("teacher", DESCRIPTION)
    add = parser.add_argument
    add("--data", type=Path, metavar="PARQUET", help="real texts, from a column `text`; by default generated ones")
    add("--rate", type=float, default=100.0, metavar="R", help="sure texts a second (default: 100)")
    add("--seconds", type=float, default=20.0, metavar="S", help="how long each part is measured (default: 20)")
    add_out(parser, takes="the report")
    return parser
