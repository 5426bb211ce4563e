"""One run, top to bottom: the ceiling, the peers, our server, the ceiling again."""

import multiprocessing
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from loadtest.bench.artifact import Artifact
from loadtest.bench.ceiling import measure_ceiling, remeasure
from loadtest.bench.driver import MAX_CONNECTIONS, drive, pin_to_last_core
from loadtest.bench.load import Load, Measured, Target
from loadtest.bench.peers.catalogue import PEERS, running_peer
from loadtest.bench.plan import Plan
from loadtest.bench.processes import Child, NotStarted, stillguard, target_at
from loadtest.bench.report import Footprint, NothingServed, PeerReport, Report, fastest
from loadtest.machine import allow_open_files, describe_machine

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """``url`` names a server that runs already, which then should serve ``artifact`` on this machine. ``logs`` is a folder
    that takes what the servers say."""

    artifact: Artifact
    stock_model: Path | None
    url: str | None
    peers: Sequence[str]
    cache: Path
    logs: Path


def run(options: Options, plan: Plan, texts: Sequence[str], *, source: str, progress: Progress) -> Report:
    """Measure everything.

    Args:
        source: where the texts are from, for the report.
        progress: told what comes next, once before each measurement.

    Raises:
        Unusable: the artefact or the URL can't be used, or our server answered nothing.
        NotStarted: our server didn't come up.
        OSError: a server can't be connected to.
    """
    machine, artifact = describe_machine() | {"onnxruntime": version("onnxruntime")}, options.artifact
    described = artifact.describe()
    ours: _Ours = stillguard(artifact.folder, options.logs / "stillguard.log") if options.url is None else _running(options.url)
    allow_open_files(2 * MAX_CONNECTIONS)
    progress("the ceiling")
    ceiling = _alone(measure_ceiling, artifact.model, artifact, texts, plan.search)
    stock = None
    if options.stock_model:
        progress("the stock model's ceiling")
        stock = _alone(measure_ceiling, options.stock_model, artifact, texts, replace(plan.search, alone_texts=0))
    with _driver(texts, ceiling.alone_s) as put:
        peers, not_run = _run_peers(options, plan, put, progress)
        with ours as (child, target, ready_s):
            idle = None if child is None else _idle(child, plan.idle_s, progress)
            singles = [put(target, plan.closed(n), progress, f"{n} clients, single texts") for n in plan.closed_singles]
            arrays = [
                put(target, plan.closed(n, texts_per_request=plan.array_texts), progress, f"{n} clients, arrays")
                for n in plan.closed_arrays
            ]
            progress("the ceiling again")
            again = _alone(remeasure, artifact.model, artifact, texts, ceiling.best, plan.search.final_s)
            saturation = fastest(singles).texts_per_s
            opened = {
                share: put(target, plan.open(share * saturation), progress, f"open loop at {share:.0%}")
                for share in plan.open_shares
            }
            peers = {
                name: replace(peer, ours=put(target, peer.at_maximum.load, progress, f"ours at {name}'s maximum"))
                for name, peer in peers.items()
            }
            footprint = Footprint(ready_s, *idle, child.rss_bytes()) if child and idle and ready_s else None
    return Report(
        machine=machine,
        texts={
            "source": source,
            "count": len(texts),
            "windows": ceiling.windows,
            "tokens_per_text": ceiling.best.tokens_per_s / ceiling.best.texts_per_s,
        },
        artifact=described | {"folder": str(artifact.folder)},
        ceiling=ceiling,
        ceiling_again=again,
        stock=stock,
        singles=singles,
        arrays=arrays,
        opened=opened,
        footprint=footprint,
        peers=peers,
        not_run=not_run,
    )


_Ours = AbstractContextManager[tuple[Child | None, Target, float | None]]
Put = Callable[[Target, Load, Progress, str], Measured]


@contextmanager
def _driver(texts: Sequence[str], alone_s: Mapping[int, float]) -> Iterator[Put]:
    """The driver's process, and a function that has it put a load on a target."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, initializer=pin_to_last_core) as pool:

        def put(target: Target, load: Load, progress: Progress, what: str) -> Measured:
            progress(what)
            return pool.submit(drive, target, texts, alone_s, load).result()

        yield put


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in a process of its own, whose memory and threads end with it."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _run_peers(options: Options, plan: Plan, put: Put, progress: Progress) -> tuple[dict[str, PeerReport], dict[str, str]]:
    """What each peer did, and why of those that couldn't be run. The others' runs go on without them."""
    reports: dict[str, PeerReport] = {}
    not_run: dict[str, str] = {}
    for name in options.peers:
        peer = PEERS[name]
        progress(f"{name}: installing and starting")
        try:
            with running_peer(peer, options.artifact, cache=options.cache, log=options.logs / f"{name}.log") as (child, target):
                closed = [put(target, plan.closed(n), progress, f"{name}: {n} clients") for n in plan.closed_peers]
                load = plan.open(fastest(closed).texts_per_s)
                at_maximum = put(target, load, progress, f"{name}: open loop at its maximum")
                reports[name] = PeerReport(peer.runs, closed, at_maximum, child.rss_bytes())
        except (NotStarted, NothingServed, OSError, psutil.Error, subprocess.CalledProcessError) as error:
            not_run[name] = f"{type(error).__name__}: {error}"
    return reports, not_run


def _idle(child: Child, idle_s: float, progress: Progress) -> tuple[float, int]:
    """CPU in cores over ``idle_s`` seconds without a request, and resident memory in bytes."""
    progress("idle")
    used_s, began_at = child.cpu_s(), time.monotonic()
    time.sleep(idle_s)
    return (child.cpu_s() - used_s) / (time.monotonic() - began_at), child.rss_bytes()


def _running(url: str) -> "_Ours":
    """A server that somebody else started, in the form that :func:`stillguard` gives."""
    return nullcontext((None, target_at(url), None))
