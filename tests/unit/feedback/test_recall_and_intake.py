"""What is remembered of a verdict, and what waits for the writer."""

from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.feedback import FeedbackRecord
from server.core.taxonomy import CATEGORIES, ROLES
from server.core.types import Text, TextResult, Verdict
from server.feedback.intake import Draft, Intake
from server.feedback.recall import NO_MARK, Given, Recall

RECORD = FeedbackRecord(
    at=datetime(2026, 1, 1, tzinfo=UTC), id="r", index=0, verdict="allow", categories=(), labels={}, by=None, note=None
)


def result(verdict, *categories) -> TextResult:
    return TextResult(verdict, "student", categories, {}, 1, 1, None)


verdicts = st.tuples(
    st.sampled_from(get_args(Verdict)), st.sampled_from(ROLES), st.sets(st.sampled_from(CATEGORIES)).map(sorted).map(tuple)
)


@given(st.lists(verdicts, min_size=1, max_size=20))
def test_every_text_of_a_request_is_remembered_as_it_was_judged(given_verdicts):
    recall = Recall(max_items=20, ttl_s=60, marks_texts=False)
    texts = [Text("t", role) for _, role, _ in given_verdicts]
    recall.remember("r1", texts, [result(verdict, *categories) for verdict, _, categories in given_verdicts])
    for index, (verdict, role, categories) in enumerate(given_verdicts):
        assert recall.find("r1", index) == Given(verdict, role, categories)
    assert recall.find("r1", len(given_verdicts)) is None
    assert recall.find("r1", -1) is None
    assert recall.find("r2", 0) is None


def test_what_is_old_or_one_too_many_is_forgotten():
    now = 0.0
    recall = Recall(max_items=2, ttl_s=10, marks_texts=True, clock=lambda: now)
    for name in ("a", "b", "c"):
        recall.remember(name, [Text("t")], [result("allow")])
    assert [recall.find(name, 0) is None for name in "abc"] == [True, False, False]
    now = 10.1
    assert recall.find("c", 0) is None


def test_the_bound_is_on_texts_however_many_come_in_one_request():
    recall = Recall(max_items=5, ttl_s=60, marks_texts=True)

    def remember(name, count):
        recall.remember(name, [Text("t")] * count, [result("allow")] * count)

    remember("two", 2)
    remember("three", 3)
    assert (recall.find("two", 1), recall.find("three", 2)) == (recall.find("three", 0), recall.find("two", 0)) != (None, None)
    remember("four", 4)
    assert [recall.find(name, 0) is None for name in ("two", "three", "four")] == [True, True, False]
    remember("four", 6)
    assert recall.find("four", 0) is None, "more than all that is remembered, and of what was before nothing is left either"


def test_a_text_is_told_from_others_by_a_mark_only_this_recall_can_make():
    recall, other = (Recall(max_items=9, ttl_s=60, marks_texts=True) for _ in range(2))
    remembered = recall.remember("r1", [Text("one"), Text("two")], [result("allow")] * 2)
    assert [recall.find("r1", index).text_mark for index in (0, 1)] == [recall.mark("one"), recall.mark("two")]
    assert len({recall.mark("one"), recall.mark("two"), other.mark("one"), NO_MARK}) == 4
    recall.corrected("r1", 1, recall.mark("said"))
    assert [recall.find("r1", index).correction_mark for index in (0, 1)] == [NO_MARK, recall.mark("said")]
    recall.revise(remembered, 1, Text("two"), result("block", "hate"))
    assert recall.find("r1", 1) == Given("block", "user", ("hate",), recall.mark("two")), "nobody has corrected this one"
    recall.corrected("never", 0, recall.mark("said"))
    unmarked = Recall(max_items=9, ttl_s=60, marks_texts=False)
    unmarked.remember("r1", [Text("one")], [result("allow")])
    assert unmarked.find("r1", 0).text_mark == NO_MARK


def test_a_revised_verdict_is_its_own_texts_and_its_own_requests():
    recall = Recall(max_items=4, ttl_s=60, marks_texts=False)
    texts = [Text("t"), Text("t", "assistant")]
    first = recall.remember("r1", texts, [result("allow"), result("allow")])
    recall.revise(first, 1, texts[1], result("block", "hate"))
    assert recall.find("r1", 0) == Given("allow", "user", ())
    assert recall.find("r1", 1) == Given("block", "assistant", ("hate",))
    recall.remember("r1", texts, [result("review"), result("review")])  # a client that uses its ids twice
    recall.revise(first, 0, texts[0], result("block", "hate"))
    assert recall.find("r1", 0) == Given("review", "user", ())


def test_the_intake_gives_back_in_order_and_ends_with_none_for_ever():
    intake = Intake(max_items=3, max_chars=10_000)
    drafts = [Draft(RECORD, text) for text in ("a", "b", "c", "d")]
    assert [intake.offer(draft) for draft in drafts] == [True, True, True, False]
    assert intake.take(0) is drafts[0]
    assert intake.offer(drafts[3])
    intake.close()
    assert not intake.offer(drafts[0])
    assert [intake.take(0) for _ in range(5)] == [*drafts[1:], None, None]


def test_long_texts_fill_it_sooner():
    intake = Intake(max_items=100, max_chars=10_000)
    assert intake.offer(Draft(RECORD, "x" * 8_000))
    assert not intake.offer(Draft(RECORD, "x" * 9_000))
    assert intake.offer(Draft(RECORD, "x"))
    intake.take(0)
    assert intake.offer(Draft(RECORD, "x" * 8_000))


def test_nobody_waits_for_ever_for_nothing():
    with pytest.raises(TimeoutError):
        Intake(max_items=1, max_chars=1_000).take(0.001)


def test_a_draft_never_shows_its_text():
    assert "canary" not in repr(Draft(RECORD, "canary"))
