"""What counts as a right answer."""

import json

import pytest
from scripted_server import GOOD_RESULT

from loadtest.bench.dialects import CLASSIFY, NATIVE, ROWS, SCORES, WrongAnswer

NATIVE_ANSWER = {"results": [GOOD_RESULT, GOOD_RESULT | {"windows": 4}], "timings": {"infer_s": 0.003}}


def body(answer: object) -> bytes:
    return json.dumps(answer).encode()


def test_a_native_answer_says_what_the_server_did():
    reply = NATIVE.check(body(NATIVE_ANSWER), 2)
    assert (reply.windows, reply.infer_s) == (5, 0.003)


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        ({"scores": {"hate": float("nan")}}, "finite"),
        ({"scores": {"hate": float("inf")}}, "finite"),
        ({"scores": {"hate": 1.2}}, "finite"),
        ({"scores": {"hate": -0.1}}, "finite"),
        ({"scores": {}}, "finite"),
        ({"verdict": "perhaps"}, "verdict"),
        ({"scores": {"hate": None}}, "TypeError"),
    ],
)
def test_a_native_answer_that_is_wrong_is_seen(result, complaint):
    with pytest.raises(WrongAnswer, match=complaint):
        NATIVE.check(body(NATIVE_ANSWER | {"results": [GOOD_RESULT, GOOD_RESULT | result]}), 2)


@pytest.mark.parametrize("texts", [1, 3])
def test_a_result_too_few_or_too_many_is_seen(texts):
    with pytest.raises(WrongAnswer, match=f"2 results for {texts} texts"):
        NATIVE.check(body(NATIVE_ANSWER), texts)


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b"{}", b'{"results": 3}', b"null"])
@pytest.mark.parametrize("dialect", [NATIVE, SCORES, ROWS, CLASSIFY])
def test_what_is_no_answer_is_wrong(dialect, answer):
    with pytest.raises(WrongAnswer):
        dialect.check(answer, 1)


@pytest.mark.parametrize(
    ("dialect", "asked", "answer"),
    [
        (SCORES, {"text": "hi"}, {"scores": [0.1, 0.2]}),
        (ROWS, {"text": ["hi"]}, [[0.1, 0.2]]),
        (CLASSIFY, {"model": "student", "input": ["hi"], "raw_scores": False}, {"data": [[{"label": "a", "score": 0.1}]]}),
    ],
)
def test_each_peer_is_asked_and_read_in_its_own_words(dialect, asked, answer):
    assert json.loads(dialect.body(["hi"])) == asked
    reply = dialect.check(body(answer), 1)
    assert (reply.windows, reply.infer_s) == (None, None)
