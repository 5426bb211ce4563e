"""``POST /admin/reload`` and ``GET /admin/drift``, for operators. On the private port only: whoever reaches it may use it.

But for web pages: a browser on a machine that reaches the port sends what any page that it shows tells it to.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from server.core.errors import (
    ConfigurationError,
    InvalidRequest,
    QueueFull,
    ReloadInProgress,
    RequestError,
    ShuttingDown,
    StillguardError,
    TextTooLarge,
)
from server.core.shared_bound import SharedBound
from server.core.taxonomy import Category
from server.core.types import ArtifactId
from server.doors.body import read_body
from server.doors.errors import BodyTooSlow, ErrorBody, ErrorReply, error_response, openapi_responses
from server.doors.exchange import ClientGone
from server.doors.front import reference

MAX_BODY_BYTES = 64 * 1024
READ_TIMEOUT_S = 10.0

_ERRORS = {
    409: {
        "description": "`reload_in_progress`: another reload is under way; this one did nothing.",
        "content": {"application/json": {"schema": reference(ErrorReply)}},
    },
    422: {
        "description": "`reload_failed`: the message says why; what served goes on serving.",
        "content": {"application/json": {"schema": reference(ErrorReply)}},
    },
} | openapi_responses(reference(ErrorReply), (InvalidRequest, TextTooLarge, RequestError, QueueFull, ShuttingDown, BodyTooSlow))


class ReloadRequest(BaseModel):
    """An empty body means the student and its configured folder. With ``shadow``, the shadow student alone is exchanged."""

    model_config = ConfigDict(extra="forbid", strict=True)

    artifact: str | None = Field(
        None, min_length=1, description="Folder of the artefact, for this time; left out, the configured one."
    )
    shadow: str | None = Field(
        None, min_length=1, description="Folder of the shadow student's artefact; null takes the shadow student away."
    )

    @model_validator(mode="after")
    def _is_about_one_student(self) -> "ReloadRequest":
        if self.is_about_shadow and "artifact" in self.model_fields_set:
            raise ValueError("artifact and shadow are reloaded one at a time")
        return self

    @property
    def is_about_shadow(self) -> bool:
        return "shadow" in self.model_fields_set


class ArtifactNow(BaseModel):
    version: str
    hash: str
    precision: str


class ReloadReply(BaseModel):
    artifact: ArtifactNow | None = Field(None, description="What serves now; left out of a reply about the shadow student.")
    shadow: ArtifactNow | None = Field(
        None, description="The shadow student now; left out of a reply about the student, null for none."
    )


class Drift(BaseModel):
    """The window's score histograms, in the format that ``drift_reference`` takes."""

    artifact_hash: str = Field(description="Whose scores these are.")
    log_odds: list[int] = Field(description="The edges of the bins; one more, open bin on either side.")
    texts: int
    scores: dict[Category, list[int]] = Field(description="Texts in each bin, by category.")


def admin_router(
    reload: Callable[[Path | None], Awaitable[ArtifactId]],
    load_shadow: Callable[[Path | None], Awaitable[ArtifactId | None]],
    *,
    drift: Callable[[], dict[str, Any]],
) -> APIRouter:
    """``reload`` is :meth:`server.service.Service.reload`, ``load_shadow`` :meth:`server.shadow.ShadowStudent.load`, and
    ``drift`` gives the window's histograms as JSON."""
    router = APIRouter()
    half_sent = SharedBound(16 * MAX_BODY_BYTES)
    body = {"required": False, "content": {"application/json": {"schema": ReloadRequest.model_json_schema()}}}

    @router.post(
        "/admin/reload",
        summary="Load an artefact and the policies, and swap them in; or exchange the shadow student",
        response_model=ReloadReply,
        responses=_ERRORS,
        openapi_extra={"requestBody": body},
    )
    async def reload_now(request: Request) -> Response:
        request_id = request.state.request_id
        try:
            if "origin" in request.headers:
                raise InvalidRequest("a web page may not do this", param="Origin")
            body = await read_body(
                request.receive, announced=None, max_bytes=MAX_BODY_BYTES, timeout_s=READ_TIMEOUT_S, half_sent=half_sent
            )
            wanted = _read(body)
            if wanted.is_about_shadow:
                reply = ReloadReply(shadow=_now(await load_shadow(_path(wanted.shadow))))
            else:
                reply = ReloadReply(artifact=_now(await reload(_path(wanted.artifact))))
        except RequestError as error:
            return error_response(error, request)
        except ReloadInProgress as error:
            return _refusal(409, "reload_in_progress", error, request_id)
        except ConfigurationError as error:
            return _refusal(422, "reload_failed", error, request_id)
        except ClientGone:
            return Response()
        return Response(reply.model_dump_json(exclude_unset=True), media_type="application/json")

    @router.get("/admin/drift", summary="The score histograms of the present window", response_model=Drift)
    async def drift_now() -> Response:
        return Response(json.dumps(drift()), media_type="application/json")

    return router


def _path(folder: str | None) -> Path | None:
    return None if folder is None else Path(folder)


def _now(artifact: ArtifactId | None) -> ArtifactNow | None:
    if artifact is None:
        return None
    return ArtifactNow(version=artifact.version, hash=artifact.hash, precision=artifact.precision)


def _read(body: bytes) -> ReloadRequest:
    try:
        return ReloadRequest.model_validate_json(body or b"{}")
    except ValidationError:
        example = 'a JSON object like {"artifact": "folder"} or {"shadow": "folder"}'
        raise InvalidRequest(f"the body must be empty, or {example}") from None


def _refusal(status: int, code: str, error: StillguardError, request_id: str) -> Response:
    reply = ErrorReply(ErrorBody(str(error), "invalid_request_error", code, None), request_id)
    return Response(msgspec.json.encode(reply), status, media_type="application/json")
