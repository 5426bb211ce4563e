"""A door that gives right answers to ``POST /v1/check``, unless a script says what comes first."""

import json
from collections.abc import Callable
from typing import Any

import httpx

from tests.unit.loadtest.answers import ARTIFACT, CHECK, RESULT, error

Reply = Callable[[httpx.Request], httpx.Response]


class VerdictDoor:
    """Blocks a text that says ``hate`` and allows any other; a text that is a key of ``troubles`` spoils its whole request.

    Give :attr:`client` to whoever asks. ``script`` is what the first requests get instead of answers.
    """

    def __init__(self, *script: Reply, troubles: dict[str, Reply] | None = None) -> None:
        self._script = list(script)
        self._troubles = troubles or {}
        self.bodies: list[dict[str, Any]] = []
        self.artifact = ARTIFACT
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer), base_url="http://guard")

    @property
    def texts(self) -> list[list[str]]:
        """What each request asked about."""
        return [[item["text"] for item in body["texts"]] for body in self.bodies]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/check"
        body = json.loads(request.content)
        self.bodies.append(body)
        if self._script:
            return self._script.pop(0)(request)
        for item in body["texts"]:
            if item["text"] in self._troubles:
                return self._troubles[item["text"]](request)
        request_id = request.headers["x-request-id"]
        results = [_result(item["text"]) for item in body["texts"]]
        answer = CHECK | {"id": request_id, "results": results, "artifact": self.artifact}
        return httpx.Response(200, json=answer, headers={"x-request-id": request_id})


def _result(text: str) -> dict[str, Any]:
    is_hate = "hate" in text
    return RESULT | {
        "verdict": "block" if is_hate else "allow",
        "categories": ["hate"] if is_hate else [],
        "scores": {"harassment": 0.1, "hate": 0.9 if is_hate else 0.1},
        "scanned_chars": len(text),
    }


def refusal(status: int, code: str, **headers: str) -> Reply:
    """An error in the server's envelope; ``retry_after="3"`` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: httpx.Response(status, json=error(code), headers=named)


def hang_up(request: httpx.Request) -> httpx.Response:
    raise httpx.RemoteProtocolError("ended without an answer", request=request)
