"""A whole server with a teacher that speaks vLLM's JSON over a real socket, well and badly."""

import asyncio

import pytest

from server.core.calibration import IDENTITY
from server.teacher.client import HttpTeacher
from tests.fake_vllm import fake_vllm


def client(fake, **options) -> HttpTeacher:
    return HttpTeacher(fake.url, model="google/shieldgemma-2b", calibration=IDENTITY, api_key="s3cret", **options)


async def test_the_teacher_is_asked_about_all_unsure_categories_in_one_round_trip(open_guard):
    async with fake_vllm() as vllm:
        guard = await open_guard(teacher=client(vllm))
        result = await guard.result("a knife violence=0.45 hate=0.4")
        assert (result["verdict"], result["decided_by"], result["categories"]) == ("block", "teacher", ["hate", "violence"])
        escalation = result["escalation"]
        assert (escalation["outcome"], escalation["basis"], escalation["id"]) == ("answered", "logprobs", None)
        assert escalation["scores"] == pytest.approx({"hate": 0.952, "violence": 0.952}, abs=1e-3)
        assert (await guard.result("a fork violence=0.6"))["verdict"] == "allow"
    first, second = vllm.requests
    assert len(first["prompt"]) == 2
    assert len(second["prompt"]) == 1
    assert (first["model"], first["max_tokens"], first["logprobs"]) == ("google/shieldgemma-2b", 1, 20)
    assert "Authorization: Bearer s3cret\r\n" in vllm.heads[0]


async def test_an_answer_without_degree_is_told_as_such(open_guard):
    async with fake_vllm(manner="bare") as vllm:
        guard = await open_guard(teacher=client(vllm))
        result = await guard.result("a knife violence=0.45")
        assert (result["verdict"], result["escalation"]["basis"]) == ("block", "answer")
        assert result["scores"]["violence"] == pytest.approx(0.982, abs=1e-3)


@pytest.mark.parametrize(
    ("manner", "outcome"),
    [
        ("silent", "deadline"),
        ("drip", "deadline"),
        ("http_500", "error"),
        ("refuses", "error"),
        ("reset", "unreachable"),
        ("malformed", "error"),
        ("not_a_number", "error"),
        ("wrong_count", "error"),
        ("huge", "error"),
        ("foreign", "error"),
    ],
)
async def test_whatever_the_teacher_does_the_student_answers_and_says_why(open_guard, manner, outcome):
    async with fake_vllm(manner=manner) as vllm:
        patience_s = 0.1 if outcome == "deadline" else 60
        guard = await open_guard(teacher=client(vllm), settings={"teacher_timeout_s": patience_s})
        results = (await guard.check("a fork violence=0.6", "a knife violence=0.4")).json()["results"]
        assert [(r["verdict"], r["decided_by"]) for r in results] == [
            ("block", "student_degraded"),
            ("allow", "student_degraded"),
        ]
        assert [r["escalation"]["outcome"] for r in results] == [outcome, outcome]
        assert await guard.metric("stillguard_escalations_total", outcome=outcome) == 2


@pytest.mark.parametrize("is_tagged", [True, False])
async def test_an_answer_that_comes_twice_is_not_taken_for_the_next_ones(open_guard, is_tagged):
    async with fake_vllm(manner="twice", is_tagged=is_tagged) as vllm:
        guard = await open_guard(teacher=client(vllm))
        outcomes = []
        for round_ in range(4):
            for word, verdict in (("fork", "allow"), ("knife", "block")):
                result = await guard.result(f"{word} {round_} violence=0.45")
                outcomes.append(result["escalation"]["outcome"])
                assert outcomes[-1] == "error" or result["verdict"] == verdict
    # An untagged server gets a connection for each question. Of a tagged one the shifted answers are known, and it recovers.
    assert outcomes == ["answered"] * 8 if not is_tagged else outcomes.count("answered") >= 4


async def test_a_tagged_server_is_asked_on_one_connection_and_another_on_a_new_one_each_time(open_guard):
    for is_tagged, expected in ((True, ["close", "keep-alive", "keep-alive"]), (False, ["close"] * 3)):
        async with fake_vllm(is_tagged=is_tagged) as vllm:
            guard = await open_guard(teacher=client(vllm))
            for word in "abc":
                assert (await guard.result(f"{word} violence=0.45"))["decided_by"] == "teacher"
        heads = [dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line) for head in vllm.heads]
        assert [head["connection"] for head in heads] == expected


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_ones(open_guard):
    async with fake_vllm() as vllm:
        vllm.release.clear()
        guard = await open_guard(teacher=client(vllm, max_connections=1), settings={"teacher_timeout_s": 0.1})
        late = await guard.result("a knife violence=0.45")
        assert late["escalation"]["outcome"] == "deadline"
        vllm.release.set()
        for _ in range(3):
            result = await guard.result("a fork violence=0.45")
            if result["escalation"]["outcome"] == "answered":
                break
        assert (result["verdict"], result["escalation"]["scores"]) == ("allow", {"violence": pytest.approx(0.048, abs=1e-3)})


async def test_a_teacher_that_keeps_failing_is_left_alone_and_the_openai_route_says_so_too(open_guard):
    async with fake_vllm(manner="http_500") as vllm:
        guard = await open_guard(teacher=client(vllm), settings={"teacher_breaker_failures": 3, "teacher_breaker_open_s": 3600})
        for _ in range(3):
            assert (await guard.result("a fork violence=0.6"))["escalation"]["outcome"] == "error"
        vllm.manner = "well"
        body = (await guard.client.post("/v1/moderations", json={"input": "a fork violence=0.6"})).json()
        beside = body["results"][0]["stillguard"]
        assert (beside["decided_by"], beside["escalation"]["outcome"]) == ("student_degraded", "breaker_open")
        assert len(vllm.requests) == 3
        assert await guard.metric("stillguard_teacher_endpoints", breaker="open") == 1
        assert await guard.metric("stillguard_teacher_breaker_openings_total") == 1
        assert await guard.metric("stillguard_teacher_ready") == 0


async def test_a_teacher_that_recovers_is_found_out_by_a_probe(open_guard):
    async with fake_vllm(manner="http_500") as vllm:
        settings = {"teacher_breaker_window": 1, "teacher_breaker_failures": 1, "teacher_breaker_open_s": 1e-6}
        guard = await open_guard(teacher=client(vllm), settings=settings)
        await guard.result("a knife violence=0.4")
        vllm.manner = "well"
        assert (await guard.result("a knife violence=0.4"))["decided_by"] == "teacher"
        assert await guard.metric("stillguard_teacher_endpoints", breaker="closed") == 1


async def test_one_of_two_endpoints_may_be_dead(open_guard):
    async with fake_vllm(manner="reset") as dead, fake_vllm() as alive:
        guard = await open_guard(teacher=client(dead), more_teachers=[client(alive)])
        for number in range(4):
            result = await guard.result(f"a knife {number} violence=0.4")
            assert (result["decided_by"], result["verdict"]) == ("teacher", "block")
    assert dead.requests
    assert len(alive.requests) == 4


async def test_a_silent_endpoint_is_hedged(open_guard):
    async with fake_vllm(manner="silent") as silent, fake_vllm() as alive:
        guard = await open_guard(
            teacher=client(silent), more_teachers=[client(alive)], settings={"teacher_hedge_after_s": 0.02}
        )
        assert (await guard.result("a knife violence=0.4"))["decided_by"] == "teacher"
        assert await guard.metric("stillguard_teacher_hedges_total") == 1


async def test_identical_texts_are_asked_about_once_while_one_asker_goes_away(open_guard):
    async with fake_vllm() as vllm:
        vllm.release.clear()
        guard = await open_guard(teacher=client(vllm))
        askers = [asyncio.create_task(guard.result("a knife violence=0.45")) for _ in range(4)]
        await vllm.asked.wait()
        askers[0].cancel()
        await asyncio.wait([askers[0]])
        vllm.release.set()
        results = await asyncio.gather(*askers[1:])
        assert {(r["verdict"], r["decided_by"]) for r in results} == {("block", "teacher")}
        await guard.result("a knife violence=0.45")
        assert len(vllm.requests) == 1
        assert await guard.metric("stillguard_teacher_questions_total", source="teacher") == 1
        assert await guard.metric("stillguard_teacher_questions_total", source="cache") >= 1
