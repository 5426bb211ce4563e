"""One table for every error: status, type and outcome, by the nearest ancestor."""

from typing import get_args

import msgspec
import pytest

from server.core import errors
from server.core.types import ErrorCode, Outcome
from server.doors.errors import (
    ERROR_TABLE,
    BodyTooSlow,
    MalformedBody,
    RateLimited,
    Unauthorized,
    UnsupportedMediaType,
    error_envelope,
    error_headers,
    openapi_responses,
    reply_for,
)


class Novel(errors.QueueFull):
    """An error that the table doesn't list."""


@pytest.mark.parametrize(
    ("error", "status", "kind", "outcome"),
    [
        (errors.InvalidRequest("m"), 400, "invalid_request_error", "invalid"),
        (errors.UnknownPolicy("m"), 400, "invalid_request_error", "invalid"),
        (MalformedBody("m"), 400, "invalid_request_error", "invalid"),
        (BodyTooSlow("m"), 408, "timeout_error", "invalid"),
        (errors.TextTooLarge("m"), 413, "invalid_request_error", "invalid"),
        (UnsupportedMediaType("m"), 415, "invalid_request_error", "invalid"),
        (Unauthorized("m"), 401, "authentication_error", "unauthorized"),
        (RateLimited("m", retry_after_s=1), 429, "rate_limit_error", "limited"),
        (errors.ClassifierFailed("m"), 500, "server_error", "failed"),
        (errors.QueueFull("m"), 503, "overloaded_error", "shed"),
        (Novel("m"), 503, "overloaded_error", "shed"),
        (errors.ShuttingDown("m"), 503, "overloaded_error", "shed"),
        (errors.DeadlineExceeded("m"), 504, "timeout_error", "expired"),
        (errors.RequestError("m"), 500, "server_error", "failed"),
    ],
)
def test_each_error_has_its_reply(error, status, kind, outcome: Outcome):
    reply = reply_for(error)
    assert (reply.status, reply.type, reply.outcome) == (status, kind, outcome)


def test_the_envelope_is_openais_with_the_id_beside_it():
    envelope = error_envelope(errors.TextTooLarge("over", param="texts[0].text"), "r1")
    assert msgspec.to_builtins(envelope) == {
        "error": {"message": "over", "type": "invalid_request_error", "code": "too_large", "param": "texts[0].text"},
        "id": "r1",
    }


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.QueueFull("full", retry_after_s=7), [(b"retry-after", b"7")]),
        (RateLimited("over", retry_after_s=2), [(b"retry-after", b"2")]),
        (Unauthorized("who"), [(b"www-authenticate", b"Bearer")]),
        (errors.TextTooLarge("over"), []),
        (errors.ShuttingDown("down"), []),
    ],
)
def test_the_head_says_when_to_come_back_or_how_to_say_who_one_is(error, headers):
    assert error_headers(error) == headers


def test_openapi_lists_every_code_under_its_status():
    responses = openapi_responses({"$ref": "there"}, ERROR_TABLE, codes={"unauthorized": "who_goes_there"})
    assert set(responses) == {400, 401, 408, 413, 415, 429, 500, 503, 504}
    assert "`queue_full`" in responses[503]["description"]
    assert "`shutting_down`" in responses[503]["description"]
    assert "`who_goes_there`" in responses[401]["description"]
    assert responses[429]["content"] == {"application/json": {"schema": {"$ref": "there"}}}
    assert {status: list(responses[status].get("headers", ())) for status in (400, 401, 429, 503)} == {
        400: [],
        401: ["WWW-Authenticate"],
        429: ["Retry-After"],
        503: ["Retry-After"],
    }


def test_openapi_lists_what_it_is_asked_for():
    assert set(openapi_responses({}, (errors.QueueFull, Unauthorized))) == {401, 503}


def test_every_code_is_one_that_is_counted():
    assert {error.code for error in ERROR_TABLE} | {"internal_error"} == set(get_args(ErrorCode))
