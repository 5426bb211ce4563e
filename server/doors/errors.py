"""How a request's failure looks on the wire: one table, one envelope, on every route.

The envelope is OpenAI's, with the request's id beside it::

    {"error": {"message": "…", "type": "invalid_request_error", "code": "too_large", "param": "texts[0].text"}, "id": "…"}

An unknown policy is 400, not 404: the route exists, the field is wrong. Messages are ours and never quote the request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from server.core.errors import (
    ClassifierFailed,
    DeadlineExceeded,
    InvalidRequest,
    QueueFull,
    RequestError,
    ShuttingDown,
    TextTooLarge,
    UnknownPolicy,
)
from server.core.types import Outcome

ErrorType = Literal["invalid_request_error", "overloaded_error", "timeout_error", "server_error"]

UNEXPECTED_MESSAGE = "unexpected error; the server's log has more under this id"


class MalformedBody(InvalidRequest):
    """The body isn't JSON in UTF-8."""

    code = "malformed_body"


class UnsupportedMediaType(InvalidRequest):
    """The body says that it is something else than JSON."""

    code = "unsupported_media_type"


@dataclass(frozen=True, slots=True)
class Reply:
    """How one class of errors is answered and counted."""

    status: int
    type: ErrorType
    outcome: Outcome
    meaning: str


ERROR_TABLE: dict[type[RequestError], Reply] = {
    InvalidRequest: Reply(400, "invalid_request_error", "invalid", "a field is missing, misspelt or of the wrong kind"),
    UnknownPolicy: Reply(400, "invalid_request_error", "invalid", "no policy has that id"),
    MalformedBody: Reply(400, "invalid_request_error", "invalid", "the body isn't JSON in UTF-8"),
    TextTooLarge: Reply(413, "invalid_request_error", "invalid", "a text, a list or the body is over a bound"),
    UnsupportedMediaType: Reply(415, "invalid_request_error", "invalid", "the content type isn't JSON"),
    RequestError: Reply(500, "server_error", "failed", "the request could not be answered"),
    ClassifierFailed: Reply(500, "server_error", "failed", "the model failed on this text"),
    QueueFull: Reply(503, "overloaded_error", "shed", "too much waits; try again after Retry-After seconds"),
    ShuttingDown: Reply(503, "overloaded_error", "shed", "this replica no longer admits work"),
    DeadlineExceeded: Reply(504, "timeout_error", "expired", "the deadline passed before an answer"),
}
"""An error is answered as its nearest ancestor in this table."""


class ErrorBody(BaseModel):
    message: str
    type: ErrorType
    code: str
    param: str | None


class ErrorReply(BaseModel):
    """The envelope of every error."""

    error: ErrorBody
    id: str


def reply_for(error: RequestError) -> Reply:
    return next(ERROR_TABLE[ancestor] for ancestor in type(error).__mro__ if ancestor in ERROR_TABLE)


def error_response(error: RequestError, request_id: str) -> Response:
    reply = reply_for(error)
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, QueueFull) else None
    body = ErrorBody(message=str(error), type=reply.type, code=error.code, param=error.param)
    return _envelope(reply.status, body, request_id, headers)


def unexpected_response(request_id: str) -> Response:
    """For an error that nobody foresaw: a fixed text, so that nothing of the request gets out."""
    body = ErrorBody(message=UNEXPECTED_MESSAGE, type="server_error", code="internal_error", param=None)
    return _envelope(500, body, request_id)


async def on_http_exception(request: Request, error: HTTPException) -> Response:
    """The router's own refusals: no such route, or not with this method."""
    status = HTTPStatus(error.status_code)
    kind: ErrorType = "invalid_request_error" if status < 500 else "server_error"
    body = ErrorBody(message=status.phrase, type=kind, code=status.name.lower(), param=None)
    return _envelope(status, body, request.state.request_id, error.headers)


async def on_unexpected(request: Request, _error: Exception) -> Response:
    """What escapes a route that is no door; the framework raises it on, so the log has it too."""
    return unexpected_response(request.state.request_id)


def openapi_responses() -> dict[int | str, dict[str, Any]]:
    """The table as OpenAPI reads it."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error, reply in ERROR_TABLE.items():
        meaning = f"`{error.code}`: {reply.meaning}"
        known = responses.setdefault(reply.status, {"model": ErrorReply, "description": ""})
        known["description"] = "; ".join(filter(None, [known["description"], meaning]))
    return responses


def _envelope(status: int, body: ErrorBody, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    content = ErrorReply(error=body, id=request_id).model_dump_json()
    return Response(content, status, headers, "application/json")
