"""Which endpoint is asked, and what happens when it fails, hangs or is slow."""

import asyncio
import time
from dataclasses import replace

import pytest

from server.teacher.breaker import BreakerLimits
from server.teacher.endpoints import Endpoints
from server.teacher.null import NoTeacher
from server.teacher.teacher import TeacherUnavailable
from tests.unit.teacher.counting import Counting
from tests.unit.teacher.scripted import HATE, Scripted

LIMITS = BreakerLimits(window=4, failures=2, slow_s=60.0, open_s=3600.0)


def join(*teachers, observer=None, max_in_flight=10, **options) -> Endpoints:
    limits = options.pop("breaker", LIMITS)
    return Endpoints(teachers, breaker=limits, max_in_flight=max_in_flight, observer=observer or Counting(), **options)


def ask(endpoints, text="a text", *, within_s: float = 60.0, pay_again=lambda: None) -> asyncio.Task:
    deadline = time.monotonic() + within_s
    return asyncio.create_task(endpoints.judge(text, "user", HATE, deadline=deadline, pay_again=pay_again))


async def outcome_of(question) -> str:
    with pytest.raises(TeacherUnavailable) as caught:
        await question
    return caught.value.outcome


async def test_each_question_goes_to_the_endpoint_with_the_fewest_under_way():
    one, two = Scripted(), Scripted()
    endpoints = join(one, two)
    questions = [ask(endpoints) for _ in range(4)]
    for _ in range(2):
        (await one.questions.get()).answer(0.1)
    held = [await two.questions.get(), await two.questions.get()]
    await asyncio.gather(questions[0], questions[2])
    more = [ask(endpoints), ask(endpoints)]
    for _ in range(2):
        (await one.questions.get()).answer(0.9)
    assert [(await question).scores["hate"] for question in more] == [0.9, 0.9]
    for question in held:
        question.answer(0.2)
    assert [(await question).scores["hate"] for question in questions] == [0.1, 0.2, 0.1, 0.2]


async def test_idle_endpoints_take_turns():
    one, two, three = Scripted(), Scripted(), Scripted()
    endpoints = join(one, two, three)
    for teacher in (one, two, three, one, two):
        question = ask(endpoints)
        (await teacher.questions.get()).answer(0.5)
        await question


@pytest.mark.parametrize("outcome", ["error", "unreachable", "deadline"])
async def test_a_failed_try_is_made_up_for_by_another_endpoint(outcome):
    one, two = Scripted(), Scripted()
    question = ask(join(one, two))
    (await one.questions.get()).fail(outcome)
    (await two.questions.get()).answer(0.7)
    assert (await question).scores == {"hate": 0.7}


async def test_each_endpoint_is_tried_once_and_the_last_failure_is_told():
    one, two = Scripted(), Scripted()
    question = ask(join(one, two))
    (await one.questions.get()).fail("unreachable")
    (await two.questions.get()).fail("error")
    assert await outcome_of(question) == "error"
    assert (one.asked, two.asked) == (1, 1)


async def test_only_what_every_endpoint_refuses_is_the_texts_fault():
    one, two = Scripted(), Scripted()
    question = ask(join(one, two))
    (await one.questions.get()).fail("error", is_teachers_fault=False)
    (await two.questions.get()).fail("error", is_teachers_fault=False)
    with pytest.raises(TeacherUnavailable) as caught:
        await question
    assert (caught.value.outcome, caught.value.is_teachers_fault) == ("error", False)
    assert (one.asked, two.asked) == (1, 1)


async def test_a_refusal_does_not_hide_another_endpoints_failure():
    one, two = Scripted(), Scripted()
    question = ask(join(one, two))
    (await one.questions.get()).fail("unreachable")
    (await two.questions.get()).fail("error", is_teachers_fault=False)
    assert await outcome_of(question) == "unreachable"


async def test_what_one_endpoint_refuses_another_answers():
    one, two = Scripted(), Scripted()
    question = ask(join(one, two))
    (await one.questions.get()).fail("error", is_teachers_fault=False)
    (await two.questions.get()).answer(0.9)
    assert (await question).scores == {"hate": 0.9}


async def test_a_rival_that_refuses_leaves_the_first_try_its_chance():
    one, two = Scripted(), Scripted()
    question = ask(join(one, two, hedge_after_s=0.01))
    first = await one.questions.get()
    (await two.questions.get()).fail("error", is_teachers_fault=False)
    await asyncio.wait([question], timeout=0.02)
    first.answer(0.3)
    assert (await question).scores == {"hate": 0.3}


async def test_an_answer_counts_though_a_rival_refuses_at_the_same_moment():
    for refuser in (0, 1):
        pair = [Scripted(), Scripted()]
        question = ask(join(*pair, hedge_after_s=0.01))
        held = [await teacher.questions.get() for teacher in pair]
        held[refuser].fail("error", is_teachers_fault=False)
        held[1 - refuser].answer(0.3)
        assert (await question).scores == {"hate": 0.3}


async def test_an_endpoint_that_refuses_whatever_it_is_asked_is_left_alone():
    one, two = Scripted(), Scripted()
    endpoints = join(one, two)
    two.is_ready = False
    for number in range(LIMITS.window + LIMITS.failures - 1):
        question = ask(endpoints, f"text {number}")
        (await one.questions.get()).fail("error", is_teachers_fault=False)
        assert await outcome_of(question) == "error"
    assert endpoints.breaker_states == ["open", "closed"]


async def test_an_endpoint_that_fails_often_is_left_alone_and_the_others_serve():
    one, two = Scripted(), Scripted()
    counting = Counting()
    endpoints = join(one, two, observer=counting)
    two.is_ready = False
    for _ in range(2):
        question = ask(endpoints)
        (await one.questions.get()).fail("error")
        assert await outcome_of(question) == "error"
    two.is_ready = True
    assert (endpoints.breaker_states, endpoints.is_ready, counting.openings) == (["open", "closed"], True, 1)
    for _ in range(3):
        question = ask(endpoints)
        (await two.questions.get()).answer(0.5)
        await question
    assert (one.asked, two.asked) == (2, 3)


async def test_an_endpoint_that_has_come_back_is_found_out_by_the_next_question():
    one, two = Scripted(), Scripted()
    endpoints = join(one, two, breaker=BreakerLimits(window=1, failures=1, slow_s=60.0, open_s=1e-9))
    question = ask(endpoints)
    (await one.questions.get()).fail("unreachable")
    (await two.questions.get()).answer(0.5)
    await question
    assert endpoints.breaker_states == ["half_open", "closed"]
    question = ask(endpoints)
    (await one.questions.get()).answer(0.6)
    assert (await question).scores == {"hate": 0.6}
    assert endpoints.breaker_states == ["closed", "closed"]


async def test_with_every_breaker_open_the_answer_is_breaker_open_at_once():
    one = Scripted()
    endpoints = join(one)
    for _ in range(2):
        question = ask(endpoints)
        (await one.questions.get()).fail("error")
        assert await outcome_of(question) == "error"
    assert not endpoints.is_ready
    assert await outcome_of(ask(endpoints)) == "breaker_open"
    assert one.asked == 2


async def test_those_that_waited_when_the_breaker_opened_are_turned_away():
    one = Scripted()
    endpoints = join(one, max_in_flight=1)
    questions = [ask(endpoints) for _ in range(4)]
    for _ in range(2):
        (await one.questions.get()).fail("error")
    assert [await outcome_of(question) for question in questions] == ["error", "error", "breaker_open", "breaker_open"]
    assert one.asked == 2


async def test_a_teacher_that_is_not_up_says_why_itself_and_costs_its_breaker_nothing():
    endpoints = join(NoTeacher())
    assert not endpoints.is_ready
    for _ in range(5):
        assert await outcome_of(ask(endpoints)) == "disabled"
    assert endpoints.breaker_states == ["closed"]


async def test_an_endpoint_that_is_not_up_is_passed_over():
    one, two = Scripted(), Scripted()
    one.is_ready = False
    question = ask(join(one, two))
    (await two.questions.get()).answer(0.5)
    await question
    assert one.asked == 0


async def test_waiting_for_a_place_ends_with_the_deadline_and_is_not_held_against_the_endpoint():
    one = Scripted()
    endpoints = join(one, max_in_flight=1)
    first = ask(endpoints)
    held = await one.questions.get()
    for _ in range(3):
        assert await outcome_of(ask(endpoints, within_s=0.01)) == "deadline"
    assert (one.asked, endpoints.breaker_states) == (1, ["closed"])
    held.answer(0.5)
    await first
    second = ask(endpoints)
    (await one.questions.get()).answer(0.6)
    assert (await second).scores == {"hate": 0.6}


async def test_a_try_has_a_deadline_of_its_own_within_the_questions():
    one = Scripted()
    endpoints = join(one, try_timeout_s=5.0)
    now = time.monotonic()
    questions = [ask(endpoints, within_s=60.0), ask(endpoints, within_s=2.0)]
    for _ in questions:
        (await one.questions.get()).answer(0.5)
    await asyncio.gather(*questions)
    assert one.deadlines[0] - now == pytest.approx(5.0, abs=1.0)
    assert one.deadlines[1] - now == pytest.approx(2.0, abs=1.0)


async def test_no_other_is_asked_when_no_time_is_left():
    one, two = Scripted(), Scripted()
    question = ask(join(one, two), within_s=0.02)
    held = await one.questions.get()
    await asyncio.wait([question], timeout=0.05)
    held.fail("deadline")
    assert await outcome_of(question) == "deadline"
    assert two.asked == 0


async def test_a_slow_first_try_gets_one_rival_and_the_first_answer_counts():
    one, two, three = Scripted(), Scripted(), Scripted()
    counting = Counting()
    endpoints = join(one, two, three, observer=counting, hedge_after_s=0.01)
    question = ask(endpoints)
    await one.questions.get()
    (await two.questions.get()).answer(0.8)
    assert (await question).scores == {"hate": 0.8}
    assert (one.cancelled, counting.hedges, three.asked) == (1, 1, 0)
    assert endpoints.breaker_states == ["closed"] * 3


async def test_a_rival_that_fails_leaves_the_first_try_its_chance():
    one, two = Scripted(), Scripted()
    question = ask(join(one, two, hedge_after_s=0.01))
    first = await one.questions.get()
    (await two.questions.get()).fail("error")
    await asyncio.wait([question], timeout=0.02)
    first.answer(0.3)
    assert (await question).scores == {"hate": 0.3}


async def test_an_endpoint_that_its_rivals_overtake_again_and_again_is_left_alone():
    silent, quick = Scripted(), Scripted()
    endpoints = join(silent, quick, hedge_after_s=0.01)
    for number in range(10):
        question = ask(endpoints, f"text {number}")
        (await quick.questions.get()).answer(0.8)
        await question
    assert (silent.asked, quick.asked) == (LIMITS.failures, 10)
    assert endpoints.breaker_states == ["open", "closed"]


async def test_a_rival_that_the_first_try_beats_is_not_held_to_be_slow():
    first, rival = Scripted(), Scripted()
    endpoints = join(first, rival, hedge_after_s=0.01)
    for number in range(10):
        question = ask(endpoints, f"text {number}")
        held = await first.questions.get()
        await rival.questions.get()
        held.answer(0.8)
        await question
    assert (rival.cancelled, endpoints.breaker_states) == (10, ["closed", "closed"])


async def test_with_one_endpoint_there_is_no_rival():
    one, counting = Scripted(), Counting()
    question = ask(join(one, observer=counting, hedge_after_s=0.01))
    held = await one.questions.get()
    await asyncio.wait([question], timeout=0.05)
    held.answer(0.5)
    await question
    assert (one.asked, counting.hedges) == (1, 0)


async def test_a_cancelled_question_gives_up_all_its_tries_and_its_places():
    one, two = Scripted(), Scripted()
    endpoints = join(one, two, max_in_flight=1, hedge_after_s=0.01)
    question = ask(endpoints)
    await one.questions.get()
    await two.questions.get()
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    assert (one.cancelled, two.cancelled) == (1, 1)
    again = [ask(endpoints), ask(endpoints)]
    for teacher in (one, two):
        (await teacher.questions.get()).answer(0.5)
    await asyncio.gather(*again)


async def test_starting_and_closing_reach_every_endpoint():
    teachers = [Scripted(), Scripted()]
    endpoints = join(*teachers)
    await endpoints.start()
    assert all(teacher.is_started for teacher in teachers)
    await endpoints.close()
    assert all(teacher.is_closed for teacher in teachers)


def told(caplog) -> list[tuple[str, str]]:
    """(endpoint, reason) of each line about a failed try."""
    return [(record.endpoint, record.reason) for record in caplog.records if record.name == "server.teacher.endpoints"]


async def test_the_log_is_told_each_reason_of_each_endpoint_once_in_a_while(caplog):
    one, two = Scripted("one:8000"), Scripted("two:8000")
    endpoints = join(one, two, breaker=replace(LIMITS, window=99, failures=99))
    for reason in ("HTTP status 503", "HTTP status 503", "not JSON"):
        question = ask(endpoints)
        for teacher in (one, two):
            (await teacher.questions.get()).fail("error", reason)
        assert await outcome_of(question) == "error"
    assert told(caplog) == [
        ("one:8000", "HTTP status 503"),
        ("two:8000", "HTTP status 503"),
        ("one:8000", "not JSON"),
        ("two:8000", "not JSON"),
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


@pytest.mark.parametrize(
    ("outcome", "is_teachers_fault", "is_told"),
    [("deadline", True, True), ("error", False, True), ("deadline", False, False), ("unreachable", False, False)],
)
async def test_what_is_our_own_doing_is_no_news_of_the_endpoint_and_a_refusal_is(caplog, outcome, is_teachers_fault, is_told):
    one = Scripted()
    question = ask(join(one))
    (await one.questions.get()).fail(outcome, is_teachers_fault=is_teachers_fault)
    assert await outcome_of(question) == outcome
    assert told(caplog) == ([("scripted", "told to fail")] if is_told else [])


async def test_every_try_but_the_first_is_paid_for_before_it_is_made():
    teachers = [Scripted(), Scripted(), Scripted()]
    paid: list[int] = []
    question = ask(join(*teachers), pay_again=lambda: paid.append(sum(teacher.asked for teacher in teachers)))
    for teacher in teachers:
        (await teacher.questions.get()).fail("error")
    assert await outcome_of(question) == "error"
    assert paid == [1, 2]


async def test_a_rival_that_nobody_can_pay_for_is_not_asked_and_the_first_try_goes_on():
    one, two, counting = Scripted(), Scripted(), Counting()
    refused: asyncio.Queue[None] = asyncio.Queue()

    def refuse() -> None:
        refused.put_nowait(None)
        raise TeacherUnavailable("over_budget", "told to", is_teachers_fault=False)

    question = ask(join(one, two, observer=counting, hedge_after_s=0.01), pay_again=refuse)
    held = await one.questions.get()
    await refused.get()
    held.answer(0.5)
    assert (await question).scores == {"hate": 0.5}
    assert (two.asked, counting.hedges) == (0, 0)
