"""One table for every error: status, type and outcome, by the nearest ancestor."""

import json

import pytest

from server.core import errors
from server.core.types import Outcome
from server.doors.errors import (
    MalformedBody,
    UnsupportedMediaType,
    error_response,
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
        (errors.TextTooLarge("m"), 413, "invalid_request_error", "invalid"),
        (UnsupportedMediaType("m"), 415, "invalid_request_error", "invalid"),
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
    response = error_response(errors.TextTooLarge("over", param="texts[0].text"), "r1")
    assert response.status_code == 413
    assert json.loads(response.body) == {
        "error": {"message": "over", "type": "invalid_request_error", "code": "too_large", "param": "texts[0].text"},
        "id": "r1",
    }
    assert "retry-after" not in response.headers


def test_only_a_full_queue_says_when_to_come_back():
    assert error_response(errors.QueueFull("full", retry_after_s=7), "r1").headers["retry-after"] == "7"


def test_openapi_lists_every_code_under_its_status():
    responses = openapi_responses()
    assert set(responses) == {400, 413, 415, 500, 503, 504}
    assert "`queue_full`" in responses[503]["description"]
    assert "`shutting_down`" in responses[503]["description"]
