"""One run, top to bottom: look at the server, write the plan, play it, report, judge. Imported after Locust."""

import argparse
import contextlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from loadtest.bench.processes import SHIPPED, stillguard
from loadtest.command import UNUSABLE, Unusable, conclude, judged, read_api_key
from loadtest.goal import render_goals
from loadtest.machine import allow_open_files, describe_machine
from loadtest.plot import draw
from loadtest.run.crew import play_alone, play_with_workers, work
from loadtest.run.gate import Limits, judge_run, saturation
from loadtest.run.page import write_page
from loadtest.run.plan import Plan
from loadtest.run.played import Played
from loadtest.run.report import describe
from loadtest.run.tables import notes, tables
from loadtest.run.watch import MIN_SCRAPE_S, Watch
from loadtest.scenario.compose import compose
from loadtest.scenario.exchange import FEEDBACK_PATH
from loadtest.scenario.look import look_at
from loadtest.shapes import SHAPES
from loadtest.texts import generate_texts, read_texts

TEXTS = 4_096
DRAIN_S = 10.0
DEFAULT_RATE = 100.0


def run_session(options: argparse.Namespace) -> int:
    """The exit code. ``options`` are those of :mod:`loadtest.run.cli`."""
    logging.getLogger("locust").setLevel(logging.ERROR)  # it warns of many users at once, which here are connections
    machine = describe_machine()
    allow_open_files(options.connections + (options.users or 0) + 256)
    try:
        with _server(options) as url:
            plan = _plan(options, url)
            watch = Watch(options.metrics_url or f"{url}/metrics", max(MIN_SCRAPE_S, plan.bin_s))
            played = _play(options, plan, watch)
            watch.end()
    except (Unusable, OSError) as error:
        print(f"run: {error}", file=sys.stderr)
        return UNUSABLE
    source = str(options.data or f"generated, seed {options.seed}")
    return _tell(options, describe(plan, played, watch.moments, machine=machine, source=source))


def work_for(master: tuple[str, int], api_key_file: Path | None) -> int:
    """Be a worker. The exit code."""
    try:
        work(master, key=read_api_key(api_key_file))
    except (Unusable, OSError) as error:
        print(f"worker: {type(error).__name__}: {error or 'no master answered'}", file=sys.stderr)
        return UNUSABLE
    return 0


def _plan(options: argparse.Namespace, url: str) -> Plan:
    offered = look_at(url)
    if offered.needs_key and options.api_key_file is None:
        raise Unusable(f"{url} asks for an API key: --api-key-file")
    texts = read_texts(options.data, TEXTS, seed=options.seed) if options.data else generate_texts(TEXTS, seed=options.seed)
    paths = [path for path in offered.paths if options.feedback or path != FEEDBACK_PATH]
    peak = options.users or options.rate or DEFAULT_RATE
    return Plan(
        url=url,
        shape=options.shape,
        steps=SHAPES[options.shape](peak, options.seconds),
        is_open=not options.users,
        users=options.users or options.connections,
        warm_up_s=options.warm_up_s,
        timeout_s=options.timeout_s,
        drain_s=DRAIN_S,
        seed=options.seed,
        exchanges=tuple(compose(texts, options.exchanges, paths=paths, needs_key=offered.needs_key, seed=options.seed)),
    )


def _play(options: argparse.Namespace, plan: Plan, watch: Watch) -> Played:
    if not options.workers and not options.remote_workers:
        return play_alone(plan, key=read_api_key(options.api_key_file), on_begin=watch.begin)
    return play_with_workers(
        plan,
        workers=options.workers or options.remote_workers,
        bind=("127.0.0.1", 0) if options.workers else options.bind,
        start_worker=partial(_start_worker, options) if options.workers else None,
        on_begin=watch.begin,
    )


def _start_worker(options: argparse.Namespace, port: int) -> subprocess.Popen:
    key = [] if options.api_key_file is None else ["--api-key-file", str(options.api_key_file)]
    return subprocess.Popen([sys.executable, "-m", "loadtest", "worker", f"127.0.0.1:{port}", *key])


def _tell(options: argparse.Namespace, record: dict) -> int:
    limits = Limits(
        p99_s=options.max_p99_s,
        error_share=options.max_error_share,
        achieved=options.min_achieved,
        goodput_per_s=options.min_goodput,
        growth_bytes=options.max_growth_bytes,
        recovery_s=options.max_recovery_s,
    )
    goals = judge_run(record, limits)
    if options.shape == "ramp":
        record["saturation"] = saturation(record, limits)
    record = judged(record, goals)
    picture, page = options.out / "report.png", options.out / "report.html"
    draw(record, picture)
    write_page(record, goals, picture, page)
    shown = "\n\n".join([*map(str, tables(record)), *notes(record), render_goals(goals)])
    return conclude(record, options.out, shown=shown, written=[page, picture])


@contextlib.contextmanager
def _server(options: argparse.Namespace) -> Iterator[str]:
    """The URL of the server under test."""
    if options.url is not None:
        yield options.url.rstrip("/")
        return
    with stillguard(SHIPPED, options.out / "stillguard.log") as (_, target, _):
        yield f"http://{target.host}:{target.port}"
