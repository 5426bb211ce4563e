"""The feedback log's lines: written and read back alike, and nothing else is read as one."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.feedback import (
    OPEN,
    SEALED,
    Correction,
    FeedbackRecord,
    Reason,
    TeacherOpinion,
    UnknownSchema,
    VerdictRecord,
    log_files,
    read_line,
    read_records,
    write_line,
)
from server.core.taxonomy import CATEGORIES, ROLES
from server.core.types import Basis, DecidedBy, EscalationOutcome, Verdict

VERDICT = VerdictRecord(
    at=datetime(2026, 11, 22, 14, 0, 0, 123000, UTC),
    id="r1",
    index=2,
    reasons=("escalated", "disagreeing"),
    role="assistant",
    text=None,
    text_key="ab" * 32,
    chars=62,
    windows=1,
    is_disguised=False,
    policy_id="default",
    policy_version="3",
    artifact_version="1.2",
    artifact_hash="cd" * 32,
    verdict="block",
    decided_by="teacher",
    categories=("hate", "violence"),
    student_scores=dict.fromkeys(CATEGORIES, 0.25),
    teacher=TeacherOpinion(outcome="answered", scores={"hate": 0.9}, basis="logprobs", identity="judge@1"),
)
FEEDBACK = FeedbackRecord(
    at=VERDICT.at,
    id="r1",
    index=2,
    verdict="allow",
    categories=("hate",),
    labels={"hate": False, "harassment": True},
    by="moderators",
    note=None,
)

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
)
texts = st.text(st.characters() | st.sampled_from("\n\r\u2028\x00\ud800\udfff😀"), max_size=30)
scores = st.floats(0, 1)
categories = st.lists(st.sampled_from(CATEGORIES), unique=True).map(tuple)
teachers = st.builds(
    TeacherOpinion,
    outcome=st.sampled_from(get_args(EscalationOutcome)),
    scores=st.dictionaries(st.sampled_from(CATEGORIES), scores),
    basis=st.none() | st.sampled_from(get_args(Basis)),
    identity=texts,
)
verdicts = st.builds(
    VerdictRecord,
    at=moments,
    id=texts,
    index=st.integers(0, 300),
    reasons=st.lists(st.sampled_from(get_args(Reason)), unique=True).map(tuple),
    role=st.sampled_from(ROLES),
    text=st.none() | texts,
    text_key=texts,
    chars=st.integers(0, 10**6),
    windows=st.integers(0, 600),
    is_disguised=st.booleans(),
    policy_id=texts,
    policy_version=texts,
    artifact_version=texts,
    artifact_hash=texts,
    verdict=st.sampled_from(get_args(Verdict)),
    decided_by=st.sampled_from(get_args(DecidedBy)),
    categories=categories,
    student_scores=st.fixed_dictionaries(dict.fromkeys(CATEGORIES, scores)),
    teacher=st.none() | teachers,
)
corrections = st.builds(
    FeedbackRecord,
    at=moments,
    id=texts,
    index=st.integers(0, 300),
    verdict=st.none() | st.sampled_from(get_args(Correction)),
    categories=categories,
    labels=st.dictionaries(st.sampled_from(CATEGORIES), st.booleans()),
    by=st.none() | texts,
    note=st.none() | texts,
    role=st.sampled_from(ROLES),
    text=st.none() | texts,
    text_key=st.none() | texts,
)


@given(verdicts | corrections)
def test_a_record_is_read_as_it_was_written(record):
    line = write_line(record)
    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    assert read_line(line) == record


def test_a_verdict_has_the_documented_shape():
    assert json.loads(write_line(VERDICT)) == {
        "schema": 1,
        "kind": "verdict",
        "at": "2026-11-22T14:00:00.123Z",
        "id": "r1",
        "index": 2,
        "reasons": ["escalated", "disagreeing"],
        "role": "assistant",
        "text": None,
        "text_key": "ab" * 32,
        "chars": 62,
        "windows": 1,
        "is_disguised": False,
        "policy": {"id": "default", "version": "3"},
        "artifact": {"version": "1.2", "hash": "cd" * 32},
        "verdict": "block",
        "decided_by": "teacher",
        "categories": ["hate", "violence"],
        "student_scores": dict.fromkeys(CATEGORIES, 0.25),
        "teacher": {"outcome": "answered", "scores": {"hate": 0.9}, "basis": "logprobs", "identity": "judge@1"},
    }
    assert write_line(VERDICT).startswith(b'{"schema":1,"kind":"verdict","at":')


def test_a_correction_has_the_documented_shape():
    written = json.loads(write_line(FEEDBACK))
    assert written == {
        "schema": 1,
        "kind": "feedback",
        "at": "2026-11-22T14:00:00.123Z",
        "id": "r1",
        "index": 2,
        "verdict": "allow",
        "categories": ["hate"],
        "labels": {"hate": False, "harassment": True},
        "by": "moderators",
        "note": None,
        "role": "user",
        "text": None,
        "text_key": None,
    }
    for late in ("role", "text", "text_key"):
        del written[late]
    assert read_line(json.dumps(written).encode()) == FEEDBACK


def test_times_are_written_in_utc():
    elsewhere = VERDICT.at.astimezone(timezone(timedelta(hours=9)))
    assert write_line(replace(VERDICT, at=elsewhere)) == write_line(VERDICT)


@pytest.mark.parametrize(
    "change",
    [
        {"at": "2026-11-22T14:00:00"},
        {"at": 5},
        {"index": -1},
        {"index": True},
        {"index": 1.0},
        {"reasons": ["bored"]},
        {"reasons": "escalated"},
        {"role": "system"},
        {"text": 5},
        {"is_disguised": 0},
        {"policy": "default"},
        {"verdict": "maybe"},
        {"verdict": ["block"]},
        {"categories": ["hat"]},
        {"student_scores": {"hate": 0.5}},
        {"student_scores": dict.fromkeys(CATEGORIES, 1.5)},
        {"student_scores": dict.fromkeys(CATEGORIES, float("nan"))},
        {"student_scores": dict.fromkeys(CATEGORIES, True)},
        {"teacher": {"outcome": "answered"}},
        {"kind": "rumour"},
        {"kind": []},
    ],
)
def test_what_is_not_of_the_shape_is_no_record(change):
    with pytest.raises(ValueError, match="not a record"):
        read_line(json.dumps(json.loads(write_line(VERDICT)) | change).encode())


@pytest.mark.parametrize("field", list(json.loads(write_line(VERDICT))))
def test_a_verdict_without_a_field_is_no_record(field):
    fields = json.loads(write_line(VERDICT))
    del fields[field]
    with pytest.raises(ValueError, match="not a record"):
        read_line(json.dumps(fields).encode())


@pytest.mark.parametrize("line", [b"", b"5", b"[]", b"null", b"{}", b"\x00\x00", b"[" * 100_000, b'{"schema":1}', b"\xff"])
def test_no_line_breaks_the_reader(line):
    with pytest.raises(ValueError, match="not a record"):
        read_line(line)


def test_another_schema_is_told_from_what_is_broken():
    with pytest.raises(UnknownSchema):
        read_line(write_line(VERDICT).replace(b'"schema":1', b'"schema":2'))


def test_a_file_is_read_up_to_its_torn_end_and_what_is_skipped_is_counted(tmp_path):
    path = tmp_path / f"feedback-20261122T140000.000000Z-1{OPEN}"
    newer = write_line(VERDICT).replace(b'"schema":1', b'"schema":2')
    path.write_bytes(write_line(VERDICT) + b"rubbish\n" + newer + write_line(FEEDBACK) + write_line(VERDICT)[:40])
    skipped = Counter()
    assert list(read_records(path, skipped)) == [VERDICT, FEEDBACK]
    assert skipped == {"malformed": 1, "schema": 1, "torn": 1}


def test_files_are_found_oldest_first_and_one_that_was_sealed_meanwhile_is_read(tmp_path):
    names = [f"feedback-2026112{day}T000000.000000Z-7" for day in (1, 2, 3)]
    for name, ending in zip(names, (SEALED, SEALED, OPEN), strict=True):
        (tmp_path / f"{name}{ending}").write_bytes(write_line(VERDICT))
    (tmp_path / "hash.key").write_text("no log")
    found = log_files(tmp_path)
    assert [path.name for path in found] == [names[0] + SEALED, names[1] + SEALED, names[2] + OPEN]
    found[2].rename(tmp_path / f"{names[2]}{SEALED}")
    assert list(read_records(found[2], Counter())) == [VERDICT]
