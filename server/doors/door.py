"""What every door does with a request: read it, have it checked, answer it, and count how it ended."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from server.core.errors import DeadlineExceeded, InvalidRequest, RequestError, TextTooLarge
from server.core.types import CheckAnswer, Outcome, Text
from server.doors.errors import MalformedBody, UnsupportedMediaType, error_response, reply_for, unexpected_response
from server.observability.logging import describe_exception
from server.observability.metrics import Metrics, Route

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
"""nginx's status for a client that went away; nobody is left to read it."""


class Check(Protocol):
    """:meth:`server.check.Checker.check`."""

    def __call__(self, texts: Sequence[Text], *, policy_id: str | None) -> Awaitable[CheckAnswer]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """What a request may hold at most, and ``read_timeout_s``, in which its body must be there."""

    max_texts: int
    max_text_chars: int
    max_request_chars: int
    read_timeout_s: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in core types. ``policy_id`` None means the server's default."""

    texts: Sequence[Text]
    policy_id: str | None


class Dialect(Protocol):
    """One wire format."""

    route: Route

    def read(self, body: Any, headers: Headers) -> Asked:
        """Raises InvalidRequest, naming the field and quoting nothing."""
        ...

    def write(self, answer: CheckAnswer, request_id: str) -> dict[str, Any]: ...


class Door:
    """Serves one dialect. :meth:`serve` is the one place that counts how a request ended."""

    def __init__(self, dialect: Dialect, *, check: Check, metrics: Metrics, limits: DoorLimits) -> None:
        self._dialect = dialect
        self._check = check
        self._metrics = metrics
        self._limits = limits

    async def serve(self, request: Request) -> Response:
        """The answer, or the error's envelope; cancellation alone is raised."""
        request_id = request.state.request_id
        outcome: Outcome = "failed"
        try:
            body = parse_json(await self._read_body(request), request.headers.get("content-type"))
            asked = self._dialect.read(body, request.headers)
            answer = await self._check(asked.texts, policy_id=asked.policy_id)
            response = Response(json.dumps(self._dialect.write(answer, request_id)), media_type="application/json")
            outcome = "ok"
        except RequestError as error:
            outcome = reply_for(error).outcome
            response = error_response(error, request_id)
        except ClientDisconnect:
            outcome = "cancelled"
            response = Response(status_code=CLIENT_GONE)
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            logger.error("request failed unexpectedly", extra={"request_id": request_id} | describe_exception(error))
            response = unexpected_response(request_id)
        finally:
            self._metrics.request_done(self._dialect.route, outcome)
        return response

    async def _read_body(self, request: Request) -> bytes:
        try:
            async with asyncio.timeout(self._limits.read_timeout_s):
                return await request.body()
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the body was there") from None


class DoorRoute(APIRoute):
    """A route that hands its endpoint the bare request: documented by FastAPI, not slowed by it."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:
        return self.endpoint


def parse_json(body: bytes, content_type: str | None) -> dict[str, Any]:
    """The JSON object in a body. Lone surrogates in its strings are let through: canonical text drops them.

    Raises:
        UnsupportedMediaType: the content type is given and isn't JSON.
        MalformedBody: not UTF-8, not JSON, or nested too deeply.
        InvalidRequest: JSON, but no object.
    """
    media_type = (content_type or "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType("the content type must be application/json")
    try:
        value = json.loads(body.decode())
    except UnicodeDecodeError:
        raise MalformedBody("the body is not UTF-8") from None
    except (ValueError, RecursionError):
        raise MalformedBody("the body is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return value


def check_texts(texts: Sequence[Text], limits: DoorLimits, *, list_param: str, text_param: Callable[[int], str]) -> None:
    """Hold texts to the bounds.

    Args:
        list_param, text_param: what the client calls the list, and the text at an index.

    Raises:
        InvalidRequest: no texts, or an empty one.
        TextTooLarge: too many texts, one too long, or too much in all.
    """
    if not texts:
        raise InvalidRequest("at least one text is needed", param=list_param)
    check_count(texts, limits, param=list_param)
    for index, text in enumerate(texts):
        if not text.text:
            raise InvalidRequest("the text is empty", param=text_param(index))
        if len(text.text) > limits.max_text_chars:
            raise TextTooLarge(
                f"the text has {len(text.text)} characters; at most {limits.max_text_chars} are allowed",
                param=text_param(index),
            )
    chars = sum(len(text.text) for text in texts)
    if chars > limits.max_request_chars:
        raise TextTooLarge(
            f"the texts have {chars} characters in all; at most {limits.max_request_chars} are allowed", param=list_param
        )


def check_count(items: Sequence[Any], limits: DoorLimits, *, param: str) -> None:
    """Refuse a list that is too long before any work is spent on what it holds."""
    if len(items) > limits.max_texts:
        raise TextTooLarge(f"{len(items)} texts; at most {limits.max_texts} are allowed in one request", param=param)
