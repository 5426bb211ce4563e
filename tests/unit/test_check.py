"""The decisions of a request's journey, one at a time."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from server.batching.batcher import Batcher
from server.check import Checker, CheckLimits, check_row, decide, unsure_categories
from server.core.calibration import IDENTITY, Platt
from server.core.errors import DeadlineExceeded, UnknownPolicy
from server.core.policy import PolicySet
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX
from server.core.types import Escalation, Text
from server.inference.fake import FakeClassifier, FakeEncoder
from server.teacher.fake import FakeTeacher
from tests.steady import steady_policy

POLICY = steady_policy()
NO_HARM = dict.fromkeys(CATEGORIES, 0.01)


def with_rule(category, **changes):
    rules = list(POLICY.rules)
    rules[CATEGORY_INDEX[category]] = replace(rules[CATEGORY_INDEX[category]], **changes)
    return replace(POLICY, rules=tuple(rules))


@pytest.mark.parametrize(
    ("scores", "unsure"),
    [
        ({}, []),
        ({"hate": 0.3}, ["hate"]),
        ({"hate": 0.7}, ["hate"]),
        ({"hate": 0.29}, []),
        ({"hate": 0.71}, []),
        ({"violence": 0.5, "hate": 0.4}, ["hate", "violence"]),
        ({"violence": 0.5, "hate": 0.9}, []),
        ({"hate": 0.5, "violence": 0.9}, []),
    ],
)
def test_the_unsure_are_those_in_their_band_unless_another_is_surely_violated(scores, unsure):
    assert unsure_categories(POLICY, NO_HARM | scores) == unsure


def test_a_score_over_block_at_and_below_its_band_is_sure():
    policy = with_rule("hate", block_at=0.5, unsure=(0.8, 0.9))
    assert unsure_categories(policy, NO_HARM | {"hate": 0.6, "violence": 0.5}) == []
    assert decide(policy, NO_HARM | {"hate": 0.6}, None, windows=1, scanned_chars=1).verdict == "block"


def test_a_band_above_block_at_can_be_cleared_by_the_teacher():
    policy = with_rule("hate", block_at=0.5, unsure=(0.4, 0.9))
    escalation = Escalation("answered", 0.1, {"hate": 0.49}, {"hate": 0.8})
    result = decide(policy, NO_HARM | {"hate": 0.8}, escalation, windows=1, scanned_chars=1)
    assert (result.verdict, result.decided_by, result.categories) == ("allow", "teacher", ())
    assert result.scores == NO_HARM | {"hate": 0.49}


def test_block_at_itself_blocks():
    result = decide(POLICY, NO_HARM | {"hate": 0.5}, None, windows=2, scanned_chars=3)
    assert (result.verdict, result.categories, result.windows, result.scanned_chars) == ("block", ("hate",), 2, 3)


@pytest.mark.parametrize(
    ("choice", "verdict"), [("student", "block"), ("allow", "allow"), ("block", "block"), ("review", "review")]
)
def test_without_a_teacher_the_policy_chooses_and_the_scores_stay_the_students(choice, verdict):
    escalation = Escalation("deadline", 2.0, {}, {"hate": 0.6})
    policy = replace(POLICY, on_no_teacher=choice)
    result = decide(policy, NO_HARM | {"hate": 0.6}, escalation, windows=1, scanned_chars=1)
    assert (result.verdict, result.decided_by, result.categories) == (verdict, "student_degraded", ("hate",))
    assert result.scores["hate"] == 0.6


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

    def encode(self, text):
        time.sleep(0.2)
        return super().encode(text)


@pytest.fixture
async def make_checker():
    executor = ThreadPoolExecutor(1)
    batchers = []

    def make(**options) -> Checker:
        batcher = Batcher([FakeClassifier().classify], cost=lambda window: window.tokens, check_row=check_row)
        batcher.start()
        batchers.append(batcher)
        limits = CheckLimits(request_timeout_s=120, teacher_timeout_s=60, encode_inline_chars=50, encode_max_requests=1)
        wiring = {
            "encoder": FakeEncoder(max_tokens=12, overlap_tokens=2),
            "batcher": batcher,
            "calibration": IDENTITY,
            "policies": PolicySet([POLICY]),
            "default_policy": "default",
            "teacher": FakeTeacher(),
            "metrics": Counted(),
            "executor": executor,
            "limits": limits,
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
    limits = CheckLimits(request_timeout_s=0.02, teacher_timeout_s=1, encode_inline_chars=0, encode_max_requests=1)
    with pytest.raises(DeadlineExceeded):
        await make_checker(encoder=SlowEncoder(), limits=limits).check([Text("a")])
