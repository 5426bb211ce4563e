"""Who plays a plan: this process alone, or a master with workers, on this machine or on others."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent.event import Event
from locust.runners import LocalRunner, MasterRunner, Runner, WorkerRunner

from loadtest.command import Unusable
from loadtest.run.plan import Plan, read_plan
from loadtest.run.play import Play
from loadtest.run.played import Played
from loadtest.run.users import GuardUser, Stage
from loadtest.tally import Tally, read_tally

JOIN_TIMEOUT_S = 300.0
"""How long a master waits for its workers to connect, and a worker for its master."""
REPORT_TIMEOUT_S = 30.0
"""Beyond the drain: how long the workers' last reports are waited for."""

_PLAN, _FINISHED = "stillguard_plan", "stillguard_finished"


def play_alone(plan: Plan, *, key: str | None, on_begin: Callable[[], None]) -> Played:
    """In this process. ``on_begin`` is called when the clock starts."""
    stage = _stage(plan)
    runner = stage.create_local_runner()
    play = stage.play = Play(plan, index=0, processes=1, key=key)
    on_begin()
    play.begin()
    with _conducting(runner, plan):
        _finish(runner, play)
    usage = play.usage()
    runner.quit()
    return Played(read_tally(play.take()), [usage])


def play_with_workers(
    plan: Plan,
    *,
    workers: int,
    bind: tuple[str, int],
    start_worker: Callable[[int], subprocess.Popen] | None,
    on_begin: Callable[[], None],
) -> Played:
    """As the master of ``workers``, each of which plays its share.

    Args:
        bind: address and port to listen on; port 0 takes a free one.
        start_worker: starts a worker for a port on this machine; None where they are started elsewhere.

    Raises:
        Unusable: not all connected within :data:`JOIN_TIMEOUT_S`.
    """
    stage = _stage(plan)
    runner = stage.create_master_runner(*bind)
    reports = _Reports(plan, workers)
    stage.events.worker_connect.add_listener(reports.on_connect)
    stage.events.worker_report.add_listener(reports.on_report)
    runner.register_message(_FINISHED, reports.on_finished)
    with contextlib.ExitStack() as stack:
        if start_worker is not None:
            for _ in range(workers):
                stack.enter_context(_ending(start_worker(runner.server.port)))
        if not reports.all_connected.wait(JOIN_TIMEOUT_S):
            raise Unusable(f"{len(reports.connected)} of {workers} workers connected within {JOIN_TIMEOUT_S:g} s")
        runner.send_message(_PLAN, {"plan": plan.to_record(), "workers": workers})
        on_begin()
        with _conducting(runner, plan):
            reports.all_finished.wait(plan.seconds + plan.drain_s + REPORT_TIMEOUT_S)
        runner.quit()
    return Played(reports.tally, reports.drivers, workers - len(reports.drivers))


def work(master: tuple[str, int], *, key: str | None) -> None:
    """Play what a master says, until it says that it is over. Raises ConnectionError: no master answered for five minutes."""
    stage = Stage(user_classes=[GuardUser])
    runner = stage.create_worker_runner(*master)
    part = _Part(stage, runner, key)
    runner.register_message(_PLAN, part.on_plan)
    stage.events.test_start.add_listener(part.on_start)
    stage.events.report_to_master.add_listener(part.on_report)
    runner.greenlet.join()


class _Part:
    """A worker's side of a test."""

    def __init__(self, stage: Stage, runner: WorkerRunner, key: str | None) -> None:
        self._stage = stage
        self._runner = runner
        self._key = key
        self._play: Play | None = None

    def on_plan(self, msg: Any, **_: Any) -> None:
        plan, processes = read_plan(msg.data["plan"]), msg.data["workers"]
        self._play = self._stage.play = Play(plan, index=self._runner.worker_index, processes=processes, key=self._key)

    def on_start(self, **_: Any) -> None:
        assert self._play is not None, "the plan comes before the start"
        self._play.begin()
        gevent.spawn(self._finish, self._play)

    def on_report(self, data: dict[str, Any], **_: Any) -> None:
        if self._play is not None:
            data["tally"] = self._play.take()

    def _finish(self, play: Play) -> None:
        _finish(self._runner, play)
        self._runner.send_message(_FINISHED, {"tally": play.take(), "usage": play.usage()})


class _Reports:
    """A master's side: what its workers say."""

    def __init__(self, plan: Plan, workers: int) -> None:
        self._workers = workers
        self.connected: set[str] = set()
        self.all_connected, self.all_finished = Event(), Event()
        self.tally = Tally(plan.bin_s, from_s=plan.warm_up_s)
        self.drivers: list[dict[str, float]] = []

    def on_connect(self, client_id: str, **_: Any) -> None:
        self.connected.add(client_id)
        if len(self.connected) == self._workers:
            self.all_connected.set()

    def on_report(self, data: dict[str, Any], **_: Any) -> None:
        if "tally" in data:
            self.tally.merge(read_tally(data["tally"]))

    def on_finished(self, msg: Any, **_: Any) -> None:
        self.tally.merge(read_tally(msg.data["tally"]))
        self.drivers.append(msg.data["usage"])
        if len(self.drivers) == self._workers:
            self.all_finished.set()


def _stage(plan: Plan) -> Stage:
    return Stage(user_classes=[GuardUser], host=plan.url, stop_timeout=plan.drain_s)


@contextlib.contextmanager
def _conducting(runner: LocalRunner | MasterRunner, plan: Plan) -> Iterator[None]:
    """Have as many users as the plan says at each moment."""
    conductor = gevent.spawn(_conduct, runner, plan)
    try:
        yield
    finally:
        conductor.kill()


def _conduct(runner: LocalRunner | MasterRunner, plan: Plan) -> None:
    if plan.is_open:
        runner.start(plan.users, spawn_rate=plan.users)
        return
    began_at = time.monotonic()
    for step in plan.steps:
        users = max(1, round(step.level))
        runner.start(users, spawn_rate=users)
        gevent.sleep(max(0.0, began_at + step.end_s - time.monotonic()))


def _finish(runner: Runner, play: Play) -> None:
    """Wait for the plan's end and then for the last answers. Users end by themselves when nothing more is due."""
    gevent.sleep(max(0.0, play.plan.seconds - play.now()))
    runner.user_greenlets.join(timeout=play.plan.drain_s)
    runner.user_greenlets.kill()
    play.end()


@contextlib.contextmanager
def _ending(process: subprocess.Popen) -> Iterator[None]:
    """End a worker that didn't end by itself."""
    try:
        yield
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(REPORT_TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
