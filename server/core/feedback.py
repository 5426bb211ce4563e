"""The feedback log's records: what the server writes of a verdict and of a moderator's correction, one JSON object a line.

    {"schema": 1, "kind": "verdict", "at": "2026-11-22T14:00:00.123Z", "id": "…", "index": 0, "reasons": ["escalated"], …}
    {"schema": 1, "kind": "feedback", "at": "2026-11-22T14:05:00.000Z", "id": "…", "index": 0, "verdict": "allow", …}

A correction is about the verdict of the same ``id`` (of the request) and ``index`` (of its text); either may be the only
one in the log, and the last correction of a verdict holds. A log is a folder of files that end in :data:`SEALED`; the one
that is being written, or was when its server was killed, ends in :data:`OPEN`. Lines are ASCII; a half-written one can
only be the last of its file.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from server.core.json_fields import (
    read_a,
    read_count,
    read_one_of,
    read_optional,
    read_scores,
    read_some_of,
    read_time,
    write_time,
)
from server.core.taxonomy import CATEGORIES, Category, Role
from server.core.types import Basis, DecidedBy, EscalationOutcome, Scores, Verdict

SCHEMA = 1
PREFIX = "feedback-"
SEALED = ".jsonl"
OPEN = ".jsonl.open"

Reason = Literal["escalated", "disagreeing", "near_threshold", "sampled"]
Correction = Literal["allow", "block"]
SkipReason = Literal["torn", "malformed", "schema"]
"""Why a line is not read: half-written; not of the shape below; of a schema that this code doesn't know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherOpinion:
    """What came of asking the teacher. ``scores`` are its own, for the asked categories; empty unless ``outcome`` is
    ``answered``. ``identity`` says which teacher it is."""

    outcome: EscalationOutcome
    scores: Scores
    basis: Basis | None
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRecord:
    """One text's verdict. ``text`` is as it was sent, and None unless texts are kept; ``text_key`` is its keyed hash
    (:mod:`server.core.text_keys`). ``student_scores`` has all eight categories, from before the teacher; ``categories`` are
    those violated."""

    at: datetime
    id: str
    index: int
    reasons: tuple[Reason, ...]
    role: Role
    text: str | None = field(repr=False)
    text_key: str
    chars: int
    windows: int
    is_disguised: bool
    policy_id: str
    policy_version: str
    artifact_version: str
    artifact_hash: str
    verdict: Verdict
    decided_by: DecidedBy
    categories: tuple[Category, ...]
    student_scores: Scores
    teacher: TeacherOpinion | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRecord:
    """A moderator's correction of one verdict.

    Attributes:
        verdict: what it should have been; None if only ``labels`` are given.
        categories: those that the server had called violated.
        labels: which categories are, as far as the moderator says; one that is missing is no opinion.
        by: name of the API key; None where the server asks for none.
        text: None unless texts are kept and the moderator sent it, for the verdict's own record may be missing; ``text_key``
            is then its key. ``role`` is the text's.
    """

    at: datetime
    id: str
    index: int
    verdict: Correction | None
    categories: tuple[Category, ...]
    labels: Mapping[Category, bool]
    by: str | None
    note: str | None = field(repr=False)
    role: Role = "user"
    text: str | None = field(default=None, repr=False)
    text_key: str | None = None


Record = VerdictRecord | FeedbackRecord


class UnknownSchema(ValueError):
    """The line is of a schema that this code doesn't know."""


def write_line(record: Record) -> bytes:
    """The record as one line, its newline included."""
    fields = _write_verdict(record) if isinstance(record, VerdictRecord) else _write_feedback(record)
    return json.dumps(fields, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def read_line(line: bytes) -> Record:
    """One whole line.

    Raises:
        UnknownSchema: it is of another schema.
        ValueError: it is no record.
    """
    try:
        fields = json.loads(line)
        if fields["schema"] != SCHEMA:
            raise UnknownSchema
        return _READERS[fields["kind"]](fields)
    except UnknownSchema:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("not a record of the feedback log") from None


def log_files(folder: Path) -> list[Path]:
    """A log's files, oldest first; whole ones and those being written."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if path.name.endswith((SEALED, OPEN)))


def read_records(path: Path, skipped: Counter[SkipReason]) -> Iterator[Record]:
    """The records of one file, in the order written; lines that can't be read are counted in ``skipped``.

    Raises:
        OSError: the file can't be read.
    """
    if path.name.endswith(OPEN) and not path.exists():
        path = path.with_name(path.name.removesuffix(OPEN) + SEALED)  # sealed since it was listed
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                skipped["torn"] += 1
                return
            try:
                record = read_line(line)
            except UnknownSchema:
                skipped["schema"] += 1
            except ValueError:
                skipped["malformed"] += 1
            else:
                yield record


def _write_verdict(record: VerdictRecord) -> dict[str, Any]:
    teacher = record.teacher
    return {
        "schema": SCHEMA,
        "kind": "verdict",
        "at": write_time(record.at),
        "id": record.id,
        "index": record.index,
        "reasons": record.reasons,
        "role": record.role,
        "text": record.text,
        "text_key": record.text_key,
        "chars": record.chars,
        "windows": record.windows,
        "is_disguised": record.is_disguised,
        "policy": {"id": record.policy_id, "version": record.policy_version},
        "artifact": {"version": record.artifact_version, "hash": record.artifact_hash},
        "verdict": record.verdict,
        "decided_by": record.decided_by,
        "categories": record.categories,
        "student_scores": record.student_scores,
        "teacher": None if teacher is None else asdict(teacher),
    }


def _write_feedback(record: FeedbackRecord) -> dict[str, Any]:
    return {"schema": SCHEMA, "kind": "feedback"} | asdict(record) | {"at": write_time(record.at)}


def _read_verdict(fields: dict[str, Any]) -> VerdictRecord:
    scores = read_scores(fields["student_scores"])
    if len(scores) != len(CATEGORIES):
        raise ValueError("student_scores lack a category")
    return VerdictRecord(
        at=read_time(fields["at"]),
        id=read_a(str, fields["id"]),
        index=read_count(fields["index"]),
        reasons=read_some_of(Reason, fields["reasons"]),
        role=read_one_of(Role, fields["role"]),
        text=read_optional(str, fields["text"]),
        text_key=read_a(str, fields["text_key"]),
        chars=read_count(fields["chars"]),
        windows=read_count(fields["windows"]),
        is_disguised=read_a(bool, fields["is_disguised"]),
        policy_id=read_a(str, fields["policy"]["id"]),
        policy_version=read_a(str, fields["policy"]["version"]),
        artifact_version=read_a(str, fields["artifact"]["version"]),
        artifact_hash=read_a(str, fields["artifact"]["hash"]),
        verdict=read_one_of(Verdict, fields["verdict"]),
        decided_by=read_one_of(DecidedBy, fields["decided_by"]),
        categories=read_some_of(Category, fields["categories"]),
        student_scores=scores,
        teacher=None if fields["teacher"] is None else _teacher(fields["teacher"]),
    )


def _read_feedback(fields: dict[str, Any]) -> FeedbackRecord:
    return FeedbackRecord(
        at=read_time(fields["at"]),
        id=read_a(str, fields["id"]),
        index=read_count(fields["index"]),
        verdict=None if fields["verdict"] is None else read_one_of(Correction, fields["verdict"]),
        categories=read_some_of(Category, fields["categories"]),
        labels={read_one_of(Category, name): read_a(bool, given) for name, given in read_a(dict, fields["labels"]).items()},
        by=read_optional(str, fields["by"]),
        note=read_optional(str, fields["note"]),
        role=read_one_of(Role, fields.get("role", "user")),
        text=read_optional(str, fields.get("text")),
        text_key=read_optional(str, fields.get("text_key")),
    )


def _teacher(fields: dict[str, Any]) -> TeacherOpinion:
    return TeacherOpinion(
        outcome=read_one_of(EscalationOutcome, fields["outcome"]),
        scores=read_scores(fields["scores"]),
        basis=None if fields["basis"] is None else read_one_of(Basis, fields["basis"]),
        identity=read_a(str, fields["identity"]),
    )


_READERS: dict[str, Callable[[dict[str, Any]], Record]] = {"verdict": _read_verdict, "feedback": _read_feedback}
