"""Who is asked about what, what the answer may change, and what happens when nobody waits for it."""

import asyncio
import time
from dataclasses import replace

import pytest

from server.cascade import MAX_SHADOWS, Asker, Opinion, disagreements
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX
from server.core.types import Escalation
from server.deferred import DeferredResults
from server.teacher.budget import BudgetLimits
from server.teacher.fake import FakeTeacher
from tests.cascades import CascadeCounting, cascade_to
from tests.steady import steady_policy
from tests.unit.teacher.scripted import Scripted

POLICY = steady_policy()
NO_HARM = dict.fromkeys(CATEGORIES, 0.01)
NAYSAYER = {"otherwise": 0.0}


def opinion(*, is_disguised=False, passages=None, **scores) -> Opinion:
    passages = passages or {}
    return Opinion("user", NO_HARM | scores, 1, 10, is_disguised, lambda category: passages.get(category, "a passage"))


def asker(**policy) -> Asker:
    return Asker(policy=replace(POLICY, **policy), artifact="a1", key=None)


async def settle(cascade, *opinions, by=None, within_s=60.0):
    return (await cascade.settle(opinions, by or asker(), deadline=time.monotonic() + within_s)).results


async def settle_one(cascade, text, **policy):
    (result,) = await settle(cascade, text, by=asker(**policy))
    return result


async def test_a_sure_text_is_not_escalated():
    teacher = FakeTeacher()
    results = await settle(cascade_to(teacher), opinion(), opinion(hate=0.9), opinion(hate=0.29))
    assert [(r.verdict, r.decided_by, r.escalation) for r in results] == [
        ("allow", "student", None),
        ("block", "student", None),
        ("allow", "student", None),
    ]
    assert teacher.calls == 0


@pytest.mark.parametrize("score", [0.5, 0.6, 0.7])
async def test_in_an_honest_text_the_teacher_may_clear_what_the_student_would_block(score):
    result = await settle_one(cascade_to(FakeTeacher(**NAYSAYER)), opinion(hate=score))
    assert (result.verdict, result.decided_by, result.escalation.basis) == ("allow", "teacher", "logprobs")


@pytest.mark.parametrize(
    "text",
    [
        {"hate": 0.6, "jailbreak": 0.3},  # the lower end of jailbreak's unsure band
        {"hate": 0.6, "jailbreak": 0.65},
        {"jailbreak": 0.6},
        {"hate": 0.6, "is_disguised": True},
    ],
)
async def test_a_text_that_may_be_speaking_to_the_teacher_is_not_talked_below_the_students_block(text):
    teacher, counting = FakeTeacher(**NAYSAYER), CascadeCounting()
    result = await settle_one(cascade_to(teacher, counting=counting), opinion(**text))
    assert (result.verdict, result.decided_by, result.escalation) == ("block", "student", None)
    assert (teacher.calls, counting.withheld) == (0, 1)


async def test_asked_about_all_one_text_is_one_round_and_any_category_may_be_raised():
    teacher = FakeTeacher(otherwise=0.9)
    result = await settle_one(cascade_to(teacher), opinion(hate=0.4), ask_about="all", teacher_weight=0.6)
    assert teacher.asked == [CATEGORIES]
    assert set(result.escalation.scores) == set(result.escalation.student_scores) == set(CATEGORIES)
    assert result.categories == ("hate",), "0.01 and 0.9 make 0.36 together"
    assert result.scores["sexual"] == pytest.approx(0.37, abs=0.01)


async def test_asked_about_all_the_further_categories_are_asked_about_in_the_unsure_ones_passage():
    teacher = FakeTeacher()
    passages = {"violence": "another passage", "hate": "what is unsure", "sexual": "a third"}
    await settle_one(cascade_to(teacher), opinion(hate=0.4, violence=0.4, passages=passages), ask_about="all")
    assert teacher.asked == [tuple(c for c in CATEGORIES if c != "violence"), ("violence",)]


async def test_a_score_above_the_band_is_not_talked_down_whatever_the_text_says():
    teacher = FakeTeacher(**NAYSAYER)
    result = await settle_one(cascade_to(teacher), opinion(hate=0.71))
    assert (result.verdict, teacher.calls) == ("block", 0)


async def test_under_a_policy_that_lets_the_teacher_clear_nothing_no_block_is_lifted():
    teacher, counting = FakeTeacher(**NAYSAYER), CascadeCounting()
    result = await settle_one(cascade_to(teacher, counting=counting), opinion(hate=0.6), teacher_may_clear=False)
    assert (result.verdict, teacher.calls, counting.withheld) == ("block", 0, 1)


@pytest.mark.parametrize(
    ("text", "policy"),
    [({"jailbreak": 0.4}, {}), ({"is_disguised": True}, {}), ({}, {"teacher_may_clear": False})],
)
@pytest.mark.parametrize(("says", "verdict"), [(0.9, "block"), (0.0, "allow")])
async def test_such_a_text_may_still_be_raised(text, policy, says, verdict):
    result = await settle_one(cascade_to(FakeTeacher(otherwise=says)), opinion(hate=0.4, **text), **policy)
    assert (result.verdict, result.decided_by) == (verdict, "teacher")


@pytest.mark.parametrize(
    ("band", "block_at", "score", "suspects"),
    [
        ((0.3, 0.7), 0.5, 0.3, True),
        ((0.3, 0.7), 0.5, 0.29, False),
        ((0.8, 0.9), 0.5, 0.5, True),
        ((0.2, 0.3), 0.5, 0.4, True),
        ((0.5, 0.5), 0.9, 0.6, False),
        ((0.5, 0.5), 0.9, 0.9, True),
    ],
)
def test_injection_is_suspected_from_the_lower_of_block_at_and_the_bands_end(band, block_at, score, suspects):
    rules = list(POLICY.rules)
    rules[CATEGORY_INDEX["jailbreak"]] = replace(rules[CATEGORY_INDEX["jailbreak"]], block_at=block_at, unsure=band)
    assert replace(POLICY, rules=tuple(rules)).suspects_injection(NO_HARM | {"jailbreak": score}) is suspects


async def test_one_question_per_passage_and_half_a_judgement_is_none():
    teacher = Scripted()
    cascade = cascade_to(teacher)
    text = opinion(hate=0.4, sexual=0.4, violence=0.4, passages={"violence": "another passage"})
    settled = asyncio.create_task(settle(cascade, text))
    first, second = await teacher.questions.get(), await teacher.questions.get()
    first.answer(0.9)
    second.fail("error")
    (result,) = await settled
    assert (result.verdict, result.decided_by) == ("allow", "student_degraded")
    assert (result.escalation.outcome, result.escalation.scores) == ("error", {})
    assert result.escalation.student_scores == {"hate": 0.4, "sexual": 0.4, "violence": 0.4}


async def test_one_bare_answer_makes_the_whole_basis_bare():
    class Mixed(FakeTeacher):
        async def judge(self, text, role, rules, *, deadline):
            judgement = await super().judge(text, role, rules, deadline=deadline)
            return replace(judgement, basis="answer") if text == "another passage" else judgement

    text = opinion(hate=0.4, violence=0.4, passages={"violence": "another passage"})
    result = await settle_one(cascade_to(Mixed()), text)
    assert result.escalation.basis == "answer"
    assert list(result.escalation.scores) == ["hate", "violence"]


async def test_over_the_budget_the_policy_chooses_and_it_is_said():
    cascade = cascade_to(FakeTeacher(), total=BudgetLimits(max_per_s=1e-9))
    texts = [opinion(hate=0.4, passages={"hate": str(i)}) for i in range(3)]
    results = await settle(cascade, *texts, by=asker(on_no_teacher="review"))
    assert sorted(r.escalation.outcome for r in results) == ["answered", "over_budget", "over_budget"]
    assert sorted(r.verdict for r in results) == ["allow", "review", "review"]


async def test_every_checked_text_earns_its_share_asked_about_or_not():
    cascade = cascade_to(FakeTeacher(), total=BudgetLimits(max_share=0.002))

    async def outcome(name) -> str:
        (result,) = await settle(cascade, opinion(hate=0.6, passages={"hate": name}))
        return result.escalation.outcome

    assert [await outcome("one"), await outcome("two")] == ["answered", "over_budget"]
    await settle(cascade, *[opinion()] * 499)
    assert await outcome("three") == "answered"


async def test_a_keys_budget_is_its_own():
    cascade = cascade_to(FakeTeacher(), per_key=BudgetLimits(max_per_s=1e-9))
    outcomes = []
    for number, key in enumerate(["a", "a", "b", None]):
        by = replace(asker(), key=key)
        (result,) = await settle(cascade, opinion(hate=0.6, passages={"hate": str(number)}), by=by)
        outcomes.append(result.escalation.outcome)
    assert outcomes == ["answered", "over_budget", "answered", "answered"]


async def test_an_escalation_ends_with_the_request_or_with_its_own_time():
    cascade = cascade_to(FakeTeacher(release=asyncio.Event()), timeout_s=0.02)
    (result,) = await settle(cascade, opinion(hate=0.6))
    assert (result.verdict, result.escalation.outcome) == ("block", "deadline")
    cascade = cascade_to(FakeTeacher(release=asyncio.Event()))
    (result,) = await settle(cascade, opinion(hate=0.6), within_s=0.02)
    assert result.escalation.outcome == "deadline"
    await cascade.close()


async def test_async_answers_at_once_and_keeps_the_teachers_result():
    teacher, counting = Scripted(), CascadeCounting()
    cascade = cascade_to(teacher, counting=counting)
    result = await settle_one(cascade, opinion(hate=0.6), mode="async", on_no_teacher="review")
    escalation = result.escalation
    assert (result.verdict, result.decided_by, escalation.outcome) == ("block", "student", "pending")
    assert cascade.find(escalation.id).result is None
    (await teacher.questions.get()).answer(0.1)
    await asyncio.gather(*cascade._background)
    later = cascade.find(escalation.id).result
    assert (later.verdict, later.decided_by, later.escalation.outcome) == ("allow", "teacher", "answered")
    assert counting.ended == ["answered"]


async def test_async_keeps_a_degraded_result_too():
    counting = CascadeCounting()
    cascade = cascade_to(FakeTeacher(fails_with="error"), counting=counting)
    result = await settle_one(cascade, opinion(hate=0.4), mode="async", on_no_teacher="review")
    await asyncio.gather(*cascade._background)
    later = cascade.find(result.escalation.id).result
    assert (later.verdict, later.decided_by, later.escalation.outcome) == ("review", "student_degraded", "error")
    assert counting.ended == ["error"]


async def test_async_with_no_room_to_keep_a_result_is_over_budget():
    cascade = cascade_to(FakeTeacher(), deferred=DeferredResults(max_items=1, ttl_s=3600))
    results = await settle(cascade, opinion(hate=0.4), opinion(hate=0.41), by=asker(mode="async", on_no_teacher="review"))
    assert [(r.verdict, r.escalation.outcome) for r in results] == [("allow", "pending"), ("review", "over_budget")]
    await cascade.close()


async def test_shadow_asks_about_every_category_and_changes_no_answer():
    teacher, counting = FakeTeacher({"a passage": 0.9}), CascadeCounting()
    cascade = cascade_to(teacher, counting=counting)
    results = await settle(cascade, opinion(hate=0.6), opinion(), by=asker(mode="shadow", shadow_share=1.0))
    assert [(r.verdict, r.decided_by, r.escalation) for r in results] == [
        ("block", "student", None),
        ("allow", "student", None),
    ]
    await asyncio.gather(*cascade._background)
    assert teacher.asked == [CATEGORIES]  # the second text's question is the first's
    only_teacher = dict.fromkeys(CATEGORIES, "only_teacher_blocks")
    assert counting.shadows == [
        ("answered", {c: d for c, d in only_teacher.items() if c != "hate"}),
        ("answered", only_teacher),
    ]


async def test_shadow_takes_its_share_of_the_texts():
    draws = iter([0.0, 0.099, 0.1, 0.5, 0.999])
    counting = CascadeCounting()
    cascade = cascade_to(FakeTeacher(), counting=counting, draw=lambda: next(draws))
    await settle(cascade, *[opinion()] * 5, by=asker(mode="shadow", shadow_share=0.1))
    await asyncio.gather(*cascade._background)
    assert counting.shadows == [("answered", {})] * 2


async def test_shadows_that_the_teacher_cannot_keep_up_with_are_skipped():
    teacher, counting = FakeTeacher(release=asyncio.Event()), CascadeCounting()
    cascade = cascade_to(teacher, counting=counting)
    await settle(cascade, *[opinion()] * (MAX_SHADOWS + 3), by=asker(mode="shadow", shadow_share=1.0))
    assert counting.shadows == [("over_budget", {})] * 3
    teacher.release.set()
    await asyncio.gather(*cascade._background)
    assert len(counting.shadows) == MAX_SHADOWS + 3
    await settle(cascade, opinion(), by=asker(mode="shadow", shadow_share=1.0))
    await asyncio.gather(*cascade._background)
    assert counting.shadows[-1] == ("answered", {})


async def test_a_shadow_without_the_teachers_answer_disagrees_about_nothing():
    counting = CascadeCounting()
    cascade = cascade_to(FakeTeacher(fails_with="error"), counting=counting)
    await settle(cascade, opinion(hate=0.6), by=asker(mode="shadow", shadow_share=1.0))
    await asyncio.gather(*cascade._background)
    assert counting.shadows == [("error", {})]


async def test_what_is_to_come_is_told_by_the_texts_place():
    by = asker(mode="async")
    texts = [opinion(), opinion(hate=0.6, passages={"hate": "first"}), opinion(hate=0.6, passages={"hate": "second"})]
    cascade = cascade_to(FakeTeacher({"first": 0.9}), deferred=DeferredResults(max_items=1, ttl_s=3600))
    settled = await cascade.settle(texts, by, deadline=time.monotonic() + 60)
    assert list(settled.later) == [1], "the first is sure, the third found no room"
    later = await settled.later[1]
    assert later == cascade.find(settled.results[1].escalation.id).result
    assert (later.verdict, later.decided_by) == ("block", "teacher")


async def test_a_shadows_opinion_is_told_beside_the_verdict_that_was_given():
    cascade = cascade_to(FakeTeacher(otherwise=0.9), draw=iter([0.5, 0.0]).__next__)
    settled = await cascade.settle(
        [opinion(), opinion()], asker(mode="shadow", shadow_share=0.1), deadline=time.monotonic() + 60
    )
    assert list(settled.later) == [1]
    later = await settled.later[1]
    assert (later.verdict, later.decided_by, later.categories) == ("allow", "student", ())
    assert (later.escalation.outcome, later.escalation.scores) == ("answered", dict.fromkeys(CATEGORIES, 0.9))
    assert replace(later, escalation=None) == settled.results[1]


async def test_inline_there_is_nothing_to_come():
    settled = await cascade_to(FakeTeacher()).settle([opinion(hate=0.6)], asker(), deadline=time.monotonic() + 60)
    assert settled.later == {}


def test_disagreement_has_a_direction():
    escalation = Escalation(
        "answered", 0.1, {"hate": 0.4, "sexual": 0.5, "violence": 0.9}, {"hate": 0.5, "sexual": 0.4, "violence": 0.6}
    )
    assert disagreements(POLICY, escalation) == {"hate": "only_student_blocks", "sexual": "only_teacher_blocks"}


async def test_closing_ends_what_runs_in_the_background():
    teacher = Scripted()
    cascade = cascade_to(teacher)
    await settle_one(cascade, opinion(hate=0.6), mode="async")
    await teacher.questions.get()
    await cascade.close()
    assert teacher.cancelled == 1
    assert not cascade._background
