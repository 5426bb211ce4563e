"""The feedback log as candidates: people before the teacher, the last word, no lesson from what talked its way out."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from distill.mining.log import candidates_from_log, read_log
from server.core.errors import ConfigurationError
from server.core.feedback import write_line
from server.core.policy import PolicySet, load_policies
from server.core.taxonomy import CATEGORIES
from server.core.text_keys import text_key
from tests.unit.distill.mining_world import KEY, answered, at, correction, values, verdict

SHIPPED = load_policies()["default"]


def found(*records, teacher_may_clear=True):
    left_out = Counter()
    policies = PolicySet([replace(SHIPPED, teacher_may_clear=teacher_may_clear)])
    candidates = candidates_from_log(records, policies, left_out)
    return candidates, dict(+left_out)


def only(*records):
    candidates, left_out = found(*records)
    assert (len(candidates), left_out) == (1, {})
    return candidates[0]


def same(actual, expected):
    np.testing.assert_array_equal(actual, expected)


def test_allow_says_that_nothing_is_violated():
    mined = only(verdict(), correction("allow"))
    assert (mined.source, mined.reason, mined.dataset) == ("moderator", "overturned", "feedback_log")
    same(mined.labels, np.zeros(len(CATEGORIES)))
    assert mined.scores[CATEGORIES.index("toxicity")] == np.float32(0.9)


def test_block_confirms_what_the_verdict_named_and_labels_say_it_better():
    mined = only(verdict(), correction("block"))
    assert mined.reason == "sampled", "a confirmed verdict is no failure"
    same(mined.labels, values(toxicity=1))
    mined = only(verdict(), correction("block", labels={"hate": True, "toxicity": False}))
    assert mined.reason == "overturned", "the right verdict for the wrong reason"
    same(mined.labels, values(hate=1, toxicity=0))


def test_a_block_that_nobody_explains_is_no_label_and_the_teacher_does_not_explain_it():
    allowed = verdict(verdict="allow", categories=(), teacher=answered(toxicity=0.1))
    mined = only(allowed, correction("block", categories=()))
    assert (mined.source, mined.reason) == ("nobody", "overturned")
    assert np.isnan(mined.labels).all()
    assert np.isnan(mined.answers).all()


def test_review_is_overturned_by_neither_verdict():
    waiting = verdict(verdict="review", categories=())
    assert only(waiting, correction("allow", categories=())).reason == "sampled"
    assert only(waiting, correction("block", categories=(), labels={"hate": True})).reason == "overturned"


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [
        (("escalated", "disagreeing"), "disagreeing"),
        (("sampled", "escalated"), "escalated"),
        (("sampled", "near_threshold"), "near_threshold"),
        (("sampled",), "sampled"),
        ((), "sampled"),
    ],
)
def test_the_strongest_reason_counts(reasons, reason):
    assert only(verdict(reasons=reasons)).reason == reason


def test_the_teacher_speaks_where_no_person_has():
    asked = verdict(teacher=answered(toxicity=0.1, hate=0.7))
    mined = only(asked)
    assert mined.source == "teacher"
    same(mined.answers, values(toxicity=0.1, hate=0.7).astype(np.float32))
    mined = only(asked, correction(labels={"toxicity": True}))
    assert mined.source == "moderator"
    same(mined.labels, values(toxicity=1))
    same(mined.answers, values(hate=0.7))


@pytest.mark.parametrize(
    "suspicious",
    [{"is_disguised": True}, {"student_scores": dict.fromkeys(CATEGORIES, 0.01) | {"toxicity": 0.5, "jailbreak": 0.99}}],
)
def test_what_a_text_may_have_talked_the_teacher_into_is_not_learnt(suspicious):
    mined = only(verdict(teacher=answered(toxicity=0.02, hate=0.7), **suspicious))
    same(mined.answers, values(hate=0.7))


def test_where_the_teacher_may_clear_nothing_its_no_to_a_block_is_not_learnt_and_to_an_allow_it_is():
    blocked = verdict(teacher=answered(toxicity=0.02, hate=0.7))
    allowed = verdict(teacher=answered(toxicity=0.02), student_scores=dict.fromkeys(CATEGORIES, 0.05), categories=())
    for record, learnt in ((blocked, values(hate=0.7)), (allowed, values(toxicity=0.02))):
        ((mined,), _) = found(record, teacher_may_clear=False)
        same(mined.answers, learnt)


@pytest.mark.parametrize(
    ("changes", "learnt"),
    [
        ({}, values(hate=0.7)),
        ({"decided_by": "teacher", "verdict": "allow", "categories": ()}, values(toxicity=0.02, hate=0.7)),
        ({"student_scores": dict.fromkeys(CATEGORIES, 0.05)}, values(toxicity=0.02, hate=0.7)),
    ],
    ids=["shadow", "the server let it", "nothing to clear"],
)
def test_a_no_to_a_text_of_several_windows_is_learnt_only_where_the_server_let_it_lift_the_block(changes, learnt):
    record = verdict(windows=3, reasons=("disagreeing",), teacher=answered(toxicity=0.02, hate=0.7), **changes)
    same(only(record).answers, learnt)


def test_a_verdict_without_text_is_counted():
    assert found(verdict(text=None, text_key="k"), correction("allow", id="other")) == (
        [],
        {"no_text_kept": 1, "correction_without_text": 1},
    )


def test_a_text_that_came_with_its_correction_needs_no_verdict():
    sent = correction("allow", text="hi there", text_key=text_key(KEY, "hi there"), role="assistant")
    mined = only(sent)
    assert (mined.text, mined.role, mined.reason) == ("hi there", "assistant", "overturned")
    assert np.isnan(mined.scores).all()
    silent = verdict(text=None, text_key=text_key(KEY, "hi there"))
    mined = only(silent, sent)
    assert mined.text == "hi there"
    assert not np.isnan(mined.scores).any()


def test_the_last_correction_holds_whatever_the_order_in_the_log():
    later, earlier = correction("block", at=at(9)), correction("allow", at=at(8))
    same(only(verdict(), later, earlier).labels, values(toxicity=1))


def test_the_last_word_on_a_text_holds_over_requests():
    first, second = verdict(id="1"), verdict(id="2")
    candidates, left_out = found(first, second, correction("allow", id="1", at=at(1)), correction("block", id="2", at=at(2)))
    assert left_out == {"correction_superseded": 1}
    same(candidates[0].labels, values(toxicity=1))


def test_an_id_that_two_texts_share_moderates_neither():
    one, other = verdict("one"), verdict("other")
    candidates, left_out = found(one, other, correction("allow"))
    assert left_out == {"correction_of_shared_id": 1}
    assert {c.source for c in candidates} == {"nobody"}
    named = correction("allow", text_key=text_key(KEY, "other"))
    candidates, left_out = found(one, other, named)
    assert {c.text: c.source for c in candidates} == {"one": "nobody", "other": "moderator"}
    candidates, left_out = found(one, other, named, correction("block", at=at(90), text_key=text_key(KEY, "one")))
    assert left_out == {}
    assert {c.text: c.labels[CATEGORIES.index("toxicity")] for c in candidates} == {"one": 1, "other": 0}


def test_a_log_on_disk_is_read_over_files_and_its_bad_lines_are_counted(tmp_path):
    (tmp_path / "feedback-1.jsonl").write_bytes(write_line(verdict(id="1")) + b"{}\n")
    torn = write_line(verdict(id="3"))[:40]
    (tmp_path / "feedback-2.jsonl.open").write_bytes(write_line(verdict(id="2")) + torn)
    left_out = Counter()
    assert [record.id for record in read_log(tmp_path, left_out)] == ["1", "2"]
    assert left_out == {"line_malformed": 1, "line_torn": 1}


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="no feedback log in"):
        read_log(tmp_path, Counter())
