"""One run: sure texts at a steady rate, alone, and then beside a teacher that other clients keep busy."""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from loadtest.bench.dialects import NATIVE
from loadtest.bench.driver import drive, pin_to_last_core
from loadtest.bench.load import Closed, Load, Measured, Open, Target
from loadtest.bench.processes import SHIPPED, NotStarted, stillguard
from loadtest.command import Unusable
from loadtest.machine import describe_machine
from loadtest.measures import plain
from loadtest.scrape import scrape

UNSURE_CLIENTS = 4
LEAST_UNSURE = 8
_ASKED_AT_ONCE = 32
_SETTLE_S, _DRAIN_S = 2.0, 10.0
_TEACHER_START_S, _RETRY_S = 60.0, 0.1


def measure(texts: Sequence[str], *, rate_per_s: float, seconds: float, out: Path) -> dict[str, Any]:
    """The report, JSON's kinds alone.

    Raises:
        NotStarted: the server didn't come up, or its teacher.
        Unusable: the student is sure of too many texts to keep a teacher busy, or of none; or metrics can't be read.
    """
    machine = describe_machine()
    with stillguard(SHIPPED, out / "student.log") as (_, target, _):
        sure, unsure = part(target, texts)
    if len(unsure) < LEAST_UNSURE:
        raise Unusable(f"the student is unsure of {len(unsure)} of {len(texts)} texts: too few to keep a teacher busy")
    if not sure:
        raise Unusable(f"the student is unsure of all {len(texts)} texts: nothing is left to be timed")
    steady = Load(Open(rate_per_s), 1, _SETTLE_S, seconds, _DRAIN_S)
    asking = Load(Closed(UNSURE_CLIENTS), 1, _SETTLE_S, seconds, _DRAIN_S)
    spawn = multiprocessing.get_context("spawn")
    flags = ["--teacher-cache-max-items", "0"]
    with (
        stillguard(SHIPPED, out / "stillguard.log", flags, teacher="embedded") as (_, target, _),
        ProcessPoolExecutor(max_workers=2, mp_context=spawn, initializer=pin_to_last_core) as pool,
        httpx.Client(trust_env=False, timeout=10.0) as client,
    ):
        metrics_url = f"http://{target.host}:{target.port}/metrics"
        _wait_for_teacher(client, metrics_url)
        alone = pool.submit(drive, target, sure, {}, steady).result()
        before = _judged(client, metrics_url)
        asked = pool.submit(drive, target, unsure, {}, asking)
        beside = pool.submit(drive, target, sure, {}, steady).result()
        asked.result()
        judged = _judged(client, metrics_url) - before
    return plain(
        {
            "machine": machine,
            "texts": {"sure": len(sure), "unsure": len(unsure)},
            "rate_per_s": rate_per_s,
            "judged_per_s": judged / (_SETTLE_S + seconds),
            "alone": _describe(alone),
            "beside_teacher": _describe(beside),
            "p99_ratio": beside.latency.p99_s / alone.latency.p99_s,
        }
    )


def part(target: Target, texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The texts that a server without a teacher answers as sure, and those that it would have liked to ask about."""
    sure: list[str] = []
    unsure: list[str] = []
    url = f"http://{target.host}:{target.port}{NATIVE.path}"
    with httpx.Client(trust_env=False, timeout=30.0) as client:
        for first in range(0, len(texts), _ASKED_AT_ONCE):
            some = texts[first : first + _ASKED_AT_ONCE]
            reply = client.post(url, content=NATIVE.body(some), headers={"content-type": "application/json"})
            for text, result in zip(some, reply.raise_for_status().json()["results"], strict=True):
                (sure if result["escalation"] is None else unsure).append(text)
    return sure, unsure


def _wait_for_teacher(client: httpx.Client, metrics_url: str) -> None:
    """Raises NotStarted: no teacher within :data:`_TEACHER_START_S`."""
    give_up_at = time.monotonic() + _TEACHER_START_S
    while time.monotonic() < give_up_at:
        now = scrape(client, metrics_url)
        if now is not None and now.total("stillguard_teacher_ready"):
            return
        time.sleep(_RETRY_S)
    raise NotStarted("the embedded teacher does not come up; the server's log says why")


def _judged(client: httpx.Client, metrics_url: str) -> float:
    now = scrape(client, metrics_url)
    if now is None:
        raise Unusable(f"{metrics_url} can't be read")
    return now.total("stillguard_escalations_total", outcome="answered")


def _describe(measured: Measured) -> dict[str, Any]:
    return {"texts_per_s": measured.texts_per_s, "outcomes": measured.outcomes, "latency": asdict(measured.latency)}
