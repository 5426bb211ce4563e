"""Is it the right answer? Every reply is read whole and held against what was asked."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from loadtest.scenario.exchange import CHECK_PATH, ESCALATION, FEEDBACK, MODERATIONS_PATH, Exchange

Outcome = Literal["ok", "shed", "limited", "expired", "failed", "wrong", "lost", "unanswered"]
"""``ok`` is the right answer, a refusal that was due included. ``shed``, ``limited``, ``expired`` and ``failed`` are the
server's own words for 503, 429, 504 and 5xx. ``wrong`` is an answer that isn't what it must be, ``lost`` a connection that
ended without one, ``unanswered`` a request that was given up."""

OUTCOMES: tuple[Outcome, ...] = ("ok", "shed", "limited", "expired", "failed", "wrong", "lost", "unanswered")

_REFUSALS: dict[int, Outcome] = {503: "shed", 429: "limited", 504: "expired"}
_NO_TEACHER_NEEDED = ("student", "teacher")


@dataclass(frozen=True, slots=True)
class Reply:
    """``headers`` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Judged:
    """``complaint`` says what is wrong, in words of ours; ``answer`` is what a right one held, as JSON."""

    outcome: Outcome
    complaint: str | None = None
    answer: Any = None


class _Wrong(ValueError):
    """Says what is wrong with an answer."""


def judge(asked: Exchange, reply: Reply, request_id: str) -> Judged:
    """``request_id`` is the id that the request was sent with."""
    try:
        _must(reply.headers.get("x-request-id") == request_id, "the header doesn't echo the request's id")
        answer = _parse(reply.body)
        if reply.status != asked.status:
            return _refused(asked, reply, answer, request_id)
        if asked.code is not None:
            code = _read_envelope(answer, request_id)
            _must(code == asked.code, f"code {code} where {asked.code} is due")
        else:
            _READERS[_form(asked)](asked, answer, request_id)
    except _Wrong as wrong:
        return Judged("wrong", f"{asked.kind}: {wrong}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return Judged("wrong", f"{asked.kind}: {type(error).__name__} in the answer's form")
    return Judged("ok", answer=answer)


def _refused(asked: Exchange, reply: Reply, answer: Any, request_id: str) -> Judged:
    """Another status than the right one: an honest refusal, or an answer that must not be."""
    code = _read_envelope(answer, request_id)
    complaint = f"{asked.kind}: status {reply.status} ({code})"
    if reply.status in (429, 503) and code != "shutting_down":
        _must(reply.headers.get("retry-after", "").isdigit(), f"status {reply.status} without Retry-After")
    if reply.status in _REFUSALS:
        return Judged(_REFUSALS[reply.status], complaint)
    return Judged("failed" if reply.status >= 500 else "wrong", complaint)


def _form(asked: Exchange) -> str:
    return asked.kind if asked.kind in _READERS else asked.path


def _read_check(asked: Exchange, answer: Any, request_id: str) -> None:
    _must(answer["id"] == request_id, "another request's id")
    _read_version(answer)
    _must(all(_is_duration(value) for value in answer["timings"].values()), "a timing that is none")
    _must_be_as_many(answer["results"], asked)
    for result, chars in zip(answer["results"], asked.text_chars, strict=True):
        _read_result(result, chars)


def _read_moderation(asked: Exchange, answer: Any, request_id: str) -> None:
    _must(answer["id"] == f"modr-{request_id}", "another request's id")
    _read_version(answer["stillguard"])
    _must_be_as_many(answer["results"], asked)
    for result, chars in zip(answer["results"], asked.text_chars, strict=True):
        inner = result["stillguard"]
        _read_result(inner, chars)
        categories, scores = result["categories"], result["category_scores"]
        _must(categories.keys() == scores.keys() and len(scores) > 0, "categories and scores that don't match")
        _must_be_scores(scores)
        _must(result["flagged"] is (inner["verdict"] != "allow"), "flagged against the verdict")
        _must(bool(inner["categories"]) or not any(categories.values()), "a category is true, and none is violated")


def _read_escalation(_asked: Exchange, answer: Any, _request_id: str) -> None:
    _must((answer["result"] is None) == (answer["outcome"] == "pending"), "a result while it is pending, or none after")
    if answer["result"] is not None:
        _must(answer["result"]["escalation"]["outcome"] == answer["outcome"], "two outcomes")
        _read_result(answer["result"], None)


def _read_feedback(_asked: Exchange, answer: Any, _request_id: str) -> None:
    _must(bool(answer["id"]) and answer["index"] == 0, "another verdict's id")


_READERS = {
    CHECK_PATH: _read_check,
    MODERATIONS_PATH: _read_moderation,
    ESCALATION: _read_escalation,
    FEEDBACK: _read_feedback,
}


def _read_result(result: Any, chars: int | None) -> None:
    """One text's result; ``chars`` is the text's length where it is known."""
    verdict, violated, scores = result["verdict"], result["categories"], result["scores"]
    _must(verdict in ("allow", "review", "block"), "a verdict that is none")
    _must(result["decided_by"] in ("student", "teacher", "student_degraded"), "decided by nobody known")
    _must(len(scores) > 0 and set(violated) <= scores.keys(), "a violated category without a score")
    _must_be_scores(scores)
    # Without the teacher that it wanted, the policy may say anything.
    if result["decided_by"] in _NO_TEACHER_NEEDED:
        _must(verdict == ("block" if violated else "allow"), "a verdict against the violated categories")
    escalation = result["escalation"]
    _must(escalation is not None or result["decided_by"] == "student", "decided by a teacher that wasn't asked")
    if escalation is not None:
        _must((escalation["id"] is not None) == (escalation["outcome"] == "pending"), "an escalation's id out of place")
    _must(result["windows"] >= 1, "a text in no window")
    _must(chars is None or result["scanned_chars"] == chars, "a text that wasn't read whole")


def _read_version(answer: Any) -> None:
    _must(all(answer["artifact"][name] for name in ("version", "hash", "precision")), "an artefact without a name")
    _must(all(answer["policy"][name] for name in ("id", "version")), "a policy without a name")


def _read_envelope(answer: Any, request_id: str) -> str:
    """An error's code."""
    _must(answer["id"] == request_id, "another request's id")
    error = answer["error"]
    _must(all(isinstance(error[name], str) and error[name] for name in ("message", "type", "code")), "an error without a name")
    return error["code"]


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise _Wrong("the answer isn't JSON") from None


def _must_be_as_many(results: Any, asked: Exchange) -> None:
    _must(len(results) == len(asked.text_chars), f"{len(results)} results for {len(asked.text_chars)} texts")


def _must_be_scores(scores: Mapping[str, Any]) -> None:
    _must(
        all(isinstance(score, int | float) and math.isfinite(score) and 0 <= score <= 1 for score in scores.values()),
        "scores that aren't finite probabilities",
    )


def _is_duration(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0


def _must(is_right: bool, complaint: str) -> None:
    if not is_right:
        raise _Wrong(complaint)
