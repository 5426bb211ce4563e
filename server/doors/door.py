"""What every door does with a request: let it in, read it, have it checked, answer it, and count how it ended."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import msgspec
from starlette.types import Receive, Scope, Send

from server.core.errors import InvalidRequest, RequestError, TextTooLarge
from server.core.shared_bound import SharedBound
from server.core.types import CheckAnswer, Outcome, Text
from server.doors.body import read_body
from server.doors.errors import ErrorReply, error_envelope, error_headers, reply_for, unexpected_envelope
from server.doors.exchange import REQUEST_ID_HEADER, ClientGone, DisconnectWatch, request_id_for, send_json
from server.doors.keys import KeyRing
from server.doors.wire import BodyReader
from server.observability.logging import describe_exception
from server.observability.metrics import Metrics, Route

logger = logging.getLogger(__name__)

TIMEOUT_HEADER = "X-Request-Timeout-S"
_TIMEOUT_HEADER = TIMEOUT_HEADER.lower().encode("ascii")

RequestHeaders = Mapping[bytes, bytes]
"""By lower-case name; of a header that came twice, the last."""


class Check(Protocol):
    """:meth:`server.check.Checker.check`."""

    def __call__(
        self, texts: Sequence[Text], *, policy_id: str | None, key: str | None, timeout_s: float, request_id: str
    ) -> Awaitable[CheckAnswer]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """What a request may hold at most, and ``request_timeout_s``, the longest that it may take from its head on."""

    max_body_bytes: int
    max_texts: int
    max_text_chars: int
    max_request_chars: int
    request_timeout_s: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in core types.

    Attributes:
        policy_id: None means the server's default.
        text_param: what the client calls the text at an index.
    """

    texts: Sequence[Text]
    policy_id: str | None
    text_param: Callable[[int], str]


class Dialect(Protocol):
    """One wire format: ``form`` is its request, and ``hints`` say what to tell of a field whose value is not allowed."""

    route: ClassVar[Route]
    form: ClassVar[type[msgspec.Struct]]
    hints: ClassVar[Mapping[str, str]]

    def read(self, body: Any, headers: RequestHeaders) -> Asked:
        """``body`` is a ``form``. Raises InvalidRequest, naming the field and quoting nothing."""
        ...

    def write(self, answer: CheckAnswer, request_id: str) -> msgspec.Struct: ...

    def write_error(self, error: ErrorReply) -> msgspec.Struct:
        """The error in this format's own words and shape."""
        ...


class Door:
    """Serves one dialect, as an ASGI application for one path. The one place that counts how a request ended."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        check: Check,
        metrics: Metrics,
        limits: DoorLimits,
        half_sent: SharedBound,
        keys: KeyRing | None,
    ) -> None:
        """``keys`` None lets everybody in."""
        self._dialect = dialect
        self._body = BodyReader(dialect.form, hints=dialect.hints)
        self._check = check
        self._metrics = metrics
        self._limits = limits
        self._half_sent = half_sent
        self._keys = keys
        self._encode = msgspec.json.Encoder().encode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer or the error's envelope, or nothing to a client that has gone; cancellation alone is raised."""
        started = time.monotonic()
        headers = dict(scope["headers"])
        request_id = request_id_for(headers.get(REQUEST_ID_HEADER))
        outcome: Outcome = "failed"
        key = None
        status = 200
        more_headers: Sequence[tuple[bytes, bytes]] = ()
        try:
            if self._keys is not None:
                key = self._keys.admit(headers)
            answer = await self._answer(headers, receive, key=key, request_id=request_id, started=started)
            content = self._encode(self._dialect.write(answer, request_id))
            outcome = "ok"
        except RequestError as error:
            reply = reply_for(error)
            outcome, status, more_headers = reply.outcome, reply.status, error_headers(error)
            content = self._encode(self._dialect.write_error(error_envelope(error, request_id)))
            self._metrics.refused(error.code)
        except (asyncio.CancelledError, ClientGone) as error:
            outcome = "cancelled"
            if isinstance(error, ClientGone):
                return
            raise
        except Exception as error:
            about = {"request_id": request_id, "key": key} | describe_exception(error)
            logger.error("request failed unexpectedly", extra=about)
            status, content = 500, self._encode(self._dialect.write_error(unexpected_envelope(request_id)))
            self._metrics.refused("internal_error")
        finally:
            self._metrics.request_done(self._dialect.route, outcome)
        await send_json(send, status, content, request_id, more_headers)

    async def _answer(
        self, headers: RequestHeaders, receive: Receive, *, key: str | None, request_id: str, started: float
    ) -> CheckAnswer:
        limits = self._limits
        deadline = started + read_timeout(headers, at_most_s=limits.request_timeout_s)
        body = await read_body(
            receive,
            announced=headers.get(b"content-length"),
            max_bytes=limits.max_body_bytes,
            timeout_s=deadline - time.monotonic(),
            half_sent=self._half_sent,
        )
        asked = self._dialect.read(self._body.read(body, headers), headers)
        del body  # the texts may wait for long, and don't need it
        with DisconnectWatch(receive):
            try:
                left_s = deadline - time.monotonic()
                return await self._check(
                    asked.texts, policy_id=asked.policy_id, key=key, timeout_s=left_s, request_id=request_id
                )
            except TextTooLarge as error:
                if error.text_index is not None:
                    error.param = asked.text_param(error.text_index)
                raise


def read_timeout(headers: RequestHeaders, *, at_most_s: float) -> float:
    """Seconds that the client gives its request, ``at_most_s`` if it says nothing or more.

    Raises:
        InvalidRequest: not a number above 0.
    """
    given = headers.get(_TIMEOUT_HEADER)
    if given is None:
        return at_most_s
    try:
        timeout_s = float(given)
    except ValueError:
        timeout_s = math.nan
    if not timeout_s > 0:
        raise InvalidRequest("must be a number of seconds above 0", param=TIMEOUT_HEADER)
    return min(timeout_s, at_most_s)


def check_texts(texts: Sequence[Text], limits: DoorLimits, *, list_param: str, text_param: Callable[[int], str]) -> None:
    """Hold texts to the bounds on characters.

    Args:
        list_param, text_param: what the client calls the list, and the text at an index.

    Raises:
        TextTooLarge: one too long, or too much in all.
    """
    chars = 0
    for index, text in enumerate(texts):
        length = len(text.text)
        if length > limits.max_text_chars:
            raise TextTooLarge(
                f"the text has {length} characters; at most {limits.max_text_chars} are allowed", param=text_param(index)
            )
        chars += length
    if chars > limits.max_request_chars:
        raise TextTooLarge(
            f"the texts have {chars} characters in all; at most {limits.max_request_chars} are allowed", param=list_param
        )


def check_count(items: Sequence[Any], limits: DoorLimits, *, param: str) -> None:
    """Refuse a list that is too long before any work is spent on what it holds."""
    if len(items) > limits.max_texts:
        raise TextTooLarge(f"{len(items)} texts; at most {limits.max_texts} are allowed in one request", param=param)
