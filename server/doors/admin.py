"""``POST /admin/reload``, for operators. On the private port only: whoever reaches it may use it."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.core.errors import ConfigurationError, InvalidRequest, ReloadInProgress, RequestError, StillguardError
from server.core.types import ArtifactId
from server.doors.errors import ErrorBody, ErrorReply, error_envelope, reply_for
from server.doors.exchange import ClientGone, read_body

MAX_BODY_BYTES = 64 * 1024
READ_TIMEOUT_S = 10.0

_ERRORS = {
    400: {"description": "`invalid_request`: the body isn't a JSON object of these fields."},
    409: {"description": "`reload_in_progress`: another reload is under way; this one did nothing."},
    422: {"description": "`reload_failed`: the message says why; what served goes on serving."},
    503: {"description": "`shutting_down`: the server is starting or stopping."},
}


class ReloadRequest(BaseModel):
    """An empty body means the configured folder."""

    model_config = ConfigDict(extra="forbid", strict=True)

    artifact: str | None = Field(
        None, min_length=1, description="Folder of the artefact, for this time; left out, the configured one."
    )


class ArtifactNow(BaseModel):
    version: str
    hash: str
    precision: str


class ReloadReply(BaseModel):
    artifact: ArtifactNow = Field(description="What serves now.")


def admin_router(reload: Callable[[Path | None], Awaitable[ArtifactId]]) -> APIRouter:
    """``reload`` is :meth:`server.service.Service.reload`."""
    router = APIRouter()
    body = {"required": False, "content": {"application/json": {"schema": ReloadRequest.model_json_schema()}}}

    @router.post(
        "/admin/reload",
        summary="Load an artefact and the policies, and swap them in",
        response_model=ReloadReply,
        responses=_ERRORS,
        openapi_extra={"requestBody": body},
    )
    async def reload_now(request: Request) -> Response:
        request_id = request.state.request_id
        try:
            body = await read_body(request.receive, announced=None, max_bytes=MAX_BODY_BYTES, timeout_s=READ_TIMEOUT_S)
            folder = _read(body).artifact
            artifact = await reload(None if folder is None else Path(folder))
        except RequestError as error:
            return _envelope(reply_for(error).status, error_envelope(error, request_id))
        except ReloadInProgress as error:
            return _refusal(409, "reload_in_progress", error, request_id)
        except ConfigurationError as error:
            return _refusal(422, "reload_failed", error, request_id)
        except ClientGone:
            return Response()
        now = ArtifactNow(version=artifact.version, hash=artifact.hash, precision=artifact.precision)
        return Response(ReloadReply(artifact=now).model_dump_json(), media_type="application/json")

    return router


def _read(body: bytes) -> ReloadRequest:
    try:
        return ReloadRequest.model_validate_json(body or b"{}")
    except ValidationError:
        raise InvalidRequest('the body must be empty, or a JSON object like {"artifact": "folder"}') from None


def _refusal(status: int, code: str, error: StillguardError, request_id: str) -> Response:
    return _envelope(status, ErrorReply(ErrorBody(str(error), "invalid_request_error", code, None), request_id))


def _envelope(status: int, reply: ErrorReply) -> Response:
    return Response(msgspec.json.encode(reply), status, media_type="application/json")
