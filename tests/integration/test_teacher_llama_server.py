"""The client against llama.cpp's own server, as at any URL, in both of the APIs that it speaks."""

import time

import pytest

from server.core.calibration import IDENTITY
from server.core.policy import load_policies
from server.core.taxonomy import CATEGORIES
from server.teacher.client import HttpTeacher
from server.teacher.embedded import LLAMA_CPP_FIELDS
from server.teacher.teacher import TeacherUnavailable
from tests.unit.teacher.llama_server import llama_server
from tests.unit.teacher.tiny_llama import make_weights, write_gguf

pytest.importorskip("xllamacpp")

RULES = dict(zip(CATEGORIES, load_policies()["default"].rules, strict=True))
TWO = {category: RULES[category] for category in ("hate", "violence")}
CHAT_FIELDS = LLAMA_CPP_FIELDS | {"logprobs": True, "top_logprobs": LLAMA_CPP_FIELDS["logprobs"]}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with llama_server(write_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", make_weights())) as client:
        yield str(client.base_url)


async def judge(teacher, text="a text"):
    try:
        return await teacher.judge(text, "user", TWO, deadline=time.monotonic() + 60)
    finally:
        await teacher.close()


@pytest.mark.parametrize(("api", "fields"), [("completions", LLAMA_CPP_FIELDS), ("chat", CHAT_FIELDS)])
async def test_it_answers_every_category_with_its_degree(url, api, fields):
    teacher = HttpTeacher(url, model="tiny", calibration=IDENTITY, api=api, api_key="key", extra=fields)
    judgement = await judge(teacher)
    assert judgement.basis == "logprobs"
    assert list(judgement.scores) == ["hate", "violence"]
    assert len(set(judgement.scores.values())) == 2
    assert all(0 < score < 1 for score in judgement.scores.values())


@pytest.mark.parametrize("api", ["completions", "chat"])
async def test_a_model_that_says_neither_yes_nor_no_has_not_answered(url, api):
    with pytest.raises(TeacherUnavailable, match="neither Yes nor No") as caught:
        await judge(HttpTeacher(url, model="tiny", calibration=IDENTITY, api=api, api_key="key", top_logprobs=1))
    assert (caught.value.outcome, caught.value.is_teachers_fault) == ("error", False)


async def test_a_wrong_key_is_the_teachers_failure(url):
    with pytest.raises(TeacherUnavailable, match="HTTP status 401") as caught:
        await judge(HttpTeacher(url, model="tiny", calibration=IDENTITY, api_key="not the key"))
    assert caught.value.is_teachers_fault
