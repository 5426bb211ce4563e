"""What orchestrators and scrapers ask: is the loop turning, may traffic come, and what has happened so far."""

import json
from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from server.observability.metrics import Metrics


def index_router(version: str) -> APIRouter:
    """``/``: what there is here."""
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def index() -> Response:
        links = {"check": "/v1/check", "moderations": "/v1/moderations", "docs": "/docs", "ready": "/readyz"}
        return _json({"name": "stillguard", "version": version, "links": links})

    return router


def health_router(missing: Callable[[], Sequence[str]]) -> APIRouter:
    """``missing`` names what readiness still lacks, in words that an operator can act on; nothing lacking means ready."""
    router = APIRouter()
    not_ready = {"description": "Not ready; `missing` says why.", "content": {"application/json": {"schema": {}}}}

    @router.head("/livez", include_in_schema=False)
    @router.get("/livez", summary="The event loop turns")
    async def live() -> Response:
        return _json({"status": "alive"})

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", summary="Traffic may come", responses={503: not_ready})
    async def ready() -> Response:
        lacking = list(missing())
        return _json({"status": "not_ready" if lacking else "ready", "missing": lacking}, 503 if lacking else 200)

    return router


def metrics_router(metrics: Metrics) -> APIRouter:
    """``/metrics``, on one port only: the private one where there is one."""
    router = APIRouter()
    answered = {"content": {"application/openmetrics-text": {"schema": {"type": "string"}}}}

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse, responses={200: answered})
    async def prometheus(request: Request) -> Response:
        content, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})

    return router


def _json(body: object, status: int = 200) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")
