"""A right answer passes, and each way of being wrong is seen."""

import math

import pytest

from loadtest.scenario.exchange import BAD_INPUT, FEEDBACK, Exchange
from loadtest.scenario.judge import Reply, judge
from tests.unit.loadtest.answers import (
    ASK_CHECK,
    ASK_MODERATION,
    ASK_POLL,
    CHECK,
    ESCALATED,
    ID,
    MODERATION,
    PENDING,
    POLLED,
    RESULT,
    error,
    judged,
    spoilt,
)


@pytest.mark.parametrize(("asked", "answer"), [(ASK_CHECK, CHECK), (ASK_MODERATION, MODERATION), (ASK_POLL, POLLED)])
def test_right_answers_are_right(asked, answer):
    found = judged(asked, answer)
    assert (found.outcome, found.complaint, found.answer) == ("ok", None, answer)


@pytest.mark.parametrize(
    "result",
    [
        RESULT | {"verdict": "allow", "categories": []},
        RESULT | {"decided_by": "teacher", "escalation": ESCALATED},
        RESULT | {"decided_by": "student", "escalation": PENDING},
        RESULT | {"decided_by": "student_degraded", "verdict": "review", "escalation": ESCALATED | {"outcome": "deadline"}},
        RESULT | {"decided_by": "student_degraded", "verdict": "allow", "escalation": ESCALATED | {"outcome": "disabled"}},
    ],
)
def test_other_right_results(result):
    assert judged(ASK_CHECK, CHECK | {"results": [result]}).outcome == "ok"


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("id", "another", "another request's id"),
        ("results", [], "0 results for 1 texts"),
        ("results", [RESULT, RESULT], "2 results for 1 texts"),
        ("results.0.verdict", "allow", "a verdict against the violated categories"),
        ("results.0.verdict", "review", "a verdict against the violated categories"),
        ("results.0.verdict", "perhaps", "a verdict that is none"),
        ("results.0.categories", [], "a verdict against the violated categories"),
        ("results.0.categories", ["treason"], "a violated category without a score"),
        ("results.0.scores.hate", 1.5, "scores that aren't finite probabilities"),
        ("results.0.scores.hate", -0.1, "scores that aren't finite probabilities"),
        ("results.0.scores.hate", math.nan, "scores that aren't finite probabilities"),
        ("results.0.scores.hate", None, "scores that aren't finite probabilities"),
        ("results.0.scores", {}, "a violated category without a score"),
        ("results.0.decided_by", "chance", "decided by nobody known"),
        ("results.0.decided_by", "teacher", "decided by a teacher that wasn't asked"),
        ("results.0.escalation", PENDING | {"id": None}, "an escalation's id out of place"),
        ("results.0.windows", 0, "a text in no window"),
        ("results.0.scanned_chars", 4, "a text that wasn't read whole"),
        ("artifact.hash", "", "an artefact without a name"),
        ("timings.queue_s", -1, "a timing that is none"),
        ("timings", None, "AttributeError in the answer's form"),
    ],
)
def test_each_lie_of_a_check_is_seen(path, value, complaint):
    found = judged(ASK_CHECK, spoilt(CHECK, path, value))
    assert (found.outcome, found.complaint) == ("wrong", f"check short: {complaint}")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", ID),
        ("results.0.flagged", False),
        ("results.0.category_scores.harassment", 2),
        ("results.0.category_scores", {"harassment": 0.9}),
        ("results.0.stillguard.scores.hate", math.inf),
        ("results.0.stillguard.verdict", "allow"),
        ("stillguard.policy.id", ""),
    ],
)
def test_each_lie_of_a_moderation_is_seen(path, value):
    assert judged(ASK_MODERATION, spoilt(MODERATION, path, value)).outcome == "wrong"


@pytest.mark.parametrize(("path", "value"), [("outcome", "pending"), ("result", None), ("outcome", "deadline")])
def test_each_lie_of_a_poll_is_seen(path, value):
    assert judged(ASK_POLL, spoilt(POLLED, path, value)).outcome == "wrong"


def test_feedback_is_about_the_verdict_that_was_meant():
    asked = Exchange(FEEDBACK, "POST", "/v1/feedback", status=202)
    assert judged(asked, {"id": "earlier", "index": 0}, status=202).outcome == "ok"
    assert judged(asked, {"id": "earlier", "index": 1}, status=202).outcome == "wrong"
    assert judged(asked, {"id": "earlier", "index": 0}, status=200).outcome == "wrong"


def test_an_answer_that_doesn_t_echo_the_id_is_wrong():
    reply = Reply(200, {"x-request-id": "another"}, b"{}")
    assert judge(ASK_CHECK, reply, ID).complaint == "check short: the header doesn't echo the request's id"


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff"])
def test_what_isn_t_json_is_wrong(body):
    assert judged(ASK_CHECK, body).complaint == "check short: the answer isn't JSON"


BAD = Exchange(BAD_INPUT, "POST", "/v1/check", "[]", status=400, code="invalid_request")


def test_a_due_refusal_is_right_and_another_one_is_not():
    assert judged(BAD, error("invalid_request"), status=400).outcome == "ok"
    assert (
        judged(BAD, error("malformed_body"), status=400).complaint
        == "bad input: code malformed_body where invalid_request is due"
    )
    assert judged(BAD, error("too_large"), status=413).outcome == "wrong"
    assert judged(BAD, error("invalid_request") | {"id": "another"}, status=400).outcome == "wrong"
    assert judged(BAD, CHECK, status=200).outcome == "wrong", "bad input that was let through"


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (503, "queue_full", "shed"),
        (429, "rate_limited", "limited"),
        (504, "deadline_exceeded", "expired"),
        (500, "x", "failed"),
    ],
)
def test_honest_refusals_have_their_names(status, code, outcome):
    found = judged(ASK_CHECK, error(code), status=status, **{"retry-after": "1"})
    assert (found.outcome, found.complaint) == (outcome, f"check short: status {status} ({code})")


def test_a_server_that_sheds_says_when_to_come_back():
    assert judged(ASK_CHECK, error("queue_full"), status=503).complaint == "check short: status 503 without Retry-After"
    assert judged(ASK_CHECK, error("shutting_down"), status=503).outcome == "shed"


def test_a_refusal_that_wasn_t_due_is_wrong():
    assert judged(ASK_CHECK, error("invalid_request"), status=400).outcome == "wrong"
    assert judged(ASK_CHECK, error("not_found"), status=404).outcome == "wrong"
