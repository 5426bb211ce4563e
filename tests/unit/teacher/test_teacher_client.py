"""HttpTeacher over httpx's MockTransport: what it sends, and how everything that can go wrong comes out."""

import asyncio
import gzip
import json
import math
import time

import httpx
import pytest

from server.core.calibration import IDENTITY, Platt
from server.core.policy import load_policies
from server.core.prompt import GUIDELINE
from server.core.taxonomy import CATEGORIES
from server.teacher.client import HARD_ANSWER_TOKENS, MAX_REPLY_BYTES, HttpTeacher
from server.teacher.teacher import TeacherUnavailable

RULES = dict(zip(CATEGORIES, load_policies()["default"].rules, strict=True))
TWO = {category: RULES[category] for category in ("hate", "violence")}
KEY = "sk-very-secret"


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def teacher(handler, **settings) -> HttpTeacher:
    settings = {"model": "judge", "calibration": IDENTITY, "api_key": KEY} | settings
    return HttpTeacher("http://teacher:8000", transport=httpx.MockTransport(handler), **settings)


def answer(*tops: dict[str, float]) -> httpx.Response:
    choices = [{"index": i, "text": "Yes", "logprobs": {"top_logprobs": [top]}} for i, top in enumerate(tops)]
    return httpx.Response(200, json={"choices": choices})


async def failure(judge: HttpTeacher, text: str = "a TEXT", **settings) -> TeacherUnavailable:
    with pytest.raises(TeacherUnavailable) as caught:
        await judge.judge(text, "user", TWO, **({"deadline": soon()} | settings))
    assert KEY not in repr(caught.value)
    assert "TEXT" not in repr(caught.value)
    return caught.value


async def test_one_request_asks_every_category_and_scores_each_by_its_own_calibration():
    requests = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return answer({"Yes": -1.0, "No": -1.0}, {"Yes": -3.0, "No": -1.0})

    judge = teacher(handler, calibration=IDENTITY | {"violence": Platt(scale=0.5, shift=1.0)}, extra={"cache": True})
    judgement = await judge.judge("a text", "assistant", TWO, deadline=soon())
    await judge.close()

    assert judgement.scores == {"hate": pytest.approx(0.5), "violence": pytest.approx(0.5)}
    assert judgement.basis == "logprobs"
    (request,) = requests
    assert (request.method, str(request.url)) == ("POST", "http://teacher:8000/v1/completions")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert json.loads(request.content) == {
        "model": "judge",
        "prompt": [GUIDELINE.prompt("a text", "assistant", rule) for rule in TWO.values()],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 20,
        "cache": True,
    }


async def test_chat_asks_each_category_in_a_request_of_its_own_side_by_side():
    bodies = []
    meeting = asyncio.Barrier(2)

    async def handler(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        bodies.append(body)
        assert request.url.path == "/v1/chat/completions"
        async with asyncio.timeout(60):
            await meeting.wait()
        says = "Yes" if "No Hate Speech" in body["messages"][0]["content"] else "No"
        top = [{"token": says, "logprob": -0.25}, {"token": {"Yes": "No", "No": "Yes"}[says], "logprob": -2.25}]
        message = {"role": "assistant", "content": says}
        return httpx.Response(
            200, json={"choices": [{"index": 0, "message": message, "logprobs": {"content": [top[0] | {"top_logprobs": top}]}}]}
        )

    judge = teacher(handler, api="chat")
    judgement = await judge.judge("a text", "user", TWO, deadline=soon(60))
    await judge.close()
    odds = math.exp(2)
    assert judgement.scores == {"hate": pytest.approx(odds / (1 + odds)), "violence": pytest.approx(1 / (1 + odds))}
    assert sorted(body["messages"][0]["content"] for body in bodies) == sorted(
        GUIDELINE.prompt("a text", "user", rule) for rule in TWO.values()
    )
    asked = {name: value for name, value in bodies[0].items() if name != "messages"}
    assert asked == {"model": "judge", "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20}


@pytest.mark.parametrize(
    ("api", "asked_for"), [("completions", {"logprobs": 5}), ("chat", {"logprobs": True, "top_logprobs": 5})]
)
@pytest.mark.parametrize("top_logprobs", [5, 0])
async def test_as_many_candidates_are_asked_for_as_the_server_lists_and_for_none_the_field_is_left_out(
    api, asked_for, top_logprobs
):
    bodies = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        message = {"role": "assistant", "content": "Yes"}
        return httpx.Response(200, json={"choices": [{"index": 0, "text": "Yes", "message": message}]})

    judge = teacher(handler, api=api, top_logprobs=top_logprobs)
    assert (await judge.judge("a text", "user", {"hate": RULES["hate"]}, deadline=soon())).basis == "answer"
    await judge.close()
    sent = {name: value for name, value in bodies[0].items() if "logprobs" in name}
    assert sent == (asked_for if top_logprobs else {})
    assert bodies[0]["max_tokens"] == (1 if top_logprobs else HARD_ANSWER_TOKENS)


async def test_chat_fails_as_a_whole_when_one_category_does():
    def handler(request: httpx.Request) -> httpx.Response:
        is_hate = "No Hate Speech" in request.content.decode()
        return httpx.Response(500) if is_hate else httpx.Response(200, json={"choices": [{"index": 0, "text": "No"}]})

    error = await failure(teacher(handler, api="chat"))
    assert (error.outcome, error.is_teachers_fault) == ("error", True)


async def test_an_answer_without_logprobs_says_that_it_is_one():
    def handler(request: httpx.Request) -> httpx.Response:
        yes = {"index": 0, "text": "Yes"}
        no = {"index": 1, "text": "No", "logprobs": {"top_logprobs": [{"No": -0.1, "Yes": -3.0}]}}
        return httpx.Response(200, json={"choices": [yes, no]})

    judge = teacher(handler)
    judgement = await judge.judge("a text", "user", TWO, deadline=soon())
    await judge.close()
    assert judgement.basis == "answer"
    assert judgement.scores == {"hate": pytest.approx(0.982, abs=1e-3), "violence": pytest.approx(0.052, abs=1e-3)}


@pytest.mark.parametrize("base_url", ["http://teacher/v1", "http://teacher/v1/", "http://teacher", "http://teacher/"])
async def test_a_trailing_v1_is_accepted(base_url):
    paths = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(str(request.url))
        return answer({"Yes": -1.0, "No": -1.0})

    judge = HttpTeacher(base_url, model="judge", calibration=IDENTITY, transport=httpx.MockTransport(handler))
    await judge.judge("a text", "user", {"hate": RULES["hate"]}, deadline=soon())
    await judge.close()
    assert paths == ["http://teacher/v1/completions"]


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("http://teacher:8000/v1", "teacher:8000"),
        ("https://someone:secret@Judge.example/path", "judge.example"),
        ("http://[::1]:81", "[::1]:81"),
    ],
)
async def test_it_is_called_by_its_host_and_port_alone(base_url, name):
    judge = HttpTeacher(base_url, model="judge", calibration=IDENTITY, api_key=KEY)
    assert judge.name == name
    await judge.close()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (httpx.ConnectError("TEXT"), "unreachable"),
        (httpx.ReadError("TEXT"), "unreachable"),
        (httpx.RemoteProtocolError("TEXT"), "unreachable"),
        (httpx.ConnectTimeout("TEXT"), "deadline"),
        (httpx.ReadTimeout("TEXT"), "deadline"),
        (httpx.DecodingError("TEXT"), "error"),
        (RuntimeError("TEXT"), "error"),
    ],
)
async def test_each_failure_of_the_connection_has_its_outcome(error, outcome):
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    assert (await failure(teacher(handler))).outcome == outcome


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500, text="TEXT"),
        httpx.Response(503, json={"error": {"message": "Loading model"}}),
        httpx.Response(401, json={"error": {"message": "Invalid API Key"}}),
        httpx.Response(302, headers={"Location": "http://elsewhere/TEXT"}),
        httpx.Response(200, text="<html>TEXT"),
        httpx.Response(200, content=b"[" * 100_000),
        httpx.Response(200, json={"error": "TEXT"}),
        httpx.Response(200, json={"choices": [{"index": 0, "text": "Yes"}]}),
    ],
)
async def test_what_is_not_an_answer_is_an_error(response):
    assert (await failure(teacher(lambda request: response))).outcome == "error"


@pytest.mark.parametrize(
    ("status", "is_teachers_fault"), [(400, False), (413, False), (422, False), (401, True), (429, True), (500, True)]
)
async def test_a_refusal_of_the_text_is_not_held_against_the_teacher(status, is_teachers_fault):
    error = await failure(teacher(lambda request: httpx.Response(status, text="TEXT")))
    assert (error.outcome, error.is_teachers_fault) == ("error", is_teachers_fault)


async def test_a_huge_answer_is_read_no_further_than_it_may_go():
    sent = []

    async def flood():
        while True:
            sent.append(1)
            yield b"x" * 65_536

    error = await failure(teacher(lambda request: httpx.Response(200, content=flood())))
    assert error.outcome == "error"
    assert len(sent) <= MAX_REPLY_BYTES // 65_536 + 1


async def test_an_answer_that_drips_meets_the_deadline():
    async def drip():
        for _ in range(3):
            yield b" "
        await asyncio.Event().wait()

    error = await failure(teacher(lambda request: httpx.Response(200, content=drip())), deadline=soon(0.05))
    assert (error.outcome, error.is_teachers_fault) == ("deadline", True)


async def test_a_compressed_answer_was_not_asked_for():
    requests = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, headers={"content-encoding": "gzip"}, content=gzip.compress(b"0" * 100_000))

    assert (await failure(teacher(handler))).outcome == "error"
    assert requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("where", ["id", "header"])
@pytest.mark.parametrize("is_ours", [True, False])
async def test_an_answer_that_names_another_question_is_an_error(where, is_ours):
    def handler(request: httpx.Request) -> httpx.Response:
        tag = request.headers["x-request-id"] if is_ours else "stillguard-0123456789abcdef"
        reply = json.loads(answer({"Yes": -1.0, "No": -1.0}, {"Yes": -1.0, "No": -1.0}).content)
        if where == "id":
            return httpx.Response(200, json=reply | {"id": f"cmpl-{tag}"})
        return httpx.Response(200, json=reply, headers={"x-request-id": tag})

    judge = teacher(handler)
    if is_ours:
        assert set((await judge.judge("a text", "user", TWO, deadline=soon())).scores) == set(TWO)
        await judge.close()
    else:
        assert (await failure(judge)).outcome == "error"


async def test_a_servers_own_ids_are_its_own_affair():
    def handler(request: httpx.Request) -> httpx.Response:
        reply = answer({"Yes": -1.0, "No": -1.0}, {"Yes": -1.0, "No": -1.0})
        return httpx.Response(200, json=json.loads(reply.content) | {"id": 7}, headers={"x-request-id": "req_1"})

    judge = teacher(handler)
    assert set((await judge.judge("a text", "user", TWO, deadline=soon())).scores) == set(TWO)
    await judge.close()


async def test_a_logprob_that_is_not_a_number_is_an_error():
    body = '{"choices": [{"index": 0, "logprobs": {"top_logprobs": [{"Yes": NaN, "No": -1.0}]}}]}'
    assert (await failure(teacher(lambda request: httpx.Response(200, text=body)))).outcome == "error"


async def test_a_text_that_is_not_unicode_is_an_error():
    assert (await failure(teacher(lambda request: answer()), text="TEXT \ud800")).outcome == "error"


async def test_the_deadline_covers_the_whole_question():
    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()

    assert (await failure(teacher(handler), deadline=soon(0.02))).outcome == "deadline"


async def test_nothing_is_sent_after_the_deadline():
    requests = []
    judge = teacher(requests.append)
    error = await failure(judge, deadline=soon(-0.01))
    assert (error.outcome, error.is_teachers_fault) == ("deadline", False)
    assert requests == []


async def test_closing_fails_a_judge_in_flight_and_later_ones():
    asked = asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()

    judge = teacher(handler)
    in_flight = asyncio.create_task(failure(judge))
    await asked.wait()
    await judge.close()
    assert (await in_flight).outcome == "unreachable"
    assert (await failure(judge)).outcome == "unreachable"


async def test_cancelling_the_caller_stays_a_cancellation_and_ends_the_question():
    asked, ended = asyncio.Event(), asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    judge = teacher(handler)
    caller = asyncio.create_task(judge.judge("a text", "user", TWO, deadline=soon()))
    await asked.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()
    await judge.close()
