"""Right answers, as the server gives them, to be spoilt."""

import json
from typing import Any

from loadtest.scenario.exchange import ESCALATION, Exchange
from loadtest.scenario.judge import Judged, Reply, judge

ID = "0123456789abcdef"
SCORES = {"harassment": 0.9, "hate": 0.1}
RESULT = {
    "verdict": "block",
    "decided_by": "student",
    "categories": ["harassment"],
    "scores": SCORES,
    "windows": 1,
    "scanned_chars": 5,
    "escalation": None,
}
ARTIFACT = {"version": "1", "hash": "ab", "precision": "int8"}
POLICY = {"id": "default", "version": "1"}
CHECK = {
    "id": ID,
    "artifact": ARTIFACT,
    "policy": POLICY,
    "results": [RESULT],
    "timings": {"encode_s": 0.1, "queue_s": 0, "infer_s": 0.1, "teacher_s": 0.0, "total_s": 0.2},
}
MODERATION = {
    "id": f"modr-{ID}",
    "model": "stillguard-1",
    "results": [
        {
            "flagged": True,
            "categories": {"harassment": True, "sexual/minors": False},
            "category_scores": {"harassment": 0.9, "sexual/minors": 0.0},
            "category_applied_input_types": {},
            "stillguard": RESULT,
        }
    ],
    "stillguard": {"artifact": ARTIFACT, "policy": POLICY},
}
ESCALATED = {
    "outcome": "answered",
    "latency_s": 0.2,
    "scores": {"hate": 0.1},
    "student_scores": {"hate": 0.5},
    "basis": "logprobs",
    "id": None,
}
PENDING = {"outcome": "pending", "latency_s": 0, "scores": {}, "student_scores": {}, "basis": None, "id": "e1"}
POLLED = {"id": "e1", "outcome": "answered", "result": RESULT | {"decided_by": "teacher", "escalation": ESCALATED}}

ASK_CHECK = Exchange("check short", "POST", "/v1/check", '{"texts":[{"text":"idiot"}]}', (5,))
ASK_MODERATION = Exchange("moderations short", "POST", "/v1/moderations", '{"input":"idiot"}', (5,))
ASK_POLL = Exchange(ESCALATION, "GET", "/v1/escalations/e1")


def error(code: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": "a message", "type": "a_type", "code": code, "param": None} | fields, "id": ID}


def judged(asked: Exchange, answer: Any, *, status: int = 200, **headers: str) -> Judged:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return judge(asked, Reply(status, {"x-request-id": ID} | headers, body), ID)


def spoilt(answer: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at ``path``, as in ``results.0.verdict``."""
    copy = json.loads(json.dumps(answer))
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = copy
    for part in parents:
        place = place[part]
    place[last] = value
    return copy
