"""``GET /v1/escalations/{id}``: what became of an escalation that a reply called ``pending``."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response

from server.core.errors import RequestError
from server.core.types import EscalationOutcome
from server.deferred import Deferred
from server.doors.errors import ErrorReply, RateLimited, Unauthorized, error_response, openapi_responses, status_envelope
from server.doors.front import reference
from server.doors.keys import KeyRing
from server.doors.native import ResultReply, write_result

_ERRORS = (Unauthorized, RateLimited, RequestError)


class DeferredReply(msgspec.Struct):
    """``result`` is there unless the outcome is ``pending``; its verdict replaces the one that was given at first."""

    id: str
    outcome: EscalationOutcome
    result: Annotated[ResultReply | None, msgspec.Meta(description="As in the answer of /v1/check.")]


def escalations_router(find: Callable[[str], Deferred | None], *, keys: KeyRing | None) -> APIRouter:
    """``find`` knows what is pending and what is kept; ``keys`` None lets everybody ask."""
    router = APIRouter()
    answered: dict[str, Any] = {"description": "It is pending, or has ended.", "content": _json(reference(DeferredReply))}
    unknown: dict[str, Any] = {
        "description": "`not_found`: no escalation has that id, or no longer.",
        "content": _json(reference(ErrorReply)),
    }
    wanted = {"name": "escalation_id", "in": "path", "required": True, "schema": {"type": "string"}}

    @router.get(
        "/v1/escalations/{escalation_id}",
        summary="What became of a pending escalation",
        responses=openapi_responses(reference(ErrorReply), _ERRORS) | {200: answered, 404: unknown},
        openapi_extra={"parameters": [wanted]} | ({} if keys is None else {"security": [{"key": []}]}),
    )
    async def find_escalation(request: Request) -> Response:
        if keys is not None:
            try:
                keys.admit(dict(request.scope["headers"]))
            except RequestError as error:
                return error_response(error, request)
        deferred = find(request.path_params["escalation_id"])
        if deferred is None:
            refusal = status_envelope(HTTPStatus.NOT_FOUND, request.state.request_id)
            return Response(msgspec.json.encode(refusal), 404, media_type="application/json")
        result = deferred.result
        outcome: EscalationOutcome = "pending"
        if result is not None:
            assert result.escalation is not None, "what was put off was escalated"
            outcome = result.escalation.outcome
        reply = DeferredReply(deferred.id, outcome, None if result is None else write_result(result))
        return Response(msgspec.json.encode(reply), media_type="application/json")

    return router


def _json(schema: dict[str, str]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
