"""What a client remembers of earlier answers: to ask again about them, and to notice when they change."""

import json
import random
from collections import deque
from dataclasses import replace
from typing import Any

from loadtest.scenario.exchange import CHECK_PATH, ESCALATION, FEEDBACK, Exchange

MAX_REMEMBERED = 256
SAME_SCORE = 0.01
"""Scores of one text by one artefact that are further apart are a mistake: another text's, say."""


class Memory:
    """Of one process. A text that comes again must get the scores that it got before."""

    def __init__(self) -> None:
        self._pending: deque[str] = deque(maxlen=MAX_REMEMBERED)
        self._answered: deque[tuple[str, str]] = deque(maxlen=MAX_REMEMBERED)
        self._scores: dict[tuple[int, str], list[dict[str, float]]] = {}

    def follow_up(self, asked: Exchange, rng: random.Random) -> Exchange | None:
        """``asked``, made to be about an earlier answer where its kind is; None if there is none yet."""
        if asked.kind == ESCALATION:
            # The newest: an old one may be past the time that its result is kept for.
            return replace(asked, path=asked.path.format(escalation_id=self._pending.pop())) if self._pending else None
        if asked.kind == FEEDBACK:
            if not self._answered:
                return None
            request_id, verdict = rng.choice(self._answered)
            # It agrees with the server, which does a log that somebody may learn from the least harm.
            return replace(asked, body=json.dumps({"id": request_id, "index": 0, "verdict": verdict}))
        return asked

    def note(self, index: int, asked: Exchange, answer: Any) -> str | None:
        """Remember a right answer.

        Args:
            index: which of the scenario's exchanges it is; it comes again.

        Returns:
            What is wrong with it beside an earlier one; None for nothing.
        """
        if asked.kind == ESCALATION and answer["outcome"] == "pending":
            self._pending.append(answer["id"])
        if asked.path != CHECK_PATH or not asked.is_check:
            return None
        results = answer["results"]
        self._pending.extend(result["escalation"]["id"] for result in results if is_pending(result))
        if (verdict := results[0]["verdict"]) != "review":  # nobody can agree with that
            self._answered.append((answer["id"], verdict))
        scores = [student_scores(result) for result in results]
        before = self._scores.setdefault((index, answer["artifact"]["hash"]), scores)
        is_same = all(
            was.keys() == now.keys() and all(abs(was[name] - now[name]) <= SAME_SCORE for name in was)
            for was, now in zip(before, scores, strict=True)
        )
        return None if is_same else f"{asked.kind}: other scores than before for the same text"


def is_pending(result: dict[str, Any]) -> bool:
    return result["escalation"] is not None and result["escalation"]["outcome"] == "pending"


def student_scores(result: dict[str, Any]) -> dict[str, float]:
    """What the student said, from before a teacher changed it."""
    return result["scores"] | (result["escalation"]["student_scores"] if result["escalation"] else {})
