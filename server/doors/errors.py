"""How a request's failure looks on the wire: one table, one envelope.

The envelope is OpenAI's, with the request's id beside it::

    {"error": {"message": "…", "type": "invalid_request_error", "code": "too_large", "param": "texts[0].text"}, "id": "…"}

An unknown policy is 400, not 404: the route exists, the field is wrong. Messages are ours and never quote the request.
A route whose format has names or a shape of its own for errors gives them in its dialect.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import msgspec
from fastapi import Request, Response
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
from server.core.types import ErrorCode, Outcome

ErrorType = Literal[
    "invalid_request_error", "authentication_error", "rate_limit_error", "overloaded_error", "timeout_error", "server_error"
]

UNEXPECTED_MESSAGE = "unexpected error; the server's log has more under this id"


class MalformedBody(InvalidRequest):
    """The body isn't JSON in UTF-8."""

    code: ClassVar[ErrorCode] = "malformed_body"


class UnsupportedMediaType(InvalidRequest):
    """The body says that it is something else than JSON."""

    code: ClassVar[ErrorCode] = "unsupported_media_type"


class BodyTooSlow(RequestError):
    """The body wasn't there in time, which is the client's doing or the network's: no failure of ours."""

    code: ClassVar[ErrorCode] = "body_too_slow"


class Unauthorized(RequestError):
    """No API key, or none that is known."""

    code: ClassVar[ErrorCode] = "unauthorized"


class RateLimited(RequestError):
    """This key's requests come faster than it may send them. ``retry_after_s`` is a whole number of seconds, at least 1."""

    code: ClassVar[ErrorCode] = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


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
    Unauthorized: Reply(401, "authentication_error", "unauthorized", "the API key is missing or not known"),
    BodyTooSlow: Reply(408, "timeout_error", "invalid", "the body didn't come in time"),
    TextTooLarge: Reply(413, "invalid_request_error", "invalid", "a text, a list or the body is over a bound"),
    UnsupportedMediaType: Reply(415, "invalid_request_error", "invalid", "the content type isn't JSON"),
    RateLimited: Reply(429, "rate_limit_error", "limited", "the key is over its rate; try again after Retry-After seconds"),
    RequestError: Reply(500, "server_error", "failed", "the request could not be answered"),
    ClassifierFailed: Reply(500, "server_error", "failed", "the model failed on this text"),
    QueueFull: Reply(503, "overloaded_error", "shed", "too much waits; try again after Retry-After seconds"),
    ShuttingDown: Reply(503, "overloaded_error", "shed", "this replica no longer admits work"),
    DeadlineExceeded: Reply(504, "timeout_error", "expired", "the deadline passed before an answer"),
}
"""An error is answered as its nearest ancestor in this table."""


class ErrorBody(msgspec.Struct):
    message: str
    type: str
    code: str
    param: str | None


class ErrorReply(msgspec.Struct):
    """The envelope of every error."""

    error: ErrorBody
    id: str


def reply_for(error: RequestError) -> Reply:
    return next(ERROR_TABLE[ancestor] for ancestor in type(error).__mro__ if ancestor in ERROR_TABLE)


def error_envelope(error: RequestError, request_id: str) -> ErrorReply:
    body = ErrorBody(message=str(error), type=reply_for(error).type, code=error.code, param=error.param)
    return ErrorReply(body, request_id)


def error_headers(error: RequestError) -> list[tuple[bytes, bytes]]:
    """What the reply's head adds: when to come back, or how to say who one is."""
    if isinstance(error, QueueFull | RateLimited):
        return [(b"retry-after", b"%d" % error.retry_after_s)]
    if isinstance(error, Unauthorized):
        return [(b"www-authenticate", b"Bearer")]
    return []


def unexpected_envelope(request_id: str) -> ErrorReply:
    """For an error that nobody foresaw: a fixed text, so that nothing of the request gets out."""
    return ErrorReply(ErrorBody(UNEXPECTED_MESSAGE, "server_error", "internal_error", None), request_id)


def status_envelope(status: HTTPStatus, request_id: str) -> ErrorReply:
    """For a refusal that HTTP itself has a name for: no such route, a head that is too large."""
    kind: ErrorType = "invalid_request_error" if status < 500 else "server_error"
    return ErrorReply(ErrorBody(status.phrase, kind, status.name.lower(), None), request_id)


def error_response(error: RequestError, request: Request) -> Response:
    """An error on a route that is no door. Counted by ``app.state.metrics``, as a door counts its own."""
    request.app.state.metrics.refused(error.code)
    headers = {name.decode("ascii"): value.decode("ascii") for name, value in error_headers(error)}
    content = msgspec.json.encode(error_envelope(error, request.state.request_id))
    return Response(content, reply_for(error).status, headers, "application/json")


async def on_http_exception(request: Request, error: HTTPException) -> Response:
    """The router's own refusals: no such route, or not with this method. Counted by ``app.state.metrics``."""
    status = HTTPStatus(error.status_code)
    request.app.state.metrics.turned_away(status)
    content = msgspec.json.encode(status_envelope(status, request.state.request_id))
    return Response(content, status, error.headers, "application/json")


async def on_unexpected(request: Request, _error: Exception) -> Response:
    """What escapes a route that is no door, counted like the rest; the framework raises it on, so the log has it too."""
    request.app.state.metrics.refused("internal_error")
    content = msgspec.json.encode(unexpected_envelope(request.state.request_id))
    return Response(content, 500, media_type="application/json")


_RETRY_AFTER = {"Retry-After": {"description": "Seconds until it is worth another try.", "schema": {"type": "integer"}}}
_WWW_AUTHENTICATE = {"WWW-Authenticate": {"description": "How to say who one is.", "schema": {"type": "string"}}}


def openapi_responses(
    schema: Mapping[str, Any], errors: Iterable[type[RequestError]], *, codes: Mapping[str, str] = MappingProxyType({})
) -> dict[int | str, dict[str, Any]]:
    """Those rows of the table as OpenAPI reads them, each body of the form of ``schema``; ``codes`` has those of our codes
    that the route calls otherwise."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        reply = ERROR_TABLE[error]
        known = responses.setdefault(reply.status, {"description": "", "content": {"application/json": {"schema": schema}}})
        meaning = f"`{codes.get(error.code, error.code)}`: {reply.meaning}"
        known["description"] = "; ".join(filter(None, [known["description"], meaning]))
        if issubclass(error, QueueFull | RateLimited):
            known["headers"] = _RETRY_AFTER
        elif issubclass(error, Unauthorized):
            known["headers"] = _WWW_AUTHENTICATE
    if 500 in responses:
        responses[500]["description"] += "; `internal_error`: nobody foresaw this"
    return responses
