"""HttpTeacher over httpx's MockTransport: what it sends, and how everything that can go wrong comes out."""

import asyncio
import json
import time

import httpx
import pytest

from server.core.calibration import IDENTITY, Platt
from server.core.policy import load_policies
from server.core.prompt import guard_prompt
from server.core.taxonomy import CATEGORIES
from server.teacher.client import HttpTeacher
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
    scores = await judge.judge("a text", "assistant", TWO, deadline=soon())
    await judge.close()

    assert scores == {"hate": pytest.approx(0.5), "violence": pytest.approx(0.5)}
    (request,) = requests
    assert (request.method, str(request.url)) == ("POST", "http://teacher:8000/v1/completions")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert json.loads(request.content) == {
        "model": "judge",
        "prompt": [guard_prompt("a text", "assistant", rule) for rule in TWO.values()],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 20,
        "cache": True,
    }


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
    assert (await failure(judge, deadline=soon(-0.01))).outcome == "deadline"
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
