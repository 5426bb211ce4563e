"""``POST /v1/feedback``: a moderator corrects a verdict by its id.

A note, and the text itself, are user text: they are taken only where the server keeps texts, and go nowhere but to the log.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import Meta, Struct

from server.core.errors import InvalidRequest, QueueFull, RequestError, TextTooLarge
from server.core.feedback import Correction
from server.core.shared_bound import SharedBound
from server.core.taxonomy import CATEGORIES, Category
from server.core.types import Text
from server.doors.body import read_body
from server.doors.door import DoorLimits, check_texts
from server.doors.errors import (
    BodyTooSlow,
    ErrorBody,
    ErrorReply,
    MalformedBody,
    RateLimited,
    Unauthorized,
    UnsupportedMediaType,
    error_response,
    openapi_responses,
)
from server.doors.exchange import ClientGone
from server.doors.front import reference, request_body
from server.doors.keys import KeyRing
from server.doors.openai import ID_PREFIX
from server.doors.wire import BodyReader

PATH = "/v1/feedback"
NOTE_MAX_CHARS = 2_000
_HINTS = {
    "verdict": "must be allow or block",
    "index": "must be a whole number from 0 on: which text of the request",
    "note": f"must be of at most {NOTE_MAX_CHARS} characters",
}

Labels = msgspec.defstruct(
    "Labels",
    [(category, bool | None, None) for category in CATEGORIES],
    namespace={"__doc__": "Per category whether the text violates it; one left out is no opinion."},
    forbid_unknown_fields=True,
)


class FeedbackRequest(Struct, forbid_unknown_fields=True):
    """One correction: ``verdict`` or ``labels``, or both."""

    id: Annotated[str, Meta(min_length=1, description="Of the reply that held the verdict: its `id`, or `X-Request-Id`.")]
    index: Annotated[int, Meta(ge=0, description="Which text of that request.")] = 0
    verdict: Annotated[Correction | None, Meta(description="What it should have been.")] = None
    labels: Labels | None = None  # type: ignore[valid-type] # made of the taxonomy, above
    note: Annotated[str, Meta(max_length=NOTE_MAX_CHARS)] | None = None
    text: Annotated[str, Meta(min_length=1)] | None = None


class FeedbackReply(Struct):
    """The correction is on its way to the log."""

    id: str
    index: int


class Corrections(Protocol):
    """What the door needs of the feedback log: :class:`server.feedback.log.FeedbackLog`."""

    keeps_text: bool

    def correct(
        self,
        request_id: str,
        index: int,
        *,
        verdict: Correction | None,
        labels: Mapping[Category, bool],
        by: str | None,
        note: str | None,
        text: str | None,
    ) -> bool: ...


def field_schemas(limits: DoorLimits) -> dict[str, dict[str, Any]]:
    """The bound that the text is held to, for OpenAPI."""
    return {"FeedbackRequest": {"text": {"maxLength": limits.max_text_chars}}}


def feedback_router(
    corrections: Corrections | None, *, limits: DoorLimits, half_sent: SharedBound, keys: KeyRing | None
) -> APIRouter:
    """``corrections`` None: the log is off, and the route says so; ``keys`` None lets everybody correct."""
    router = APIRouter()
    body_reader = BodyReader(FeedbackRequest, hints=_HINTS)

    async def take(request: Request) -> Response:
        headers = dict(request.scope["headers"])
        by = None if keys is None else keys.admit(headers)
        if corrections is None:
            return _refusal(409, "feedback_off", "this server keeps no feedback log: feedback_dir is not set", request)
        body = await read_body(
            request.receive,
            announced=headers.get(b"content-length"),
            max_bytes=limits.max_body_bytes,
            timeout_s=limits.request_timeout_s,
            half_sent=half_sent,
        )
        asked = body_reader.read(body, headers)
        labels = {category: given for category in CATEGORIES if (given := getattr(asked.labels, category, None)) is not None}
        if asked.verdict is None and not labels:
            raise InvalidRequest("a correction needs a verdict or labels", param="verdict")
        _check_texts(asked, keeps_text=corrections.keeps_text, limits=limits)
        is_taken = any(
            corrections.correct(
                request_id,
                asked.index,
                verdict=asked.verdict,
                labels=labels,
                by=by,
                note=asked.note,
                text=asked.text,
            )
            for request_id in dict.fromkeys((asked.id, asked.id.removeprefix(ID_PREFIX)))
        )
        if not is_taken:
            return _refusal(404, "not_found", "no verdict of this id and index is remembered here", request)
        return _reply(202, FeedbackReply(asked.id, asked.index))

    @router.post(
        PATH,
        summary="Correct a verdict",
        status_code=202,
        responses=_RESPONSES,
        openapi_extra=_documented(limits, needs_key=keys is not None),
    )
    async def correct_verdict(request: Request) -> Response:
        try:
            return await take(request)
        except RequestError as error:
            return error_response(error, request)
        except ClientGone:
            return Response(status_code=400)  # nobody reads it

    return router


def _check_texts(asked: FeedbackRequest, *, keeps_text: bool, limits: DoorLimits) -> None:
    for param, value in (("note", asked.note), ("text", asked.text)):
        if value is not None and not keeps_text:
            raise InvalidRequest("this server keeps no texts: feedback_keep_text is off", param=param)
    if asked.text is not None:
        check_texts([Text(asked.text)], limits, list_param="text", text_param=lambda _index: "text")


def _refusal(status: int, code: str, message: str, request: Request) -> Response:
    body = ErrorBody(message=message, type="invalid_request_error", code=code, param=None)
    return _reply(status, ErrorReply(body, request.state.request_id))


def _reply(status: int, body: Struct) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def _documented(limits: DoorLimits, *, needs_key: bool) -> dict[str, Any]:
    body = {"requestBody": request_body(FeedbackRequest, max_bytes=limits.max_body_bytes)}
    return body | ({"security": [{"key": []}]} if needs_key else {})


def _json(form: type[Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": reference(form)}}


_ERRORS = (
    *(InvalidRequest, MalformedBody, Unauthorized, TextTooLarge, UnsupportedMediaType),
    *(RateLimited, RequestError, QueueFull, BodyTooSlow),
)
_RESPONSES: dict[int | str, dict[str, Any]] = openapi_responses(reference(ErrorReply), _ERRORS) | {
    202: {"description": "The correction is on its way to the log.", "content": _json(FeedbackReply)},
    404: {"description": "`not_found`: no verdict of this id and index is remembered here.", "content": _json(ErrorReply)},
    409: {"description": "`feedback_off`: this server keeps no feedback log.", "content": _json(ErrorReply)},
}
