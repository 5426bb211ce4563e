"""The composition root: loads the parts, wires them together, starts and stops them in order. Decides nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from server.batching.batcher import Batcher
from server.batching.limits import BatchLimits
from server.check import Checker, CheckLimits, check_row
from server.core.artifact import MODEL, TOKENIZER, Manifest, load_manifest
from server.core.calibration import IDENTITY
from server.core.errors import ConfigurationError, PolicyError
from server.core.policy import PolicySet, load_policies
from server.core.taxonomy import CATEGORIES
from server.core.teacher_manifest import ADAPTER_GGUF, DEFAULT_TEACHER_FOLDER, load_teacher_manifest
from server.doors.door import DoorLimits
from server.doors.errors import on_http_exception, on_unexpected
from server.doors.health import health_router
from server.doors.middleware import BodyLimit, CancelOnDisconnect, RequestId
from server.doors.routes import add_doors
from server.inference.classifier import Classifier, Encoder
from server.inference.encoder import WindowEncoder
from server.observability.metrics import Metrics
from server.settings import Settings
from server.teacher.base_model import default_cache_dir, ensure_q8_base
from server.teacher.client import HttpTeacher
from server.teacher.embedded import EmbeddedTeacher
from server.teacher.null import NoTeacher
from server.teacher.teacher import Teacher

logger = logging.getLogger(__name__)

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server is made of: loaded from disk by :func:`load_parts`, or fakes in tests. One classifier per session."""

    manifest: Manifest
    policies: PolicySet
    encoder: Encoder
    classifiers: Sequence[Classifier]
    teacher: Teacher


def load_parts(settings: Settings) -> Parts:
    """Read and verify everything that the settings name.

    Raises:
        ConfigurationError: one line that says what can't be used.
    """
    policies = load_policies(settings.policies)
    if settings.policy not in policies:
        raise PolicyError(f"policy file {settings.policies}: no policy {settings.policy!r}, only {', '.join(sorted(policies))}")
    manifest = load_manifest(settings.artifact)
    encoder = WindowEncoder(
        settings.artifact / TOKENIZER, max_tokens=manifest.max_tokens, overlap_tokens=settings.window_overlap_tokens
    )
    return Parts(manifest, policies, encoder, _load_classifiers(settings, manifest), load_teacher(settings, policies))


def load_teacher(settings: Settings, policies: PolicySet) -> Teacher:
    """The teacher that the settings name, not started.

    Raises:
        ConfigurationError: its folder, base model or key can't be used.
    """
    if settings.teacher == "embedded":
        folder = settings.teacher_path or DEFAULT_TEACHER_FOLDER
        manifest = load_teacher_manifest(folder)
        for policy in policies.values():
            if not manifest.is_tuned_on(policy):
                logger.warning("the teacher was not tuned on this policy's wording", extra={"policy": policy.id})
        return EmbeddedTeacher(
            ensure_q8_base(default_cache_dir(), expected_sha256=manifest.base_sha256),
            lora=folder / ADAPTER_GGUF,
            calibration=manifest.calibration,
            threads=settings.teacher_threads,
        )
    if settings.teacher_url is None or settings.teacher_model is None:
        return NoTeacher()
    return HttpTeacher(
        settings.teacher_url,
        model=settings.teacher_model,
        calibration=load_teacher_manifest(settings.teacher_path).calibration if settings.teacher_path else IDENTITY,
        api_key=_read_key(settings),
    )


class Service:
    """One server's running parts. Used on one event loop; started once and stopped once."""

    def __init__(self, settings: Settings, parts: Parts, metrics: Metrics) -> None:
        self._drain_timeout_s = settings.drain_timeout_s
        self._classifiers = parts.classifiers
        self._teacher = parts.teacher
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode")
        self._is_started = False
        self._is_draining = False
        self.batcher = Batcher(
            [classifier.classify for classifier in parts.classifiers],
            cost=lambda window: window.tokens,
            check_row=check_row,
            limits=BatchLimits(
                max_batch_items=settings.batch_max_items,
                max_batch_tokens=settings.batch_max_tokens,
                max_queue_items=settings.queue_max_items,
                max_queue_tokens=settings.queue_max_tokens,
            ),
            observer=metrics,
            restart_after_s=settings.session_restart_s,
        )
        self.checker = Checker(
            encoder=parts.encoder,
            batcher=self.batcher,
            calibration=parts.manifest.calibration,
            policies=parts.policies,
            default_policy=settings.policy,
            teacher=parts.teacher,
            metrics=metrics,
            executor=self._executor,
            limits=CheckLimits(
                request_timeout_s=settings.request_timeout_s,
                teacher_timeout_s=settings.teacher_timeout_s,
                encode_inline_chars=settings.encode_inline_chars,
                encode_max_requests=settings.encode_max_requests,
            ),
        )

    def missing(self) -> list[str]:
        """What readiness lacks; empty while traffic may come. The teacher isn't part of it: the student serves without."""
        if self._is_draining:
            return ["the server is draining"]
        if not self._is_started:
            return ["the model is not warm"]
        if not self.batcher.is_alive:
            return [f"{self.batcher.live_sessions} of {self.batcher.sessions} sessions are alive"]
        return []

    async def start(self) -> None:
        """Begin to start the teacher, warm every session up, then admit."""
        if isinstance(self._teacher, EmbeddedTeacher):
            await self._teacher.start()
        for classifier in self._classifiers:
            await asyncio.to_thread(classifier.warm_up)
        self.batcher.start()
        self._is_started = True

    async def drain(self) -> None:
        """Not ready, admit nothing more, and let what was admitted finish; after ``drain_timeout_s`` the rest gets an error."""
        if self._is_draining:
            return
        self._is_draining = True
        is_drained = await self.batcher.drain(self._drain_timeout_s)
        logger.info("drained", extra={"is_drained": is_drained})

    async def stop(self) -> None:
        """Drain, if that wasn't done, and release everything; the teacher's child ends."""
        await self.drain()
        await self._teacher.close()
        self._executor.shutdown(wait=False, cancel_futures=True)


def create_app(settings: Settings, parts: Parts) -> FastAPI:
    """The ASGI application. ``app.state`` holds its ``service`` and ``metrics``, for whoever runs it."""
    metrics = Metrics(CollectorRegistry())
    service = Service(settings, parts, metrics)
    metrics.describe(
        manifest=parts.manifest,
        policies=",".join(f"{policy.id}@{policy.version}" for policy in parts.policies.values()),
        teacher=type(parts.teacher).__name__,
        ready=lambda: not service.missing(),
    )
    if isinstance(parts.teacher, EmbeddedTeacher):
        metrics.follow_teacher(lambda teacher=parts.teacher: teacher.is_ready)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            yield
        finally:
            await service.stop()

    version = _version()
    app = FastAPI(title="Stillguard", version=version, lifespan=lifespan, redirect_slashes=False)
    app.state.service, app.state.metrics = service, metrics
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(CancelOnDisconnect)
    app.add_middleware(RequestId)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_unexpected)
    limits = DoorLimits(
        max_texts=settings.max_texts,
        max_text_chars=settings.max_text_chars,
        max_request_chars=settings.max_request_chars,
        read_timeout_s=settings.request_timeout_s,
    )
    add_doors(app, check=service.checker.check, manifest=parts.manifest, metrics=metrics, limits=limits)
    app.include_router(health_router(metrics=metrics, missing=service.missing, version=version))
    return app


def _version() -> str:
    try:
        return package_version("stillguard")
    except PackageNotFoundError:
        return "0+checkout"


def _load_classifiers(settings: Settings, manifest: Manifest) -> Sequence[Classifier]:
    try:
        from server.inference.ort_session import load_classifiers  # noqa: PLC0415 (an extra: cpu or gpu)
    except ModuleNotFoundError:
        raise ConfigurationError("ONNX Runtime is not installed: pip install 'stillguard[cpu]' or 'stillguard[gpu]'") from None
    return load_classifiers(
        settings.artifact / MODEL,
        sessions=settings.session_count,
        categories=len(CATEGORIES),
        max_tokens=manifest.max_tokens,
        provider=PROVIDERS[settings.device],
    )


def _read_key(settings: Settings) -> str | None:
    path = settings.teacher_api_key_file
    if path is None:
        return None
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"teacher API key file {path} can't be read: {type(error).__name__}") from None
    if not key:
        raise ConfigurationError(f"teacher API key file {path} is empty")
    return key
