"""From an OpenAI-compatible reply to answers: how much likelier the teacher's first token is Yes than No.

Shapes that are read, by ``choices[i]``::

    vLLM, OpenAI completions   logprobs.top_logprobs[0]             {token: logprob}
    llama.cpp, any chat reply  logprobs.content[0].top_logprobs     [{"token", "logprob"}]
    llama.cpp, post-sampling   logprobs.content[0].top_probs        [{"token", "prob"}]
    no logprobs                text, or message.content             "Yes…" or "No…"
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.core.prompt import ANSWERS
from server.core.types import Basis
from server.teacher.teacher import TeacherUnavailable

HARD_MARGIN = 4.0
"""The margin of a Yes that comes without logprobs (a No's is its negative): odds of 55 to 1, sure but not certain."""

_LEAST_PROB = 1.4e-45
"""The smallest positive float32: stands for a probability that was rounded to 0."""

_LEAST_LOGPROB = math.log(_LEAST_PROB)

LEAST_MASS = 0.01
"""Yes and No together: where the teacher holds both for less likely than this, it was about to say something else."""

_LEAST_REST = 2.0**-24
"""Half a float32's resolution at 1: what the listed probabilities leave over is not known any better."""

_YES, _NO = (answer.lower() for answer in ANSWERS)
_SPACE_MARKS = " \t\n\u2581\u0120"  # plain, SentencePiece's ▁, byte-level BPE's Ġ
_TEXT_ANSWER = re.compile(rf"\W*({_YES}|{_NO})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """One prompt's. ``margin`` is finite: logit(Yes) − logit(No), or ±:data:`HARD_MARGIN` where the basis is ``answer``."""

    margin: float
    basis: Basis


def read_answers(reply: Any, *, count: int) -> list[Answer]:
    """One answer per choice, in the order of the choices' ``index``.

    Args:
        reply: the reply's JSON.
        count: how many prompts were asked.

    Raises:
        TeacherUnavailable: outcome ``error``: another number of choices, or one that says neither Yes nor No, which the
            text may have brought about and is not the teacher's fault. The message holds nothing of the reply.
    """
    try:
        choices = sorted(reply["choices"], key=lambda choice: choice["index"])
        indices = [choice["index"] for choice in choices]
        if indices != list(range(count)):
            raise TeacherUnavailable("error", f"the teacher gave {len(indices)} answers to {count} questions")
        found = [_answer(choice) for choice in choices]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        raise TeacherUnavailable("error", "the teacher's answer is malformed") from None
    if not all(math.isfinite(answer.margin) for answer in found):
        raise TeacherUnavailable("error", "the teacher's answer has a logprob that is not a number")
    return found


def _answer(choice: Mapping[str, Any]) -> Answer:
    listed = _first_token(choice.get("logprobs") or {})
    return Answer(_from_logprobs(listed), "logprobs") if listed else Answer(_from_text(choice), "answer")


def _first_token(logprobs: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(token, logprob) of the first position's candidates; empty if the reply lists none."""
    if content := logprobs.get("content"):
        first = content[0]
        if "top_probs" in first:
            return [(entry["token"], math.log(max(entry["prob"], _LEAST_PROB))) for entry in first["top_probs"]]
        return [(entry["token"], max(entry["logprob"], _LEAST_LOGPROB)) for entry in first.get("top_logprobs") or ()]
    if top := logprobs.get("top_logprobs"):
        return [(token, max(logprob, _LEAST_LOGPROB)) for token, logprob in top[0].items()]
    return []


def _from_logprobs(listed: list[tuple[str, float]]) -> float:
    """logprob(Yes) − logprob(No), each over its variants in case and leading space.

    An answer that isn't listed is at most as likely as the least likely candidate that is, and as what all of them leave over:
    the lesser stands in for it. Where the answer given is listed alone, the second bound is the only one that says anything.
    """
    if any(math.isnan(logprob) for _, logprob in listed):
        return math.nan
    variants: dict[str, list[float]] = {_YES: [], _NO: []}
    for token, logprob in listed:
        answer = token.strip(_SPACE_MARKS).lower()
        if answer in variants:
            variants[answer].append(logprob)
    if sum(math.exp(logprob) for logprobs in variants.values() for logprob in logprobs) < LEAST_MASS:
        raise TeacherUnavailable(
            "error", "the teacher has neither Yes nor No among its likely answers", is_teachers_fault=False
        )
    rest = 1.0 - sum(math.exp(logprob) for _, logprob in listed)
    unlisted = min(math.log(max(rest, _LEAST_REST)), *(logprob for _, logprob in listed))
    return _logsumexp(variants[_YES] or [unlisted]) - _logsumexp(variants[_NO] or [unlisted])


def _logsumexp(values: list[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def _from_text(choice: Mapping[str, Any]) -> float:
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    match = _TEXT_ANSWER.match(text)
    if not match:
        raise TeacherUnavailable("error", "the teacher answered neither Yes nor No", is_teachers_fault=False)
    return HARD_MARGIN if match.group(1).lower() == _YES else -HARD_MARGIN
