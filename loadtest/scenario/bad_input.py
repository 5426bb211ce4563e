"""Requests that must be refused, each with the status and the code that are right for it."""

import json

from loadtest.scenario.exchange import BAD_INPUT, CHECK_PATH, MODERATIONS_PATH, Exchange

TOO_MANY_TEXTS = 5_000
"""Over the bound of any sensible server; the default is 256."""


def bad_inputs(*, needs_key: bool) -> list[Exchange]:
    """One of each kind. ``needs_key`` adds those of a client without a key."""
    found = [
        _refused(CHECK_PATH, '{"texts": [{"text": "never closed"', 400, "malformed_body"),
        _refused(CHECK_PATH, json.dumps([]), 400, "invalid_request"),
        _refused(CHECK_PATH, json.dumps({"texts": []}), 400, "invalid_request"),
        _refused(CHECK_PATH, json.dumps({"texts": [{"text": ""}]}), 400, "invalid_request"),
        _refused(CHECK_PATH, json.dumps({"texts": [{"text": "good morning", "role": "narrator"}]}), 400, "invalid_request"),
        _refused(CHECK_PATH, json.dumps({"texts": [{"txet": "good morning"}]}), 400, "invalid_request"),
        _refused(CHECK_PATH, json.dumps({"texts": [{"text": "hello"}], "policy": "no-such-policy"}), 400, "unknown_policy"),
        _refused(CHECK_PATH, json.dumps({"texts": [{"text": "a"}] * TOO_MANY_TEXTS}), 413, "too_large"),
        _refused(CHECK_PATH, "good morning", 415, "unsupported_media_type", {"Content-Type": "text/plain"}),
        _refused(CHECK_PATH, json.dumps({"texts": [{"text": "hello"}]}), 400, "invalid_request", {"X-Request-Timeout-S": "-1"}),
        _refused(MODERATIONS_PATH, json.dumps({"input": 7}), 400, "invalid_request"),
        _refused(MODERATIONS_PATH, json.dumps({"input": [{"type": "image_url", "image_url": {}}]}), 400, "invalid_request"),
        _refused(MODERATIONS_PATH, json.dumps({"input": ["good", {"type": "text", "text": "mixed"}]}), 400, "invalid_request"),
        Exchange(BAD_INPUT, "GET", CHECK_PATH, status=405, code="method_not_allowed"),
        Exchange(BAD_INPUT, "GET", "/v1/no-such-route", status=404, code="not_found"),
    ]
    if needs_key:
        body = json.dumps({"texts": [{"text": "hello"}]})
        found.append(Exchange(BAD_INPUT, "POST", CHECK_PATH, body, status=401, code="unauthorized", has_key=False))
        body = json.dumps({"input": "hello"})
        found.append(Exchange(BAD_INPUT, "POST", MODERATIONS_PATH, body, status=401, code="invalid_api_key", has_key=False))
    return found


def _refused(path: str, body: str, status: int, code: str, headers: dict[str, str] | None = None) -> Exchange:
    return Exchange(BAD_INPUT, "POST", path, body, status=status, code=code, headers=headers or {})
