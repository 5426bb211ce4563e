"""What orchestrators and scrapers ask: is the loop turning, may traffic come, and what has happened so far."""

import json
from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request, Response

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

    @router.get("/livez", summary="The event loop turns")
    async def live() -> Response:
        return _json({"status": "alive"})

    @router.get("/readyz", summary="Traffic may come", responses={503: {"description": "Not ready; `missing` says why."}})
    async def ready() -> Response:
        lacking = list(missing())
        return _json({"status": "not_ready" if lacking else "ready", "missing": lacking}, 503 if lacking else 200)

    return router


def metrics_router(metrics: Metrics) -> APIRouter:
    """``/metrics``, on one port only: the private one where there is one."""
    router = APIRouter()

    @router.get("/metrics", summary="Prometheus metrics")
    async def prometheus(request: Request) -> Response:
        content, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})

    return router


def _json(body: object, status: int = 200) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")
