"""What is asked again, what is shared, what is kept, and who pays."""

import asyncio
import gc
import time
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, ModuleType

import pytest

from server.core.prompt import GUIDELINE, TITLE
from server.teacher.budget import Budget, BudgetLimits
from server.teacher.fake import FakeTeacher
from server.teacher.null import NoTeacher
from server.teacher.route import CacheLimits, TeacherRoute
from server.teacher.teacher import Judgement, TeacherUnavailable
from tests.unit.teacher.counting import Counting
from tests.unit.teacher.joined import joined
from tests.unit.teacher.scripted import HATE, RULES, Scripted


def make(
    *teachers, total=None, per_key=None, items=100, ttl_s=3600.0, flight_timeout_s=60.0, max_in_flight=1000, observer=None
):
    budget = Budget(total=total or BudgetLimits(), per_key=per_key or BudgetLimits())
    observer = observer or Counting()
    return TeacherRoute(
        joined(*teachers, observer=observer, max_in_flight=max_in_flight),
        budget=budget,
        cache=CacheLimits(max_items=items, ttl_s=ttl_s),
        flight_timeout_s=flight_timeout_s,
        observer=observer,
    )


def ask(route, text="a text", *, role="user", rules=HATE, artifact="a1", within_s=60.0, key=None) -> asyncio.Task:
    return ask_all(route, {text: rules}, role=role, artifact=artifact, within_s=within_s, key=key)


def ask_all(route, questions, *, role="user", artifact="a1", within_s=60.0, key=None) -> asyncio.Task:
    deadline = time.monotonic() + within_s
    return asyncio.create_task(route.judge(questions, role, artifact=artifact, deadline=deadline, key=key))


async def outcome_of(question) -> str:
    with pytest.raises(TeacherUnavailable) as caught:
        await question
    return caught.value.outcome


async def test_what_was_answered_is_not_asked_again():
    teacher, counting = FakeTeacher(otherwise=0.7), Counting()
    route = make(teacher, observer=counting)
    assert [await ask(route) for _ in range(3)] == [Judgement({"hate": 0.7}, "logprobs")] * 3
    assert (teacher.calls, counting.sources) == (1, ["teacher", "cache", "cache"])


@pytest.mark.parametrize(
    "other",
    [
        {"text": "a text "},
        {"role": "assistant"},
        {"rules": {"hate": replace(RULES["hate"], user="Another wording.")}},
        {"rules": {"violence": RULES["hate"]}},
        {"rules": HATE | {"violence": RULES["violence"]}},
        {"artifact": "a2"},
    ],
)
async def test_whatever_an_answer_depends_on_makes_another_question(other):
    teacher = FakeTeacher()
    route = make(teacher)
    await ask(route)
    await ask(route, **other)
    assert teacher.calls == 2


async def test_a_threshold_makes_no_other_question():
    teacher = FakeTeacher()
    route = make(teacher)
    await ask(route)
    await ask(route, rules={"hate": replace(RULES["hate"], block_at=0.99)})
    assert teacher.calls == 1


async def test_another_teacher_is_asked_anew():
    first, second = make(FakeTeacher()), make(FakeTeacher())
    digests = {route._digest("a text", "user", HATE, "a1") for route in (first, second)}
    assert len(digests) == 2, "each process has a secret of its own"
    teacher = FakeTeacher()
    route = make(teacher)
    await ask(route)
    route._teacher.identity = "fake, retrained"
    await ask(route)
    assert teacher.calls == 2


def strings_within(root) -> set[str]:
    """Whatever string can be reached from it, but for code, classes and modules."""
    seen, found, todo = set(), set(), [root]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType | BuiltinFunctionType):
            continue
        seen.add(id(thing))
        if isinstance(thing, str):
            found.add(thing)
        todo += gc.get_referents(thing)
    return found


@pytest.mark.parametrize("manner", ["answers", "fails", "refuses"])
async def test_no_text_is_kept(manner):
    teacher = Scripted()
    route = make(teacher)
    text = "".join(["a SEC", "RET text"])
    question = ask(route, text)
    asked = await teacher.questions.get()
    assert text in strings_within(route), "while it is under way"
    if manner == "answers":
        asked.answer(0.7)
        await question
        assert len(route._cache) == 1
    else:
        asked.fail("error", is_teachers_fault=manner == "fails")
        assert await outcome_of(question) == "error"
    del question, asked
    assert not [kept for kept in strings_within(route) if "SECRET" in kept]


async def test_the_cache_is_bounded_and_forgets():
    teacher = FakeTeacher()
    route = make(teacher, items=2)
    for text in ("one", "two", "three", "three", "one"):
        await ask(route, text)
    assert teacher.calls == 4
    teacher = FakeTeacher()
    route = make(teacher, ttl_s=1e-9)
    for _ in range(2):
        await ask(route)
    assert teacher.calls == 2
    teacher = FakeTeacher()
    route = make(teacher, items=0)
    for _ in range(2):
        await ask(route)
    assert teacher.calls == 2


async def test_a_failure_is_not_kept():
    teacher = FakeTeacher(fails_with="error")
    route = make(teacher)
    assert await outcome_of(ask(route)) == "error"
    teacher.fails_with = None
    assert (await ask(route)).scores == {"hate": 0.01}


async def test_the_same_question_in_flight_is_waited_for():
    teacher, counting = Scripted(), Counting()
    route = make(teacher, observer=counting)
    questions = [ask(route) for _ in range(5)]
    (await teacher.questions.get()).answer(0.4)
    assert [(await question).scores for question in questions] == [{"hate": 0.4}] * 5
    assert (teacher.asked, sorted(counting.sources)) == (1, [*["shared"] * 4, "teacher"])


async def test_all_who_wait_are_told_of_the_failure():
    teacher = Scripted()
    route = make(teacher)
    questions = [ask(route) for _ in range(3)]
    (await teacher.questions.get()).fail("unreachable")
    assert [await outcome_of(question) for question in questions] == ["unreachable"] * 3


async def test_a_cancelled_first_asker_does_not_take_the_others_answer_along():
    teacher = Scripted()
    route = make(teacher)
    first, second = ask(route), ask(route)
    question = await teacher.questions.get()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    question.answer(0.6)
    assert (await second).scores == {"hate": 0.6}
    assert (teacher.asked, teacher.cancelled) == (1, 0)


async def test_a_question_that_has_left_is_answered_and_kept_though_all_who_waited_are_gone():
    teacher, counting = Scripted(), Counting()
    route = make(teacher, observer=counting)
    gone = [ask(route), ask(route)]
    question = await teacher.questions.get()
    for asker in gone:
        asker.cancel()
    await asyncio.wait(gone)
    newcomer = ask(route)
    question.answer(0.6)
    assert (await newcomer).scores == {"hate": 0.6}
    assert (teacher.asked, teacher.cancelled, counting.sources.count("teacher")) == (1, 0, 1)


async def test_a_question_that_nobody_waits_for_any_more_never_leaves_and_is_paid_back():
    teacher, counting = Scripted(), Counting()
    route = make(teacher, total=BudgetLimits(max_per_s=0.3), max_in_flight=1, observer=counting)  # three at once
    first = ask(route, "one")
    held = await teacher.questions.get()
    gone = [ask(route, "two"), ask(route, "three")]
    await asyncio.sleep(0)
    assert len(route._flights) == 3, "the two wait for the one place"
    for asker in gone:
        asker.cancel()
    await asyncio.wait(gone)
    held.answer(0.5)
    await first
    for text in ("four", "five"):
        again = ask(route, text)
        async with asyncio.timeout(5):
            (await teacher.questions.get()).answer(0.5)
        await again
    once = len(GUIDELINE.prompt("one", "user", RULES["hate"])) // 4
    assert (teacher.asked, counting.sources, counting.tokens) == (3, ["teacher"] * 3, 3 * once)
    assert await outcome_of(ask(route, "six")) == "over_budget"


async def test_who_runs_out_of_time_leaves_the_answer_for_the_next():
    teacher = Scripted()
    route = make(teacher)
    hurried, patient = ask(route, within_s=0.01), ask(route)
    question = await teacher.questions.get()
    assert await outcome_of(hurried) == "deadline"
    question.answer(0.6)
    assert (await patient).scores == {"hate": 0.6}
    alone = ask(route, "another", within_s=0.01)
    question = await teacher.questions.get()
    assert await outcome_of(alone) == "deadline"
    question.answer(0.9)
    assert (await ask(route, "another")).scores == {"hate": 0.9}
    assert (teacher.asked, teacher.cancelled) == (2, 0)


async def test_a_question_is_under_way_no_longer_than_it_may_be():
    teacher = Scripted()
    route = make(teacher, flight_timeout_s=7.0)
    now = time.monotonic()
    question = ask(route, within_s=0.5)
    (await teacher.questions.get()).answer(0.1)
    await question
    assert teacher.deadlines[0] - now == pytest.approx(7.0, abs=1.0)


async def test_who_is_over_the_budget_pays_nothing_and_asks_nobody():
    teacher, counting = FakeTeacher(), Counting()
    route = make(teacher, total=BudgetLimits(max_per_s=1e-9), observer=counting)
    await ask(route, "one")
    assert await outcome_of(ask(route, "two")) == "over_budget"
    assert (teacher.calls, counting.sources) == (1, ["teacher"])


async def test_what_is_kept_or_in_flight_costs_nothing():
    teacher = Scripted()
    route = make(teacher, per_key=BudgetLimits(max_per_s=1e-9))
    payer = ask(route, key="a")
    question = await teacher.questions.get()
    guests = [ask(route, key="a"), ask(route, key="b")]
    question.answer(0.5)
    await asyncio.gather(payer, *guests)
    await ask(route, key="b")
    again = ask(route, "another", key="b")
    (await teacher.questions.get()).answer(0.5)
    await again
    assert await outcome_of(ask(route, "a third", key="a")) == "over_budget"


async def test_a_teacher_that_is_not_up_costs_no_budget():
    counting = Counting()
    route = make(NoTeacher(), total=BudgetLimits(max_per_s=1e-9), observer=counting)
    for _ in range(3):
        assert await outcome_of(ask(route)) == "disabled"
    assert (counting.sources, counting.tokens) == ([], 0)


async def test_tokens_are_estimated_from_the_prompts_in_the_form_that_the_teacher_is_asked_in():
    two = {category: RULES[category] for category in ("hate", "violence")}
    tokens = {}
    for form in (GUIDELINE, TITLE):
        counting, teacher = Counting(), FakeTeacher()
        teacher.form = form
        await ask(make(teacher, observer=counting), "x" * 400, rules=two)
        tokens[form.name] = counting.tokens
        assert counting.tokens == sum(len(form.prompt("x" * 400, "user", rule)) for rule in two.values()) // 4
    assert 200 < tokens["title"] < tokens["guideline"] - 100


async def test_closing_tells_those_who_wait():
    teacher = Scripted()
    route = make(teacher)
    question = ask(route)
    await teacher.questions.get()
    await route.close()
    assert await outcome_of(question) == "unreachable"
    assert teacher.cancelled == 1


async def test_a_second_try_is_paid_like_the_first_and_counted():
    one, two, counting = Scripted(), Scripted(), Counting()
    route = make(one, two, per_key=BudgetLimits(max_per_s=0.3), observer=counting)
    question = ask(route, key="a")
    (await one.questions.get()).fail("unreachable")
    (await two.questions.get()).answer(0.5)
    await question
    once = len(GUIDELINE.prompt("a text", "user", RULES["hate"])) // 4
    assert (counting.sources, counting.tokens) == (["teacher"], 2 * once)
    third = ask(route, "another", key="a")
    (await one.questions.get()).answer(0.5)
    await third
    assert await outcome_of(ask(route, "a third", key="a")) == "over_budget"


async def test_where_there_is_no_budget_for_another_try_the_first_one_is_all():
    one, two, counting = Scripted(), Scripted(), Counting()
    route = make(one, two, total=BudgetLimits(max_tokens_per_s=1e-9), observer=counting)
    question = ask(route)
    (await one.questions.get()).fail("unreachable")
    assert await outcome_of(question) == "unreachable"
    assert two.asked == 0
    assert counting.tokens == len(GUIDELINE.prompt("a text", "user", RULES["hate"])) // 4


VIOLENCE = {"violence": RULES["violence"]}


async def test_the_passages_of_a_text_are_judged_side_by_side_and_make_one_judgement():
    teacher, counting = Scripted(), Counting()
    route = make(teacher, observer=counting)
    earlier = ask(route, "one")
    (await teacher.questions.get()).answer(0.2)
    await earlier
    question = ask_all(route, {"one": HATE, "two": VIOLENCE, "three": {"sexual": RULES["sexual"]}})
    for score in (0.7, 0.9):
        (await teacher.questions.get()).answer(score)
    assert await question == Judgement({"hate": 0.2, "violence": 0.7, "sexual": 0.9}, "logprobs")
    assert sorted(counting.sources) == ["cache", "teacher", "teacher", "teacher"]


async def test_one_passage_without_an_answer_leaves_the_whole_text_without_one():
    teacher = Scripted()
    question = ask_all(make(teacher), {"one": HATE, "two": VIOLENCE})
    (await teacher.questions.get()).answer(0.7)
    (await teacher.questions.get()).fail("error")
    assert await outcome_of(question) == "error"


async def test_a_text_is_told_of_a_failed_passage_while_another_is_still_asked_about():
    teacher = Scripted()
    question = ask_all(make(teacher), {"one": HATE, "two": VIOLENCE})
    await teacher.questions.get()
    (await teacher.questions.get()).fail("error")
    async with asyncio.timeout(5):
        assert await outcome_of(question) == "error"


async def test_passages_that_cannot_all_be_paid_for_are_not_asked_about_at_all():
    teacher, counting = FakeTeacher(), Counting()
    route = make(teacher, total=BudgetLimits(max_per_s=0.3), observer=counting)  # three at once
    for text in ("one", "two"):
        await ask(route, text)
    tokens = counting.tokens
    assert await outcome_of(ask_all(route, {"three": HATE, "four": VIOLENCE})) == "over_budget"
    assert (teacher.calls, counting.tokens, counting.sources) == (2, tokens, ["teacher"] * 2)
    assert (await ask_all(route, {"one": HATE, "four": VIOLENCE})).scores == {"hate": 0.01, "violence": 0.01}
    assert sorted(counting.sources) == ["cache", "teacher", "teacher", "teacher"]
    assert await outcome_of(ask(route, "five")) == "over_budget"
