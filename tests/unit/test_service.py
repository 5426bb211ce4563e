"""Reloads under traffic: each answer is one artefact's, nothing is lost, and what was replaced is let go."""

import asyncio
import gc
import math
import re
import threading
import weakref
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from server.core.artifact import Manifest
from server.core.calibration import IDENTITY
from server.core.errors import ArtifactError, ClassifierFailed, ConfigurationError, QueueFull, ReloadInProgress, ShuttingDown
from server.core.policy import PolicySet
from server.core.taxonomy import CATEGORIES
from server.core.types import Text
from server.inference.classifier import Checkpoint, Window
from server.inference.fake import FakeEncoder
from server.observability.metrics import Metrics
from server.service import Parts, Service, StudentParts
from server.settings import Settings
from server.teacher.fake import FakeTeacher
from tests.steady import steady_policy

PATIENT = {"request_timeout_s": 60, "drain_timeout_s": 60, "session_restart_s": 0.001, "encode_inline_chars": 100}
FIRST_MARK = 100


class Death(BaseException):
    """What a session dies of, or a library panics with."""


@dataclass
class Press:
    """Makes students, numbered from 1. All that is in one tells its number: tokens, logits, policies, manifest."""

    gate: threading.Event
    freed: threading.Event
    sessions: int = 1

    def __post_init__(self):
        self.made = self.encoded = 0
        self.classifiers: list[weakref.ref] = []
        self.entered = threading.Event()
        self.reading, self.may_read = threading.Event(), threading.Event()
        self.may_read.set()
        self.fault: str | None = None

    def make(self, _folder: Path | None = None) -> StudentParts:
        fault, self.fault = self.fault, None
        if fault == "corrupt":
            raise ArtifactError("artifact: model.onnx is corrupt")
        if fault == "mistake":
            raise ZeroDivisionError
        if fault == "panic":
            raise Death
        self.made += 1
        number = self.made
        policy = replace(steady_policy(), version=str(number))
        classifiers = [self.classifier(number, fault) for _ in range(self.sessions)]
        version = None if fault == "odd" else f"v{number}"  # what no manifest says: stillguard_info takes strings only
        manifest = Manifest(version, "fp32", CATEGORIES, 12, IDENTITY, None, "none", {}, {}, {})
        return StudentParts(manifest, PolicySet([policy]), Encoder(self, number), classifiers, lambda: self.classifier(number))

    def classifier(self, number: int, fault: str | None = None) -> "Classifier":
        classifier = Classifier(self, number, fault)
        self.classifiers.append(weakref.ref(classifier))
        return classifier


class Encoder(FakeEncoder):
    """Begins each window with its student's mark."""

    def __init__(self, press: Press, number: int) -> None:
        super().__init__(max_tokens=12, overlap_tokens=2)
        self._press = press
        self._mark = FIRST_MARK + number

    def encode(self, text: str, checkpoint: Checkpoint | None = None) -> list[Window]:
        self._press.encoded += 1
        self._press.reading.set()
        assert self._press.may_read.wait(60), "the test never let the text be read"
        windows = super().encode(text, checkpoint)
        kinds = [word for word in ("die", "stick") if word in text]
        return [replace(window, token_ids=[self._mark, *kinds, *window.token_ids]) for window in windows]


class Classifier:
    """Every logit is its student's number; a window that another's encoder cut is an error."""

    def __init__(self, press: Press, number: int, fault: str | None) -> None:
        self._press = press
        self._number = number
        self._is_cold, self._is_spoilt = fault == "cold", fault == "spoilt"

    def warm_up(self) -> None:
        if self._is_cold:
            raise Death("does not get warm")
        if self._is_spoilt:
            raise ArtifactError("model /a/model.onnx: its logits are not finite")

    def classify(self, windows):
        self._press.entered.set()
        assert self._press.gate.wait(60), "the test never opened the gate"
        if any("stick" in window.token_ids for window in windows):
            assert self._press.freed.wait(60), "the test never freed the model"
        if any("die" in window.token_ids for window in windows):
            raise Death
        assert {window.token_ids[0] for window in windows} == {FIRST_MARK + self._number}
        return np.full((len(windows), len(CATEGORIES)), self._number, dtype=np.float32)


class Shop:
    """A service, started, and its press."""

    def __init__(self, *, sessions: int = 1, **knobs) -> None:
        self.gate, self.freed = threading.Event(), threading.Event()
        self.gate.set()
        self.press = Press(self.gate, self.freed, sessions)
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        parts = Parts(self.press.make(), [FakeTeacher()], reload=self.press.make)
        self.service = Service(Settings(**PATIENT | knobs), parts, metrics, answers=metrics)

    def open(self) -> None:
        self.press.may_read.set()
        self.gate.set()
        self.freed.set()

    async def check(self, text: str = "plain", count: int = 1):
        return await self.service.checker.check([Text(text)] * count)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels)


@asynccontextmanager
async def opened(**options):
    shop = Shop(**options)
    await shop.service.start()
    try:
        yield shop
    finally:
        shop.open()
        await shop.service.stop()


def by_one_student(answer) -> int:
    """The number of the student that gave all of it."""
    number = int(answer.artifact.version.removeprefix("v"))
    assert answer.policy_version == str(number)
    scores = {score for result in answer.results for score in result.scores.values()}
    assert scores == {1 / (1 + math.exp(-number))}
    return number


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_request_ends_with_the_student_that_it_began_with():
    async with opened(batch_max_items=1) as shop:
        shop.gate.clear()
        old = asyncio.create_task(shop.check("plain " * 20, count=3))
        await turns(3)
        assert (await shop.service.reload()).version == "v2"
        new = asyncio.create_task(shop.check())
        await turns(3)
        assert shop.metric("stillguard_queue_items") > 0
        shop.gate.set()
        assert [by_one_student(await task) for task in (old, new)] == [1, 2]
        assert shop.metric("stillguard_reloads_total", outcome="ok") == 1
        assert shop.metric("stillguard_queue_items") == 0
        labels = {"artifact_version": "v2", "precision": "fp32", "policies": "default@2"}
        found = [s.labels for family in shop.registry.collect() for s in family.samples if s.name == "stillguard_info"]
        assert [sample.items() >= labels.items() for sample in found] == [True]


async def test_a_request_that_is_still_being_encoded_is_not_lost():
    async with opened(encode_inline_chars=0) as shop:
        shop.press.may_read.clear()
        encoding = asyncio.create_task(shop.check())
        assert await asyncio.to_thread(shop.press.reading.wait, 60)
        await shop.service.reload()
        await turns(3)  # the old student is being retired
        shop.press.may_read.set()
        assert by_one_student(await encoding) == 1


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("corrupt", "artifact: model.onnx is corrupt"),
        ("mistake", "the reload failed: ZeroDivisionError; the log says where"),
        ("panic", "the reload failed: Death; the log says where"),
        ("cold", "artifact: the model can't be run: Death: does not get warm"),
        ("spoilt", "model /a/model.onnx: its logits are not finite"),
        ("odd", "the reload failed: ValueError; the log says where"),
    ],
)
async def test_what_served_goes_on_when_a_reload_fails_and_the_reason_is_told(fault, why):
    async with opened() as shop:
        shop.press.fault = fault
        with pytest.raises(ConfigurationError, match=f"^{re.escape(why)}$"):
            await shop.service.reload()
        assert shop.service.student.artifact.version == "v1"
        assert by_one_student(await shop.check()) == 1
        assert shop.metric("stillguard_reloads_total", outcome="failed") == 1
        assert shop.service.missing() == []
        await shop.service.reload()
        assert by_one_student(await shop.check()) == shop.press.made > 1


@pytest.mark.parametrize("started", [0, 1])
async def test_a_student_that_can_not_be_started_is_closed_and_what_served_goes_on(monkeypatch, started):
    """The first ``started`` of its two sessions get a thread."""
    async with opened(sessions=2) as shop:
        before, start, left = set(threading.enumerate()), threading.Thread.start, [None] * started

        def run_out(thread):
            if thread.name.startswith("session-"):
                if not left:
                    raise RuntimeError("can't start new thread")
                left.pop()
            start(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", run_out)
            with pytest.raises(ConfigurationError, match="RuntimeError; the log says where"):
                await shop.service.reload()
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith("session-"):
                await asyncio.to_thread(thread.join, 60)
                assert not thread.is_alive()
        assert by_one_student(await shop.check()) == 1
        assert shop.service.missing() == []
        assert shop.metric("stillguard_reloads_total", outcome="failed") == 1
        await shop.service.reload()
        assert by_one_student(await shop.check()) == 3


async def test_a_reload_that_nobody_waits_for_tells_the_log_of_a_mistake_after_the_swap(monkeypatch, caplog):
    async with opened() as shop:

        def fail(*_):
            raise ZeroDivisionError("a secret")

        monkeypatch.setattr(shop.service.drift, "judge_by", fail)
        shop.service.reload_soon()
        while not caplog.messages:
            await asyncio.to_thread(bool)
        assert caplog.messages == ["the reload failed: ZeroDivisionError"]


async def test_one_reload_at_a_time():
    async with opened() as shop:
        first = asyncio.create_task(shop.service.reload())
        await turns(1)
        with pytest.raises(ReloadInProgress):
            await shop.service.reload()
        shop.service.reload_soon()
        assert (await first).version == "v2"
        assert shop.press.made == 2
        assert shop.metric("stillguard_reloads_total", outcome="refused") == 2


async def test_an_impatient_caller_does_not_stop_a_reload():
    async with opened() as shop:
        asked = asyncio.create_task(shop.service.reload())
        await turns(1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        while shop.service.student.artifact.version == "v1":
            await asyncio.to_thread(bool)
        assert by_one_student(await shop.check()) == 2


async def test_a_stopping_server_reloads_nothing():
    shop = Shop()
    with pytest.raises(ShuttingDown):
        await shop.service.reload()
    await shop.service.start()
    await shop.service.stop()
    with pytest.raises(ShuttingDown):
        await shop.service.reload()
    shop.service.reload_soon()
    assert shop.press.made == 1


async def test_readiness_asks_for_one_live_session():
    async with opened(sessions=2, session_restart_s=3600) as shop:
        with pytest.raises(ClassifierFailed):
            await shop.check("die")
        assert shop.service.missing() == []
        assert (shop.metric("stillguard_live_sessions"), shop.metric("stillguard_sessions")) == (1, 2)
        with pytest.raises(ClassifierFailed):
            await shop.check("die")
        assert shop.service.missing() == ["0 of 2 sessions are alive"]
        assert (shop.metric("stillguard_live_sessions"), shop.metric("stillguard_ready")) == (0, 0)
        assert shop.metric("stillguard_lost_sessions_total", reason="died") == 2


async def test_a_reload_replaces_dead_sessions():
    async with opened(session_restart_s=3600) as shop:
        with pytest.raises(ClassifierFailed):
            await shop.check("die")
        await shop.service.reload()
        assert by_one_student(await shop.check()) == 2
        assert shop.service.missing() == []


async def test_a_full_queue_sheds_before_anything_is_encoded():
    async with opened(queue_max_items=1) as shop:
        shop.gate.clear()
        served = asyncio.create_task(shop.check())
        assert await asyncio.to_thread(shop.press.entered.wait, 60)
        waiting = asyncio.create_task(shop.check())
        await turns(2)
        before = shop.press.encoded
        with pytest.raises(QueueFull):
            await shop.check()
        assert shop.press.encoded == before
        shop.gate.set()
        assert [by_one_student(await task) for task in (served, waiting)] == [1, 1]


checks = st.tuples(
    st.just("check"), st.sampled_from(["plain", "plain " * 20, "plain " * 150, "die", "stick"]), st.integers(1, 3)
)
reloads = st.tuples(st.just("reload"), st.sampled_from([None, None, "corrupt", "mistake", "cold"]), st.just(0))
others = st.tuples(st.sampled_from(["cancel", "turns"]), st.just(None), st.integers(0, 6))


async def play(steps, *, sessions, ending):
    """Each check's and each reload's outcome, whether texts were lost with a session, and what the loop caught."""
    caught = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
    can_stick = any(step[1] == "stick" for step in steps)
    shop = Shop(sessions=sessions, session_stuck_s=0.02 if can_stick else 60)
    shop.gate.clear()
    await shop.service.start()
    tasks, reloads = [], []
    for kind, what, count in steps:
        if kind == "check":
            tasks.append(asyncio.create_task(shop.check(what, count)))
        elif kind == "reload":
            shop.press.fault = what
            reloads.append(asyncio.create_task(shop.service.reload()))
        elif kind == "cancel" and tasks:
            tasks[count % len(tasks)].cancel()
        await turns(count)
        shop.gate.set()
    asyncio.get_running_loop().call_later(0.2, shop.freed.set)  # more may be stuck than are replaced
    if ending == "stop":
        await shop.service.stop()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    reloaded = await asyncio.wait_for(asyncio.gather(*reloads, return_exceptions=True), 60)
    shop.open()
    await shop.service.stop()
    return shop, outcomes, reloaded, caught


def assert_allowed(step, outcome, steps, shop, *, ending):
    _, text, count = step
    if isinstance(outcome, ClassifierFailed):
        assert any(step[1] in ("die", "stick") for step in steps)
    elif isinstance(outcome, asyncio.CancelledError):
        assert any(step[0] == "cancel" for step in steps)
    elif isinstance(outcome, ShuttingDown):
        assert ending == "stop"
    else:
        assert len(outcome.results) == count
        assert text != "die"
        assert 1 <= by_one_student(outcome) <= shop.press.made


def run(steps, *, sessions, ending) -> Shop:
    shop, outcomes, reloaded, caught = asyncio.run(play(steps, sessions=sessions, ending=ending))
    assert caught == []
    for step, outcome in zip([step for step in steps if step[0] == "check"], outcomes, strict=True):
        assert_allowed(step, outcome, steps, shop, ending=ending)
    went_well = sum(not isinstance(outcome, BaseException) for outcome in reloaded)
    assert shop.metric("stillguard_reloads_total", outcome="ok") == went_well
    assert shop.press.made >= 1 + went_well
    return shop


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(st.one_of(checks, checks, reloads, others), min_size=1, max_size=14),
    sessions=st.integers(1, 2),
    ending=st.sampled_from(["drain", "stop"]),
)
def test_every_request_is_answered_once_by_one_student_whatever_is_reloaded(steps, sessions, ending):
    before = set(threading.enumerate())
    shop = run(steps, sessions=sessions, ending=ending)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    gc.collect()
    assert [classifier for classifier in shop.press.classifiers if classifier() is not None] == [], "a model is kept"
