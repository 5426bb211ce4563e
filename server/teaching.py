"""From the settings to the teacher, and to the cascade that leads there. Builds and wires; decides nothing."""

import logging
from collections.abc import Sequence
from pathlib import Path

from server.cascade import Cascade
from server.core.calibration import IDENTITY
from server.core.errors import ConfigurationError
from server.core.policy import PolicySet
from server.core.prompt import GUIDELINE
from server.core.taxonomy import CATEGORIES
from server.core.teacher_manifest import ADAPTER_GGUF, DEFAULT_TEACHER_FOLDER, TeacherManifest, load_teacher_manifest
from server.deferred import DeferredResults
from server.observability.cascade_metrics import CascadeMetrics
from server.settings import Settings
from server.signature import load_authenticate
from server.teacher.base_model import default_cache_dir, ensure_q8_base
from server.teacher.breaker import BreakerLimits
from server.teacher.budget import Budget, BudgetLimits
from server.teacher.client import HttpTeacher
from server.teacher.embedded import MAX_CONNECTIONS, EmbeddedTeacher
from server.teacher.endpoints import Endpoints
from server.teacher.null import NoTeacher
from server.teacher.route import CacheLimits, TeacherRoute
from server.teacher.teacher import Teacher

logger = logging.getLogger(__name__)


def load_teachers(settings: Settings, policies: PolicySet) -> Sequence[Teacher]:
    """The endpoints of the teacher that the settings name, not started: one, or one per URL.

    Raises:
        ConfigurationError: its folder, base model or key can't be used.
    """
    if settings.teacher == "embedded":
        return [_load_embedded(settings, policies)]
    if settings.teacher_model is None or not settings.teacher_urls:
        return [NoTeacher()]
    tuned = _load_manifest(settings, settings.teacher_path) if settings.teacher_path else None
    requests_per_text = 1 if settings.teacher_api == "completions" else len(CATEGORIES)
    api_key = _read_key(settings)
    return [
        HttpTeacher(
            url,
            model=settings.teacher_model,
            calibration=tuned.calibration if tuned else IDENTITY,
            form=tuned.form if tuned else GUIDELINE,
            api=settings.teacher_api,
            api_key=api_key,
            top_logprobs=settings.teacher_top_logprobs,
            max_connections=settings.teacher_max_in_flight * requests_per_text,
        )
        for url in settings.teacher_urls
    ]


def join_teachers(settings: Settings, teachers: Sequence[Teacher], metrics: CascadeMetrics) -> Endpoints:
    """One teacher of several endpoints, each behind a breaker."""
    endpoints = Endpoints(
        teachers,
        breaker=BreakerLimits(
            window=settings.teacher_breaker_window,
            failures=settings.teacher_breaker_failures,
            slow_s=settings.teacher_slow_s,
            open_s=settings.teacher_breaker_open_s,
        ),
        max_in_flight=MAX_CONNECTIONS if settings.teacher == "embedded" else settings.teacher_max_in_flight,
        observer=metrics,
        try_timeout_s=settings.teacher_try_timeout_s,
        hedge_after_s=settings.teacher_hedge_after_s,
    )
    metrics.follow_endpoints(lambda: endpoints.breaker_states)
    return endpoints


def make_cascade(settings: Settings, teacher: Endpoints, metrics: CascadeMetrics) -> Cascade:
    """The cascade that leads to ``teacher``, with its budget, its cache and its place for results that are to come."""
    route = TeacherRoute(
        teacher,
        budget=Budget(
            total=BudgetLimits(
                max_share=settings.teacher_max_share,
                max_per_s=settings.teacher_max_per_s,
                max_tokens_per_s=settings.teacher_max_tokens_per_s,
            ),
            per_key=BudgetLimits(
                max_share=settings.teacher_key_max_share,
                max_per_s=settings.teacher_key_max_per_s,
                max_tokens_per_s=settings.teacher_key_max_tokens_per_s,
            ),
        ),
        cache=CacheLimits(max_items=settings.teacher_cache_max_items, ttl_s=settings.teacher_cache_ttl_s),
        flight_timeout_s=settings.teacher_timeout_s,
        observer=metrics,
    )
    return Cascade(
        route,
        deferred=DeferredResults(max_items=settings.async_max_items, ttl_s=settings.async_ttl_s),
        teacher_timeout_s=settings.teacher_timeout_s,
        observer=metrics,
    )


def _load_embedded(settings: Settings, policies: PolicySet) -> EmbeddedTeacher:
    folder = settings.teacher_path or DEFAULT_TEACHER_FOLDER
    manifest = _load_manifest(settings, folder)
    for policy in policies.values():
        if not manifest.is_tuned_on(policy):
            logger.warning("the teacher was not tuned on this policy's wording", extra={"policy": policy.id})
    return EmbeddedTeacher(
        ensure_q8_base(default_cache_dir(), expected_sha256=manifest.base_sha256),
        lora=folder / ADAPTER_GGUF,
        calibration=manifest.calibration,
        form=manifest.form,
        threads=settings.teacher_threads,
        max_memory_bytes=settings.teacher_max_memory_bytes,
    )


def _load_manifest(settings: Settings, folder: Path) -> TeacherManifest:
    return load_teacher_manifest(folder, authenticate=load_authenticate(settings.artifact_public_key_file))


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
    if not key.isprintable():
        raise ConfigurationError(f"teacher API key file {path} must hold one line, of printable characters")
    return key
