"""What a client remembers."""

import json
import random

from loadtest.scenario.exchange import ESCALATION, ESCALATION_PATH, FEEDBACK, FEEDBACK_PATH, Exchange
from loadtest.scenario.memory import Memory
from tests.unit.loadtest.answers import ASK_CHECK, ASK_MODERATION, CHECK, ESCALATED, MODERATION, PENDING, RESULT, spoilt

POLL = Exchange(ESCALATION, "GET", ESCALATION_PATH)
CORRECT = Exchange(FEEDBACK, "POST", FEEDBACK_PATH)
RNG = random.Random(1)


def test_nothing_is_asked_about_answers_that_never_were():
    memory = Memory()
    assert memory.follow_up(POLL, RNG) is None
    assert memory.follow_up(CORRECT, RNG) is None
    assert memory.follow_up(ASK_CHECK, RNG) is ASK_CHECK


def test_a_pending_escalation_is_polled_until_it_has_ended():
    memory = Memory()
    assert memory.note(0, ASK_CHECK, CHECK | {"results": [RESULT | {"escalation": PENDING}]}) is None
    asked = memory.follow_up(POLL, RNG)
    assert asked.path == "/v1/escalations/e1"
    assert memory.follow_up(POLL, RNG) is None
    memory.note(1, asked, {"id": "e1", "outcome": "pending", "result": None})
    assert memory.follow_up(POLL, RNG).path == "/v1/escalations/e1"
    memory.note(1, asked, {"id": "e1", "outcome": "answered", "result": RESULT})
    assert memory.follow_up(POLL, RNG) is None


def test_the_newest_escalation_is_polled_first():
    """The server keeps a result for a while only: an old id would be answered 404, and that taken for a mistake."""
    memory = Memory()
    for number in range(3):
        pending = PENDING | {"id": f"e{number}"}
        memory.note(number, ASK_CHECK, CHECK | {"results": [RESULT | {"escalation": pending}]})
    assert memory.follow_up(POLL, RNG).path == "/v1/escalations/e2"


def test_feedback_agrees_with_an_earlier_verdict():
    memory = Memory()
    memory.note(0, ASK_CHECK, CHECK)
    asked = memory.follow_up(CORRECT, RNG)
    assert (asked.method, asked.path) == ("POST", "/v1/feedback")
    assert json.loads(asked.body) == {"id": CHECK["id"], "index": 0, "verdict": "block"}


def test_feedback_is_about_no_review_for_nobody_can_agree_with_that():
    memory = Memory()
    memory.note(0, ASK_CHECK, CHECK | {"results": [RESULT | {"verdict": "review"}]})
    assert memory.follow_up(CORRECT, RNG) is None


def test_another_text_s_scores_are_noticed():
    memory = Memory()
    assert memory.note(7, ASK_CHECK, CHECK) is None
    assert memory.note(7, ASK_CHECK, spoilt(CHECK, "results.0.scores.hate", 0.105)) is None, "rounding, on a GPU say"
    complaint = "check short: other scores than before for the same text"
    assert memory.note(7, ASK_CHECK, spoilt(CHECK, "results.0.scores.hate", 0.2)) == complaint
    assert memory.note(7, ASK_CHECK, spoilt(CHECK, "results.0.scores", {"harassment": 0.9})) == complaint
    assert memory.note(8, ASK_CHECK, spoilt(CHECK, "results.0.scores.hate", 0.2)) is None, "another request"
    assert memory.note(7, ASK_CHECK, spoilt(spoilt(CHECK, "results.0.scores.hate", 0.2), "artifact.hash", "cd")) is None


def test_what_a_teacher_changed_is_no_contradiction():
    memory = Memory()
    escalated = RESULT | {"scores": RESULT["scores"] | {"hate": 0.1}, "escalation": ESCALATED, "decided_by": "teacher"}
    assert memory.note(0, ASK_CHECK, CHECK | {"results": [escalated]}) is None
    assert memory.note(0, ASK_CHECK, spoilt(CHECK, "results.0.scores.hate", 0.5)) is None, "the student said 0.5 before, too"


def test_moderations_are_no_source_of_follow_ups():
    memory = Memory()
    assert memory.note(0, ASK_MODERATION, MODERATION) is None
    assert memory.follow_up(CORRECT, RNG) is None
