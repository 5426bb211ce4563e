"""``python -m loadtest run`` and ``python -m loadtest worker``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.command import UNUSABLE, add_api_key, add_out, open_out, verb_parser
from loadtest.run.gate import Limits
from loadtest.shapes import SHAPES

DESCRIPTION = """\
Put a realistic load on a server, check every answer, and hold the run against limits. Writes report.json, report.html and
report.png, prints tables, and ends with the report as one line of JSON.
"""
EXAMPLES = """\
examples:
  python -m loadtest run --url http://guard:8000 --rate 200                     200 requests/s, come what may, for a minute
  python -m loadtest run --shape ramp --rate 2000 --seconds 120                 how much it holds (a server is started)
  python -m loadtest run --shape soak --rate 100 --seconds 14400                four hours; memory must stay flat
  python -m loadtest run --users 64                                             64 clients, each waiting for its answer
  python -m loadtest run --rate 3000 --workers 4                                drive from four processes
  python -m loadtest run --rate 9000 --remote-workers 8 --bind 0.0.0.0:5557     and from other machines, on each of which
  python -m loadtest worker LEADER:5557                                         is one of these

exit code: 0; 1 if a limit was missed, an answer was wrong, or something couldn't be measured; 2 if it couldn't be run
"""


def run(arguments: Sequence[str]) -> int:
    """The verb ``run``."""
    options = _parser().parse_args(arguments)
    problem = _problem(options)
    if problem:
        print(f"run: {problem}", file=sys.stderr)
        return UNUSABLE
    options.out = open_out(options.out, "run")
    import locust  # noqa: F401, PLC0415 (makes the standard library cooperative: before whatever uses it)

    from loadtest.run.session import run_session  # noqa: PLC0415

    return run_session(options)


def work(arguments: Sequence[str]) -> int:
    """The verb ``worker``."""
    parser = verb_parser("worker", "Take part in a load test of another process.")
    parser.add_argument("master", metavar="HOST:PORT", type=_address, help="where python -m loadtest run listens")
    add_api_key(parser)
    options = parser.parse_args(arguments)
    import locust  # noqa: F401, PLC0415 (as above)

    from loadtest.run.session import work_for  # noqa: PLC0415

    return work_for(options.master, options.api_key_file)


def _problem(options: argparse.Namespace) -> str | None:
    """Why these options can't be meant."""
    if not 0 <= options.warm_up_s < options.seconds:
        return "--warm-up-s must be at least 0 and less than --seconds"
    given = (options.rate, options.users, options.connections, options.timeout_s, options.exchanges)
    if any(value is not None and value <= 0 for value in given):
        return "rates, users, connections, exchanges and times must be above 0"
    if options.rate and options.users:
        return "--rate is an open loop, --users a closed one: one of the two"
    if options.workers and options.remote_workers:
        return "--workers are started here, --remote-workers elsewhere: one of the two"
    return None


def _parser() -> argparse.ArgumentParser:
    defaults = Limits()
    parser = verb_parser("run", DESCRIPTION, EXAMPLES)
    load = parser.add_argument_group("the load")
    add = load.add_argument
    add("--url", help="the server; by default one is started on this machine, with the shipped student and no teacher")
    add("--shape", choices=SHAPES, default="steady", help="steady; ramp (ten stairs); spike (from a quarter and back); soak")
    add("--rate", type=float, metavar="R", help="open loop: requests a second at the shape's height; by default 100")
    add("--users", type=int, metavar="N", help="closed loop: clients at the shape's height")
    add("--seconds", type=float, default=60.0, metavar="S", help="by default 60")
    add("--warm-up-s", type=float, default=5.0, metavar="S", help="the beginning that isn't measured; by default 5")
    add("--connections", type=int, default=256, metavar="N", help="open loop: connections in all; by default 256")
    add("--timeout-s", type=float, default=10.0, metavar="S", help="how long a client waits for an answer; by default 10")
    add_api_key(load)
    add("--data", type=Path, metavar="PARQUET", help="texts from the column text of this file, in place of generated ones")
    add("--feedback", action="store_true", help="correct some verdicts, too: only where nobody learns from the feedback log")
    add("--exchanges", type=int, default=4_096, metavar="N", help="different requests, which go round; by default 4096")
    add("--seed", type=int, default=1, help="of texts, mix and arrivals; by default 1")
    add = parser.add_argument_group("more processes").add_argument
    add("--workers", type=int, default=0, metavar="N", help="drive from N processes on this machine")
    add("--remote-workers", type=int, default=0, metavar="N", help="wait for N workers that are started elsewhere")
    add("--bind", type=_address, default=("127.0.0.1", 5557), metavar="HOST:PORT", help="where remote workers find this one")
    report = parser.add_argument_group("the report")
    add = report.add_argument
    add("--metrics-url", help="the server's /metrics; by default on --url")
    add_out(report, takes="the report")
    add = parser.add_argument_group("the gate").add_argument
    add("--max-p99-s", type=float, default=defaults.p99_s, metavar="S", help="steady, soak: of checks; by default %(default)g")
    add("--max-error-share", type=float, default=defaults.error_share, metavar="X", help="steady, soak; by default %(default)g")
    add("--min-achieved", type=float, default=defaults.achieved, metavar="X", help="answered/offered; by default %(default)g")
    add("--min-goodput", type=float, metavar="R", help="right answers a second; a ramp's best step; by default not judged")
    growth_help = f"soak: server's memory; by default {defaults.growth_bytes / 2**20:g} MiB"
    add("--max-growth-bytes", type=float, default=defaults.growth_bytes, metavar="B", help=growth_help)
    add(
        "--max-recovery-s",
        type=float,
        default=defaults.recovery_s,
        metavar="S",
        help="spike: until latency is as before; %(default)g",
    )
    return parser


def _address(given: str) -> tuple[str, int]:
    host, _, port = given.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError("must be HOST:PORT")
    return host, int(port)
