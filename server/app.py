"""The composition root: loads the parts, wires them together, starts and stops them in order. Decides nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from server.core.artifact import MODEL, TOKENIZER, Manifest, load_manifest, verify_files
from server.core.errors import ConfigurationError, PolicyError
from server.core.policy import load_policies
from server.core.shared_bound import SharedBound
from server.core.taxonomy import CATEGORIES
from server.core.types import Device
from server.doors import native, openai
from server.doors.admin import admin_router
from server.doors.door import DoorLimits
from server.doors.errors import on_http_exception, on_unexpected
from server.doors.escalations import DeferredReply, escalations_router
from server.doors.feedback import FeedbackReply, FeedbackRequest, feedback_router, field_schemas
from server.doors.front import GuardApp
from server.doors.health import health_router, index_router, metrics_router
from server.doors.keys import load_keys
from server.doors.middleware import RequestId
from server.doors.routes import add_doors
from server.drift import find_reference
from server.feedback.opening import open_feedback_log
from server.inference.classifier import Classifier
from server.inference.device import PROVIDERS, choose_device
from server.inference.encoder import WindowEncoder
from server.observability.logging import explain
from server.observability.metrics import Metrics
from server.service import Parts, Service
from server.settings import Settings
from server.signature import load_authenticate
from server.student import StudentParts
from server.teaching import load_teachers

if TYPE_CHECKING:
    from server.observability.tracing import Tracing

logger = logging.getLogger(__name__)

# FastAPI's own spans and logs, which any library can switch on by a global provider, hold query strings and error messages.
_NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def load_parts(settings: Settings) -> Parts:
    """Read and verify everything that the settings name.

    Raises:
        ConfigurationError: one line that says what can't be used.
    """
    student = load_student(settings, settings.artifact)
    teachers = load_teachers(settings, student.policies)
    return Parts(student, teachers, reload=lambda folder: load_student(settings, folder or settings.artifact))


def load_student(settings: Settings, folder: Path) -> StudentParts:
    """Read and verify an artefact and the policies.

    Raises:
        ConfigurationError: one line that says what can't be used.
    """
    policies = load_policies(settings.policies)
    if settings.policy not in policies:
        raise PolicyError(f"policy file {settings.policies}: no policy {settings.policy!r}, only {', '.join(sorted(policies))}")
    manifest = load_manifest(folder, authenticate=load_authenticate(settings.artifact_public_key_file))
    encoder = WindowEncoder(folder / TOKENIZER, max_tokens=manifest.max_tokens, overlap_tokens=settings.window_overlap_tokens)

    def rebuild() -> Classifier:
        verify_files(folder, (MODEL,), manifest.files, kind="artifact")  # it may have been replaced since
        (classifier,) = _load_classifiers(manifest, folder, sessions=1, device=device)
        return classifier

    device = choose_device(settings.device, manifest.precision, has_cuda=lambda: _ort_session().has_cuda())
    classifiers = _load_classifiers(manifest, folder, sessions=settings.sessions_on(device), device=device)
    running = {"device": device, "provider": PROVIDERS[device], "precision": manifest.precision, "sessions": len(classifiers)}
    logger.info("student loaded", extra=running | {"artifact_version": manifest.version})
    reference = find_reference(settings.drift_reference, manifest)
    return StudentParts(manifest, policies, encoder, classifiers, rebuild, device, reference)


def create_app(settings: Settings, parts: Parts) -> FastAPI:
    """The ASGI application. ``app.state`` holds its ``service`` and ``metrics``, and ``start_error``, what kept it from
    starting, for whoever runs it."""
    version = _version()
    metrics = Metrics(CollectorRegistry())
    metrics.describe_limits(
        queue_max_items=settings.queue_max_items,
        queue_max_tokens=settings.queue_max_tokens,
        queue_max_wait_s=settings.queue_max_wait_s,
        request_timeout_s=settings.request_timeout_s,
        teacher_timeout_s=settings.teacher_timeout_s,
    )
    tracing = _open_tracing(settings, version)
    feedback = open_feedback_log(settings, metrics.feedback, teacher=parts.teachers[0].identity)
    answers = metrics if tracing is None else tracing.counting(metrics)
    service = Service(settings, parts, metrics, answers=answers, watchers=() if feedback is None else (feedback,))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stops:  # last in, first out, whatever the others raise
            if tracing is not None:
                stops.push_async_callback(asyncio.to_thread, tracing.close)
            if feedback is not None:
                feedback.start()
                stops.push_async_callback(feedback.close)
            stops.push_async_callback(service.stop)
            try:
                await service.start()
            except Exception as error:
                app.state.start_error = error
                logger.error("the server can't start", extra=explain(error))
                raise
            yield

    app = GuardApp(title="Stillguard", version=version, lifespan=lifespan, redirect_slashes=False, telemetry=_NO_TELEMETRY)
    app.state.service, app.state.metrics, app.state.start_error = service, metrics, None
    app.add_middleware(RequestId)
    app.add_exception_handler(HTTPException, on_http_exception)  # type: ignore[arg-type] # is given its own kind alone
    app.add_exception_handler(Exception, on_unexpected)
    limits = DoorLimits(
        max_body_bytes=settings.max_body_bytes,
        max_texts=settings.max_texts,
        max_text_chars=settings.max_text_chars,
        max_request_chars=settings.max_request_chars,
        request_timeout_s=settings.request_timeout_s,
    )
    half_sent = SharedBound(settings.read_max_bytes)
    keys = None if settings.api_keys_file is None else load_keys(settings.api_keys_file)

    def traced(door: ASGIApp) -> ASGIApp:
        return door if tracing is None else tracing.watching(door, paths=(native.PATH, openai.PATH))

    add_doors(app, check=service.checker.check, metrics=metrics, limits=limits, half_sent=half_sent, keys=keys, around=traced)
    app.include_router(escalations_router(service.cascade.find, keys=keys))
    app.include_router(feedback_router(feedback, limits=limits, half_sent=half_sent, keys=keys))
    app.add_schemas(DeferredReply, FeedbackRequest, FeedbackReply)
    app.describe_fields(field_schemas(limits))
    app.include_router(index_router(version))
    app.include_router(health_router(service.missing))
    if settings.admin_port is None:
        app.include_router(metrics_router(metrics))
    return app


def create_private_app(service: Service, metrics: Metrics) -> FastAPI:
    """What the private port serves: health, metrics and administration, on the service of :func:`create_app`."""
    app = GuardApp(title="Stillguard, private port", version=_version(), redirect_slashes=False, telemetry=_NO_TELEMETRY)
    app.state.metrics = metrics
    app.add_middleware(RequestId)
    app.add_exception_handler(HTTPException, on_http_exception)  # type: ignore[arg-type] # is given its own kind alone
    app.add_exception_handler(Exception, on_unexpected)
    app.include_router(health_router(service.missing))
    app.include_router(metrics_router(metrics))
    app.include_router(admin_router(service.reload, service.shadow.load, drift=lambda: service.drift.histograms().to_json()))
    return app


def _open_tracing(settings: Settings, version: str) -> "Tracing | None":
    if settings.otlp_endpoint is None:
        return None
    try:
        from server.observability.tracing import Tracing  # noqa: PLC0415 (an extra: otel)
    except ModuleNotFoundError:
        raise ConfigurationError("OpenTelemetry is not installed: install the extra otel") from None
    return Tracing(settings.otlp_endpoint, share=settings.trace_share, version=version)


def _version() -> str:
    try:
        return package_version("stillguard")
    except PackageNotFoundError:
        return "0+checkout"


def _load_classifiers(manifest: Manifest, folder: Path, *, sessions: int, device: Device) -> Sequence[Classifier]:
    return _ort_session().load_classifiers(
        folder / MODEL,
        sessions=sessions,
        categories=len(CATEGORIES),
        max_tokens=manifest.max_tokens,
        provider=PROVIDERS[device],
    )


def _ort_session() -> ModuleType:
    try:
        from server.inference import ort_session  # noqa: PLC0415 (an extra: cpu or gpu)
    except ModuleNotFoundError:
        raise ConfigurationError("ONNX Runtime is not installed: install the extra cpu or gpu") from None
    return ort_session
