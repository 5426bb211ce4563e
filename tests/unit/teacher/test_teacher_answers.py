"""Replies of the servers that we know, as they write them, and replies that no server should write."""

import math

import pytest

from server.teacher.answers import HARD_MARGIN, read_answers
from server.teacher.teacher import TeacherUnavailable


def margins(reply, *, count: int) -> list[float]:
    """Of answers that all rest on log-probabilities."""
    answers = read_answers(reply, count=count)
    assert {answer.basis for answer in answers} == {"logprobs"}
    return [answer.margin for answer in answers]


def vllm(*tops: dict[str, float]) -> dict:
    """vLLM's /v1/completions: one dictionary per generated token."""
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "model": "google/shieldgemma-2b",
        "choices": [
            {
                "index": index,
                "text": next(iter(top)),
                "logprobs": {
                    "text_offset": [0],
                    "token_logprobs": [next(iter(top.values()))],
                    "tokens": [next(iter(top))],
                    "top_logprobs": [top],
                },
                "finish_reason": "length",
                "stop_reason": None,
                "prompt_logprobs": None,
            }
            for index, top in enumerate(tops)
        ],
        "usage": {"prompt_tokens": 200, "total_tokens": 201, "completion_tokens": 1},
    }


def content(*entries: dict, key: str = "top_logprobs") -> dict:
    """llama.cpp's /v1/completions; under ``message`` and ``logprobs.content`` it is also any chat reply."""
    return {"choices": [{"index": 0, "text": "Yes", "logprobs": {"content": [entries[0] | {key: list(entries)}]}}]}


def test_vllm_completions():
    assert margins(vllm({"Yes": -0.1, "No": -2.4}, {"No": -0.01, "Yes": -5.0}), count=2) == pytest.approx([2.3, -4.99])


def test_llama_cpp_completions():
    yes = {"id": 10539, "token": "Yes", "bytes": [89, 101, 115], "logprob": -1.5}
    no = {"id": 5230, "token": "No", "bytes": [78, 111], "logprob": -0.5}
    assert margins(content(no, yes), count=1) == pytest.approx([-1.0])


def test_llama_cpp_post_sampling_probabilities():
    yes = {"id": 10539, "token": "Yes", "bytes": [89, 101, 115], "prob": 0.8}
    no = {"id": 5230, "token": "No", "bytes": [78, 111], "prob": 0.2}
    assert margins(content(yes, no, key="top_probs"), count=1) == pytest.approx([math.log(4)])


def test_a_probability_rounded_to_zero_is_the_smallest_float32():
    yes, no = {"token": "Yes", "prob": 0.0}, {"token": "No", "prob": 1.0}
    assert margins(content(no, yes, key="top_probs"), count=1) == pytest.approx([-103.28], abs=0.01)


def test_chat_reply():
    entries = [{"token": " no", "logprob": -0.2}, {"token": " yes", "logprob": -1.7}]
    message = {"role": "assistant", "content": " no"}
    choice = {"index": 0, "message": message, "logprobs": {"content": [entries[0] | {"top_logprobs": entries}]}}
    assert margins({"choices": [choice]}, count=1) == pytest.approx([-1.5])


def test_variants_are_added_as_probabilities():
    top = {name: math.log(p) for name, p in {"Yes": 0.3, " Yes": 0.1, "yes": 0.1, "YES": 0.1, "▁No": 0.1, "Ġno": 0.05}.items()}
    assert margins(vllm(top), count=1) == pytest.approx([math.log(0.6 / 0.15)])


def test_words_that_only_begin_alike_are_not_answers():
    assert margins(vllm({"Yes": -1.0, "No": -2.0, "Not": -0.1, "Yesterday": -0.2}), count=1) == pytest.approx([1.0])


@pytest.mark.parametrize(("present", "expected"), [("Yes", 6.5), ("No", -6.5)])
def test_an_unlisted_answer_is_bounded_by_the_least_likely_listed_one(present, expected):
    assert margins(vllm({present: -0.5, "Maybe": -3.0, "It": -7.0}), count=1) == pytest.approx([expected])


@pytest.mark.parametrize(("present", "sign"), [("Yes", 1), ("No", -1)])
@pytest.mark.parametrize(
    ("probs", "unlisted"),
    [
        ([0.9], 0.1),
        ([0.9, 0.04], 0.04),
        ([0.9, 0.09], 0.01),
        ([0.9, 0.06, 0.01], 0.01),
        ([0.9, 0.06, 0.035], 0.005),
        ([1.0], 2.0**-24),
        ([0.9, 0.2], 2.0**-24),
    ],
)
def test_an_unlisted_answer_is_bounded_by_what_the_listed_ones_leave_over(present, sign, probs, unlisted):
    top = {token: math.log(prob) for token, prob in zip([present, "Maybe", "It"], probs, strict=False)}
    assert margins(vllm(top), count=1) == pytest.approx([sign * math.log(probs[0] / unlisted)])


def test_a_probability_of_zero_is_the_smallest_float32():
    assert margins(vllm({"Yes": -math.inf, "No": 0.0}), count=1) == pytest.approx([-103.28], abs=0.01)


def test_yes_and_no_that_are_both_unlikely_are_no_answer():
    answers = vllm({"I": math.log(0.98), "Yes": math.log(0.008), "No": math.log(0.004)})
    assert margins(answers, count=1) == pytest.approx([math.log(2)])
    with pytest.raises(TeacherUnavailable):
        read_answers(vllm({"I": math.log(0.98), "Yes": math.log(0.008), "No": math.log(0.001)}), count=1)


def test_a_chosen_token_without_alternatives_is_an_answer_without_logprobs():
    choice = {"index": 0, "message": {"content": "Yes"}, "logprobs": {"content": [{"token": "Yes", "logprob": -0.1}]}}
    (answer,) = read_answers({"choices": [choice]}, count=1)
    assert (answer.margin, answer.basis) == (HARD_MARGIN, "answer")


def test_a_sure_answer_listed_alone_is_sure():
    assert margins(vllm({"No": -0.0001}), count=1)[0] < -9.0
    assert margins(vllm({"Yes": -0.0001}), count=1)[0] > 9.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Yes", HARD_MARGIN), (" yes, because", HARD_MARGIN), ("**No**", -HARD_MARGIN), ("NO.", -HARD_MARGIN)],
)
def test_an_answer_without_logprobs_has_the_hard_margin(text, expected):
    completion = {"choices": [{"index": 0, "text": text, "logprobs": None}]}
    chat = {"choices": [{"index": 0, "message": {"content": text}}]}
    for reply in (completion, chat):
        (answer,) = read_answers(reply, count=1)
        assert (answer.margin, answer.basis) == (expected, "answer")


def test_choices_are_put_in_the_order_of_their_index():
    reply = vllm({"Yes": -1.0, "No": -2.0}, {"Yes": -4.0, "No": -2.0})
    reply["choices"].reverse()
    assert margins(reply, count=2) == pytest.approx([1.0, -2.0])


NAN = float("nan")


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"index": 0}]},
        {"choices": [{"index": "0", "text": "Yes"}]},
        {"choices": [{"index": 1, "text": "Yes"}]},
        {"choices": [{"index": 0, "text": None}]},
        {"choices": [{"index": 0, "message": {"content": None}}]},
        {"choices": [{"index": 0, "text": "I can't help with SECRET"}]},
        {"choices": [{"index": 0, "text": "Notable SECRET"}]},
        {"choices": [{"index": 0, "text": "Yes", "logprobs": "SECRET"}]},
        {"choices": [{"index": 0, "text": "Yes"}, {"index": 0, "text": "No"}]},
        vllm({"SECRET": -0.1, "It": -2.0}),
        vllm({"Yes": NAN, "No": -1.0}),
        vllm({"Yes": -1.0, "SECRET": NAN}),
        vllm({"Yes": math.inf, "No": -1.0}),
        vllm({"Yes": "SECRET", "No": -1.0}),
        vllm({"Yes": -1.0, "No": -2.0}, {"Yes": -1.0, "No": -2.0}),
        content({"token": "Yes"}, {"token": "No"}),
        content({"token": 7, "logprob": -1.0}),
        content({"token": "Yes", "prob": NAN}, {"token": "No", "prob": 0.5}, key="top_probs"),
    ],
)
def test_what_is_no_answer_is_an_error_that_quotes_nothing(reply):
    with pytest.raises(TeacherUnavailable) as caught:
        read_answers(reply, count=1)
    assert caught.value.outcome == "error"
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "is_teachers_fault"),
    [
        ({"choices": [{"index": 0, "text": "I refuse"}]}, False),
        (vllm({"It": -0.1, "I": -2.0}), False),
        (vllm({"It": -0.001, "Yes": -9.0, "No": -12.0}), False),
        ({"choices": []}, True),
        (vllm({"Yes": NAN, "No": -1.0}), True),
    ],
)
def test_what_a_text_can_bring_about_is_not_held_against_the_teacher(reply, is_teachers_fault):
    with pytest.raises(TeacherUnavailable) as caught:
        read_answers(reply, count=1)
    assert caught.value.is_teachers_fault is is_teachers_fault
