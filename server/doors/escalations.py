"""``GET /v1/escalations/{id}``: what became of an escalation that a reply called ``pending``."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from server.core.errors import RequestError
from server.core.types import EscalationOutcome
from server.deferred import Deferred
from server.doors.errors import ErrorReply, error_response
from server.doors.front import reference
from server.doors.keys import KeyRing
from server.doors.native import ResultReply, write_result


class DeferredReply(msgspec.Struct):
    """``result`` is there unless the outcome is ``pending``; its verdict replaces the one that was given at first."""

    id: str
    outcome: EscalationOutcome
    result: Annotated[ResultReply | None, msgspec.Meta(description="As in the answer of /v1/check.")]


def escalations_router(find: Callable[[str], Deferred | None], *, keys: KeyRing | None) -> APIRouter:
    """``find`` knows what is pending and what is kept; ``keys`` None lets everybody ask."""
    router = APIRouter()
    answered = {"description": "It is pending, or has ended.", "content": _json(reference(DeferredReply))}
    unknown = {"description": "No escalation has that id, or no longer.", "content": _json(reference(ErrorReply))}

    @router.get(
        "/v1/escalations/{escalation_id}",
        summary="What became of a pending escalation",
        responses={200: answered, 404: unknown},
    )
    async def escalation(request: Request, escalation_id: str) -> Response:
        if keys is not None:
            try:
                keys.admit(dict(request.scope["headers"]))
            except RequestError as error:
                return error_response(error, request.state.request_id)
        deferred = find(escalation_id)
        if deferred is None:
            raise HTTPException(404)
        result = deferred.result
        outcome = "pending" if result is None else result.escalation.outcome
        reply = DeferredReply(deferred.id, outcome, None if result is None else write_result(result))
        return Response(msgspec.json.encode(reply), media_type="application/json")

    return router


def _json(schema: dict[str, str]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
