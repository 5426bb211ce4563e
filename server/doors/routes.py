"""Every door on its path, with its OpenAPI entry."""

from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp

from server.core.shared_bound import SharedBound
from server.doors import native, openai
from server.doors.door import TIMEOUT_HEADER, Check, Dialect, Door, DoorLimits
from server.doors.front import Documented, GuardApp
from server.doors.keys import KeyRing
from server.observability.metrics import Metrics


def add_doors(
    app: GuardApp,
    *,
    check: Check,
    metrics: Metrics,
    limits: DoorLimits,
    half_sent: SharedBound,
    keys: KeyRing | None,
    around: Callable[[ASGIApp], ASGIApp],
) -> None:
    """Open both doors on ``app``; ``keys`` None opens them to everybody. ``around`` may wrap a door, or give it back."""
    timeout = _header(
        TIMEOUT_HEADER,
        f"Seconds, at most {limits.request_timeout_s:g}, in which an answer is wanted; 504 after that.",
        {"type": "number", "exclusiveMinimum": 0},
    )
    request_id = _header("X-Request-Id", "The request's id, to be echoed; left out or unusable, the server makes one.")
    policy = _header(openai.POLICY_HEADER, "Id of the policy; left out, the server's default.")

    def open_door(
        dialect: Dialect, path: str, name: str, summary: str, reply: type, *parameters: dict[str, Any], **codes: str
    ) -> None:
        door = Door(dialect, check=check, metrics=metrics, limits=limits, half_sent=half_sent, keys=keys)
        documented = Documented(
            operation_id=name,
            summary=summary,
            request=dialect.form,
            reply=reply,
            parameters=[timeout, request_id, *parameters],
            error_codes=codes,
            max_body_bytes=limits.max_body_bytes,
            needs_key=keys is not None,
        )
        app.open_door(path, around(door), documented)

    open_door(native.NativeDialect(limits), native.PATH, "check", "Check texts", native.CheckReply)
    dialect = openai.OpenAIDialect(limits)
    summary = "Check texts in OpenAI's moderation format"
    open_door(dialect, openai.PATH, "create_moderation", summary, openai.ModerationReply, policy, **openai.ERROR_CODES)
    app.describe_fields(native.field_schemas(limits) | openai.field_schemas(limits))


def _header(name: str, description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": schema or {"type": "string"},
    }
