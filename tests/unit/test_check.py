"""The decisions of a request's journey, one at a time."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from types import SimpleNamespace

import numpy as np
import pytest

from server.batching.batcher import Batcher
from server.check import Checker, CheckLimits, check_row
from server.core.artifact import Manifest
from server.core.calibration import IDENTITY, Platt
from server.core.errors import DeadlineExceeded, QueueFull, TextTooLarge, UnknownPolicy
from server.core.policy import PolicySet
from server.core.taxonomy import CATEGORIES
from server.core.types import Text
from server.inference.fake import FakeClassifier, FakeEncoder
from server.inference.reading import ReadingLimits
from server.student import Student
from server.teacher.fake import FakeTeacher
from tests.cascades import cascade_to
from tests.steady import steady_policy

POLICY = steady_policy()
READING = ReadingLimits(max_windows=100, max_request_windows=200, max_chars=20_000)
MANIFEST = Manifest("v1", "fp32", CATEGORIES, 12, IDENTITY, None, "p", {}, {}, {})


@pytest.mark.parametrize(
    ("row", "is_good"),
    [
        (np.zeros(8, np.float32), True),
        (np.full(8, np.nan, np.float32), False),
        (np.array([0, 0, 0, np.inf, 0, 0, 0, 0], np.float32), False),
        (np.zeros(7, np.float32), False),
        (np.zeros((8, 1), np.float32), False),
    ],
)
def test_a_row_is_one_finite_logit_per_category(row, is_good):
    assert check_row(row) is is_good


class Counted:
    def __init__(self) -> None:
        self.answers = []

    def answer_done(self, answer) -> None:
        self.answers.append(answer)


class SlowEncoder(FakeEncoder):
    """Takes longer than anyone waits."""

    def encode(self, text, checkpoint=None):
        time.sleep(0.2)
        return super().encode(text, checkpoint)


class HeldEncoder(FakeEncoder):
    """Waits for ``gate`` within each text, and then asks whether to go on: ``went_on`` gets the answers."""

    def __init__(self):
        super().__init__(max_tokens=12, overlap_tokens=2)
        self.entered, self.gate = threading.Event(), threading.Event()
        self.went_on = SimpleQueue()

    def encode(self, text, checkpoint=None):
        self.entered.set()
        assert self.gate.wait(60), "the test never opened the gate"
        try:
            checkpoint(1)
        except DeadlineExceeded:
            self.went_on.put(False)
            raise
        self.went_on.put(True)
        return super().encode(text, checkpoint)


@pytest.fixture
async def make_checker():
    executor = ThreadPoolExecutor(1)
    batchers = []

    def make(**options) -> Checker:
        batcher = Batcher(
            [FakeClassifier()], rebuild=FakeClassifier, cost=lambda window: window.tokens, check_row=check_row, stuck_s=60
        )
        batcher.start()
        batchers.append(batcher)
        manifest = replace(MANIFEST, calibration=options.pop("calibration", IDENTITY))
        encoder = options.pop("encoder", FakeEncoder(max_tokens=12, overlap_tokens=2))
        student = Student(manifest=manifest, policies=PolicySet([POLICY]), encoder=encoder, batcher=batcher)
        wiring = {
            "student": lambda: student,
            "default_policy": "default",
            "cascade": cascade_to(options.pop("teacher", FakeTeacher())),
            "metrics": Counted(),
            "executor": executor,
            "limits": CheckLimits(request_timeout_s=120, encode_inline_chars=50, encode_max_chars=10_000, reading=READING),
        }
        return Checker(**wiring | options)

    yield make
    for batcher in batchers:
        await batcher.drain(60)
    executor.shutdown()


async def test_a_texts_score_is_its_highest_windows_calibrated(make_checker):
    metrics = Counted()
    calibration = IDENTITY | {"hate": Platt(scale=2.0, shift=0.0)}
    checker = make_checker(metrics=metrics, calibration=calibration)
    answer = await checker.check([Text("plain " * 30 + "hate=0.2 " + "plain " * 30 + "hate=0.25")])
    (result,) = answer.results
    odds = (0.25 / 0.75) ** 2
    assert result.scores["hate"] == pytest.approx(odds / (1 + odds), abs=1e-4)
    assert result.windows == 8
    assert metrics.answers == [answer]


async def test_watchers_hear_of_an_answered_request_and_of_what_the_student_said_before_the_teacher(make_checker):
    heard = []
    watcher = SimpleNamespace(checked=heard.append)
    texts = [Text("hate=0.2", "assistant")]
    answer = await make_checker(watchers=[watcher]).check(texts, key="team", request_id="r1")
    (checked,) = heard
    assert (checked.request_id, checked.key, checked.texts, checked.answer) == ("r1", "team", texts, answer)
    assert checked.opinions[0].scores == answer.results[0].scores


@pytest.mark.parametrize(
    ("second", "verdict", "decided_by"), [("hate=0.3", "allow", "teacher"), ("hate=0.55", "block", "student")]
)
async def test_the_teachers_no_to_one_window_clears_no_other(make_checker, second, verdict, decided_by):
    teacher = FakeTeacher(otherwise=0.0)
    text = "plain " * 30 + "hate=0.6 " + "plain " * 30 + second
    (result,) = (await make_checker(teacher=teacher).check([Text(text)])).results
    assert (result.verdict, result.decided_by, teacher.calls) == (verdict, decided_by, int(decided_by == "teacher"))


async def test_short_and_long_texts_get_the_same_scores(make_checker):
    checker = make_checker()
    short, long = await asyncio.gather(checker.check([Text("hate=0.2")]), checker.check([Text("hate=0.2" + " plain" * 20)]))
    assert short.results[0].scores == long.results[0].scores
    assert long.timings.encode_s > 0


async def test_the_teacher_reads_the_window_that_raised_the_score(make_checker):
    read = []

    class Recorder(FakeTeacher):
        async def judge(self, text, role, rules, *, deadline):
            read.append((text, role, deadline - time.monotonic()))
            return await super().judge(text, role, rules, deadline=deadline)

    checker = make_checker(teacher=Recorder())
    words = [f"w{i}" for i in range(30)]
    words[12] = "violence=0.5"
    await checker.check([Text(" ".join(words), "assistant")])
    ((text, role, left_s),) = read
    assert text.split() == words[8:18]
    assert role == "assistant"
    assert 1 < left_s <= 60


async def test_an_unknown_policy_names_those_that_are_known(make_checker):
    with pytest.raises(UnknownPolicy, match="known policies: default"):
        await make_checker().check([Text("a")], policy_id="nope")


async def test_the_deadline_covers_encoding(make_checker):
    limits = CheckLimits(request_timeout_s=0.02, encode_inline_chars=0, encode_max_chars=10_000, reading=READING)
    with pytest.raises(DeadlineExceeded):
        await make_checker(encoder=SlowEncoder(), limits=limits).check([Text("a")])


@pytest.fixture
def held():
    encoder = HeldEncoder()
    yield encoder
    encoder.gate.set()


@pytest.mark.parametrize("ending", [DeadlineExceeded, asyncio.CancelledError])
async def test_encoding_does_not_go_on_after_its_request(make_checker, held, ending):
    checker = make_checker(encoder=held)
    asked = asyncio.create_task(checker.check([Text("x" * 100)], timeout_s=0.02 if ending is DeadlineExceeded else None))
    assert await asyncio.to_thread(held.entered.wait, 60)
    if ending is asyncio.CancelledError:
        asked.cancel()
    with pytest.raises(ending):
        await asked
    held.gate.set()
    assert await asyncio.to_thread(held.went_on.get, timeout=60) is False
    await checker.check([Text("x" * 100)])
    assert held.went_on.get() is True


async def test_long_requests_leave_free_what_they_take_so_that_shorter_ones_get_in(make_checker, held):
    """Of 10,000 characters at once; alone, a request may take them all."""
    checker = make_checker(encoder=held)
    asked = []

    async def ask(chars):
        asked.append(asyncio.create_task(checker.check([Text("x" * chars)])))
        await asyncio.sleep(0)

    async def is_shed(chars):
        with pytest.raises(QueueFull, match="too much text is being encoded"):
            await checker.check([Text("x" * chars)], timeout_s=10)

    await ask(4_000)
    await is_shed(3_001)
    await ask(3_000)
    await is_shed(1_501)
    await ask(1_500)
    held.gate.set()
    assert [len((await task).results) for task in asked] == [1, 1, 1]
    assert (await checker.check([Text("x" * 10_000)])).results


async def test_the_room_for_encoding_is_given_back_however_a_request_ends(make_checker):
    checker = make_checker(encoder=SlowEncoder())
    long = [Text("x" * 6_000)]
    with pytest.raises(DeadlineExceeded):
        await checker.check(long, timeout_s=0.02)
    cancelled = asyncio.create_task(checker.check(long))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with pytest.raises(TextTooLarge):
        await checker.check([Text("\ufdfa" * 6_000)])
    for _ in range(3):
        assert (await checker.check(long)).results


class WhereEncoder(FakeEncoder):
    """Notes the threads that encode."""

    def __init__(self):
        super().__init__(max_tokens=12, overlap_tokens=2)
        self.threads = []

    def encode(self, text, checkpoint=None):
        self.threads.append(threading.current_thread())
        return super().encode(text, checkpoint)


@pytest.mark.parametrize(
    ("text", "is_inline"), [("a" * 50, True), ("a" * 51, False), ("\ufdfa" * 2, True), ("\ufdfa" * 3, False)]
)
async def test_what_takes_long_to_encode_is_not_encoded_on_the_event_loop(make_checker, text, is_inline):
    encoder = WhereEncoder()
    await make_checker(encoder=encoder).check([Text(text)])
    assert {thread is threading.current_thread() for thread in encoder.threads} == {is_inline}
