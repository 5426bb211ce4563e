"""NoTeacher and the shipped fake."""

import asyncio
import time

import pytest

from server.core.policy import load_policies
from server.core.taxonomy import CATEGORIES
from server.teacher.fake import FakeTeacher
from server.teacher.null import NoTeacher
from server.teacher.teacher import Judgement, TeacherUnavailable

RULES = dict(zip(CATEGORIES, load_policies()["default"].rules, strict=True))


async def outcome_of(teacher, *, within_s: float = 5.0) -> str:
    with pytest.raises(TeacherUnavailable) as caught:
        await teacher.judge("a text", "user", RULES, deadline=time.monotonic() + within_s)
    return caught.value.outcome


async def test_no_teacher_says_that_it_is_disabled():
    teacher = NoTeacher()
    await teacher.start()
    assert not teacher.is_ready
    assert await outcome_of(teacher) == "disabled"
    await teacher.close()


async def test_the_fake_scores_by_keyword_and_counts():
    teacher = FakeTeacher({"Knife": 0.9, "fork": 0.4})
    two = {category: RULES[category] for category in ("hate", "violence")}
    judged = await teacher.judge("KNIFE and fork", "user", two, deadline=0.0)
    assert judged == Judgement({"hate": 0.9, "violence": 0.9}, "logprobs")
    judged = await teacher.judge("a spoon", "user", two, deadline=0.0)
    assert judged == Judgement({"hate": 0.01, "violence": 0.01}, "logprobs")
    assert (teacher.calls, teacher.asked) == (2, [("hate", "violence")] * 2)


async def test_the_fake_fails_when_told():
    teacher = FakeTeacher(fails_with="error")
    assert await outcome_of(teacher) == "error"
    assert teacher.calls == 1


async def test_the_fake_hangs_until_released_until_its_deadline_or_until_closed():
    teacher = FakeTeacher(release=asyncio.Event())
    assert await outcome_of(teacher, within_s=0.01) == "deadline"
    waiting = asyncio.create_task(teacher.judge("a text", "user", RULES, deadline=time.monotonic() + 5))
    teacher.release.set()
    assert (await waiting).scores == dict.fromkeys(CATEGORIES, 0.01)
    teacher.release = asyncio.Event()
    hanging = asyncio.create_task(outcome_of(teacher))
    await teacher.close()
    assert await hanging == "unreachable"
    assert teacher.is_closed
    assert not teacher.is_ready
