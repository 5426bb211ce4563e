"""What a client is told: verdicts, who decided them, and why."""

import asyncio
import json

import msgspec
import pytest

from server.core.taxonomy import CATEGORIES
from server.doors.native import CheckReply
from server.doors.openai import ModerationReply
from server.teacher.fake import FakeTeacher
from server.teacher.null import NoTeacher
from server.teacher.teacher import TeacherUnavailable


def as_documented(content: bytes, form: type) -> object:
    """A reply reduced to the fields that its documented form has; fails where one is missing or of another type."""
    return json.loads(msgspec.json.encode(msgspec.json.decode(content, type=form)))


async def test_a_harmless_text_is_allowed_with_everything_that_is_known(open_guard):
    guard = await open_guard()
    reply = await guard.client.post(
        "/v1/check", json={"texts": [{"text": "good day", "role": "assistant"}]}, headers={"x-request-id": "abc-1"}
    )
    assert reply.status_code == 200
    body = reply.json()
    assert as_documented(reply.content, CheckReply) == body
    assert body["id"] == reply.headers["x-request-id"] == "abc-1"
    assert body["artifact"] == {"version": "test-1", "hash": body["artifact"]["hash"], "precision": "fp32"}
    assert body["policy"] == {"id": "default", "version": "1"}
    (result,) = body["results"]
    assert (result["verdict"], result["decided_by"], result["categories"], result["escalation"]) == (
        "allow",
        "student",
        [],
        None,
    )
    assert tuple(result["scores"]) == CATEGORIES
    assert result["scores"] == pytest.approx(dict.fromkeys(CATEGORIES, 0.02))
    assert (result["windows"], result["scanned_chars"]) == (1, 8)
    assert body["timings"]["teacher_s"] == 0
    assert body["timings"]["total_s"] >= body["timings"]["infer_s"] > 0


async def test_texts_are_answered_in_order_and_under_the_named_policy(open_guard):
    guard = await open_guard()
    body = (await guard.check("hate", "fine", "sexual and hate", policy="other")).json()
    assert body["policy"] == {"id": "other", "version": "7"}
    assert [result["verdict"] for result in body["results"]] == ["block", "allow", "block"]
    assert [result["categories"] for result in body["results"]] == [["hate"], [], ["hate", "sexual"]]


async def test_a_long_text_whose_harm_is_at_its_end_is_blocked(open_guard):
    guard = await open_guard()
    text = "plain " * 1500 + "violence"
    result = await guard.result(text)
    assert (result["verdict"], result["categories"]) == ("block", ["violence"])
    assert result["scanned_chars"] == len(text) == 9008
    assert result["windows"] == 63  # 1501 words, 32 in a window, of which 8 are shared


async def test_a_spelt_out_word_counts_by_its_deobfuscated_view(open_guard):
    guard = await open_guard()
    result = await guard.result("so much h a t e here")
    assert (result["verdict"], result["categories"], result["windows"]) == ("block", ["hate"], 2)


@pytest.mark.parametrize(
    ("teacher_score", "verdict", "categories"), [(0.9, "block", ["violence"]), (0.5, "block", ["violence"]), (0.1, "allow", [])]
)
async def test_the_teacher_decides_where_the_student_is_unsure(open_guard, teacher_score, verdict, categories):
    guard = await open_guard(teacher=FakeTeacher({"knife": teacher_score}))
    result = await guard.result("a knife violence=0.45")
    assert (result["verdict"], result["decided_by"], result["categories"]) == (verdict, "teacher", categories)
    assert result["scores"]["violence"] == teacher_score
    assert result["scores"]["hate"] == pytest.approx(0.02)
    escalation = result["escalation"]
    assert (escalation["outcome"], escalation["scores"]) == ("answered", {"violence": teacher_score})
    assert escalation["student_scores"] == pytest.approx({"violence": 0.45})
    assert guard.teacher.asked == [("violence",)]


async def test_the_teacher_is_not_asked_when_another_category_is_surely_violated(open_guard):
    guard = await open_guard()
    result = await guard.result("hate violence=0.45")
    assert (result["verdict"], result["decided_by"], result["escalation"]) == ("block", "student", None)
    assert guard.teacher.calls == 0


async def test_each_unsure_category_is_asked_about_in_the_window_that_raised_it(open_guard):
    guard = await open_guard(teacher=FakeTeacher({"first": 0.8, "second": 0.2}))
    result = await guard.result("first violence=0.4 sexual=0.4 " + "plain " * 60 + "second hate=0.5")
    assert sorted(guard.teacher.asked) == [("hate",), ("sexual", "violence")]
    assert result["escalation"]["scores"] == {"hate": 0.2, "sexual": 0.8, "violence": 0.8}
    assert (result["verdict"], result["categories"]) == ("block", ["sexual", "violence"])


class MeetingTeacher(FakeTeacher):
    """Answers only once two questions are asked at the same time."""

    def __init__(self, scores) -> None:
        super().__init__(scores)
        self._meeting = asyncio.Barrier(2)

    async def judge(self, text, role, rules, *, deadline):
        async with asyncio.timeout(60):
            await self._meeting.wait()
        if "absent" in text:
            raise TeacherUnavailable("error", "told to fail")
        return await super().judge(text, role, rules, deadline=deadline)


async def test_escalations_of_one_request_run_side_by_side_and_are_settled_apart(open_guard):
    guard = await open_guard(teacher=MeetingTeacher({"bad": 0.9}))
    results = (await guard.check("bad violence=0.4", "fine", "absent hate=0.4")).json()["results"]
    assert [(result["verdict"], result["decided_by"]) for result in results] == [
        ("block", "teacher"),
        ("allow", "student"),
        ("allow", "student_degraded"),
    ]


@pytest.mark.parametrize("outcome", ["deadline", "unreachable", "error", "disabled"])
async def test_a_teacher_that_fails_leaves_the_student_and_says_so(open_guard, outcome):
    guard = await open_guard(teacher=FakeTeacher(fails_with=outcome))
    results = (await guard.check("violence=0.6", "violence=0.4")).json()["results"]
    assert [result["verdict"] for result in results] == ["block", "allow"]
    for result in results:
        assert result["decided_by"] == "student_degraded"
        assert (result["escalation"]["outcome"], result["escalation"]["scores"]) == (outcome, {})
    assert results[0]["escalation"]["student_scores"] == pytest.approx({"violence": 0.6})


@pytest.mark.parametrize("choice", ["allow", "block", "review"])
async def test_a_policy_may_raise_the_verdict_when_no_teacher_is_had_and_never_lowers_it(open_guard, choice):
    guard = await open_guard(teacher=NoTeacher(), on_no_teacher=choice)
    for text, verdict in (("violence=0.6", "block"), ("violence=0.4", choice)):
        result = await guard.result(text)
        assert (result["verdict"], result["decided_by"]) == (verdict, "student_degraded")
        assert result["escalation"]["outcome"] == "disabled"
    assert (await guard.result("hate"))["verdict"] == "block"
    assert (await guard.result("plain"))["verdict"] == "allow"


async def test_a_teacher_that_hangs_is_given_up_at_its_own_deadline(open_guard):
    guard = await open_guard(teacher=FakeTeacher(release=asyncio.Event()), settings={"teacher_timeout_s": 0.05})
    result = await guard.result("violence=0.6")
    assert (result["decided_by"], result["escalation"]["outcome"]) == ("student_degraded", "deadline")
    assert result["escalation"]["latency_s"] >= 0.04


async def test_the_openai_door_maps_eight_categories_onto_thirteen(open_guard):
    guard = await open_guard()
    reply = await guard.client.post("/v1/moderations", json={"input": "harassment=0.8 violence=0.9 hate=0.2", "model": "any"})
    body = reply.json()
    assert as_documented(reply.content, ModerationReply) == body
    assert body["model"] == "stillguard-test-1"
    assert body["id"] == "modr-" + reply.headers["x-request-id"]
    (result,) = body["results"]
    assert result["flagged"] is True
    assert {name for name, violated in result["categories"].items() if violated} == {
        *("harassment", "harassment/threatening", "violence"),
    }
    assert result["category_scores"] == pytest.approx(
        {
            "harassment": 0.8,
            "harassment/threatening": 0.8,
            "hate": 0.2,
            "hate/threatening": 0.2,
            "illicit": 0.02,
            "illicit/violent": 0.02,
            "self-harm": 0.02,
            "self-harm/intent": 0,
            "self-harm/instructions": 0,
            "sexual": 0.02,
            "sexual/minors": 0,
            "violence": 0.9,
            "violence/graphic": 0,
        },
        abs=1e-4,
    )
    silent = {name for name, types in result["category_applied_input_types"].items() if types == []}
    assert silent == {"self-harm/intent", "self-harm/instructions", "sexual/minors", "violence/graphic"}
    assert result["stillguard"]["categories"] == ["harassment", "violence"]


@pytest.mark.parametrize("category", ["toxicity", "jailbreak"])
async def test_a_category_that_openai_lacks_flags_all_the_same(open_guard, category):
    guard = await open_guard()
    body = (await guard.client.post("/v1/moderations", json={"input": category})).json()
    (result,) = body["results"]
    assert result["flagged"] is True
    assert not any(result["categories"].values())
    assert result["stillguard"]["categories"] == [category]


async def test_a_review_is_flagged_to_a_client_that_knows_no_review(open_guard):
    guard = await open_guard(teacher=NoTeacher(), on_no_teacher="review")
    (result,) = (await guard.client.post("/v1/moderations", json={"input": "violence=0.4"})).json()["results"]
    assert (result["flagged"], result["stillguard"]["verdict"]) == (True, "review")


async def test_openai_inputs_strings_lists_and_parts(open_guard):
    guard = await open_guard()

    async def flags(given) -> list[bool]:
        reply = await guard.client.post("/v1/moderations", json={"input": given}, headers={"X-Stillguard-Policy": "other"})
        return [result["flagged"] for result in reply.json()["results"]]

    assert await flags("hate") == [True]
    assert await flags(["fine", "hate"]) == [False, True]
    assert await flags([{"type": "text", "text": "fine"}, {"type": "text", "text": "hate"}]) == [True]


async def test_an_unknown_policy_is_told_by_the_header_that_named_it(open_guard):
    guard = await open_guard()
    reply = await guard.client.post("/v1/moderations", json={"input": "a"}, headers={"X-Stillguard-Policy": "nope"})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "unknown_policy", "X-Stillguard-Policy")


async def test_a_sick_request_id_is_replaced(open_guard):
    guard = await open_guard()
    for sick in ("", "a b", "x" * 129, "<script>"):
        reply = await guard.client.get("/livez", headers={"x-request-id": sick})
        assert len(reply.headers["x-request-id"]) == 32
