"""uvicorn's HTTP protocol, made to bear clients that are slow, silent or huge.

uvicorn waits for ever for the end of a request's head and for a client that doesn't read, lets heads and the requests that
wait on a connection grow without bound, never closes a connection on which no request came, and takes any bytes, even empty
lines, for a sign of life. Here:

- a head is complete within ``read_timeout_s`` of its first byte, or the answer is 408;
- a head is at most ``max_head_bytes`` long and of :data:`MAX_HEADERS` lines, or the answer is 431; so is what follows a body;
- of requests that are sent without waiting for answers, :data:`MAX_OWED` are answered, and the connection ends;
- a client that doesn't read is hung up on when nothing of its answers could be sent for ``read_timeout_s``;
- an answer reaches a client that was still sending: the connection ends when the client has ended its side, or after
  ``read_timeout_s``. To close it over bytes that nobody read would make the kernel take the answer back;
- a connection without a request, new or used, is closed after uvicorn's own keep-alive time, whatever trickles in;
- what can't be read costs no answer that is owed on its connection: what was asked before is answered first;
- a client that asks and closes its own side at once is answered, within :data:`HALF_CLOSED_S`;
- an offer to upgrade (Java's client makes one on every request, to HTTP/2) is declined by reading on; uvicorn's parser takes
  what follows the head for another protocol, and the body is lost;
- what is left of a body whose request is already answered has ``read_timeout_s`` to come in, and then is hung up on;
- an answer's head waits for its body, and both go in one system call and one packet.

How long a body may take before it is answered is for the door to say: the request's deadline covers it.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from server.core.types import TurnedAwayStatus
from server.doors.errors import status_envelope
from server.doors.exchange import REQUEST_ID_HEADER, request_id_for
from server.doors.one_write import OneWrite

HALF_CLOSED_S = 0.25
"""How long work goes on for a client that sends no more: it has closed its own side and listens, or it is gone, and that
looks the same. Most answers are there by then."""

MAX_HEADERS = 100
"""A head of tiny lines takes a dozen times its length in memory."""

MAX_OWED = 64
"""Requests of one connection that wait for their answers, one after another."""

_LINE_BYTES = 4
"""What a header line holds beside its name and value."""


def guard_protocol(
    *, read_timeout_s: float, max_head_bytes: int, on_refusal: Callable[[TurnedAwayStatus], None]
) -> Callable[..., asyncio.Protocol]:
    """What ``uvicorn.Config(http=…)`` takes. ``on_refusal`` is told the status of each refusal that is sent."""
    return partial(GuardProtocol, read_timeout_s=read_timeout_s, max_head_bytes=max_head_bytes, on_refusal=on_refusal)


class _HeadTooLarge(Exception):
    """Raised through the parser, which stops there."""


class _TooMuchOwed(Exception):
    """Likewise."""


class GuardProtocol(HttpToolsProtocol):
    """One connection. At most one timer is armed for what the client sends, uvicorn's for silence or ours for slowness, and one
    for what it should read."""

    def __init__(
        self,
        *args: Any,
        read_timeout_s: float,
        max_head_bytes: int,
        on_refusal: Callable[[TurnedAwayStatus], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._on_refusal = on_refusal
        self._read_timeout_s = read_timeout_s
        self._max_head_bytes = max_head_bytes
        self._in_head = False
        self._in_body = False
        self._begun_in_this_data = False
        self._head_bytes = 0
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._owed = 0
        """Requests without a whole answer, of which all but the newest are here whole."""
        self._is_ending = False
        """Nothing more is read; the connection ends when nothing is owed any more."""
        self._refusal: HTTPStatus | None = None
        """With which words it then ends."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        self._wire = transport
        self._one_write = OneWrite(transport, self._end)
        super().connection_made(self._one_write)  # type: ignore[arg-type] # all of a transport that uvicorn uses
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_read_timer()
        self._stop_write_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        self._head_bytes = self._head_bytes + len(data) if self._in_head or self._in_body else len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            self._decline_upgrade(data[stopped.args[0] :])
            return
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _TooMuchOwed):
                self._end_when_answered(None)
            else:
                is_huge = isinstance(error.__context__, _HeadTooLarge)
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if is_huge else HTTPStatus.BAD_REQUEST)
            return
        if self._in_head:
            self._hold_head()
        elif self._in_body and self._head_bytes > self._max_head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn says None, asyncio lets it be a bool
        """Keeps the connection open for what is owed."""
        if self.transport.is_closing():
            return False
        if not self._is_ending:
            self._end_when_answered(None)
        if self._is_ending:
            self._read_timer = self.loop.call_later(HALF_CLOSED_S, self._wire.close)
        return self._is_ending

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._read_timeout_s, self._wire.abort)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._in_head = self._begun_in_this_data = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MAX_HEADERS:
            raise _HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head_bytes > self._max_head_bytes and self._parsed_head_bytes() > self._max_head_bytes:
            raise _HeadTooLarge
        if self._owed >= MAX_OWED:
            raise _TooMuchOwed
        self._stop_read_timer()
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self._in_body = True
            self._owed += 1

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        if self.parser.should_upgrade():
            return
        self._stop_read_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._one_write.flush()
        super().on_response_complete()
        self._owed -= 1
        if self._is_ending:
            if not self._owed:
                self._hang_up(self._refusal)
            return
        if self._in_head or self._in_body:
            self._unset_keepalive_if_required()
        if self._in_body and not self.transport.is_closing():
            self._read_timer = self.loop.call_later(self._read_timeout_s, self._wire.close)

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read the head again without the offer, and then ``rest``, which came after it."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode("ascii"))]
        for name, value in self.headers:
            if name == b"connection" and b"close" in value.lower():
                lines.append(b"connection: close")
            elif name not in (b"connection", b"upgrade"):
                lines.append(b"%b: %b" % (name, value))
        self.parser = httptools.HttpRequestParser(self)  # the old one reads no further after a "close" beside the offer
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _hold_head(self) -> None:
        """The data ended inside a head: bound its size and the time that is left to it."""
        if self._begun_in_this_data:
            # What came before it in this data was another request's.
            self._begun_in_this_data = False
            self._head_bytes = self._parsed_head_bytes()
        if self._head_bytes > self._max_head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._read_timer is None:
            self._read_timer = self.loop.call_later(self._read_timeout_s, self._refuse, HTTPStatus.REQUEST_TIMEOUT)

    def _parsed_head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + _LINE_BYTES for name, value in self.headers)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer what can't become a request, after all that is owed; then hang up."""
        self._end_when_answered(status)
        if not self._is_ending:
            is_half_answered = bool(self._owed) and self.cycle.response_started
            self._hang_up(None if is_half_answered else status)

    def _end_when_answered(self, refusal: HTTPStatus | None) -> None:
        """Read no more, if an answer is owed to a request that is here whole. One that is not never will be."""
        self._stop_read_timer()
        whole = self._owed
        if self._in_body and not self.cycle.response_complete:
            whole -= 1
            if whole:  # so it waits its turn, as the last
                self.pipeline.popleft()
                self._owed = whole
        if whole:
            self._is_ending, self._refusal = True, refusal

    def _hang_up(self, refusal: HTTPStatus | None) -> None:
        if self.transport.is_closing():
            return
        if refusal is not None:
            request_id = request_id_for(None)
            content = msgspec.json.encode(status_envelope(refusal, request_id))
            head = [
                STATUS_LINE[refusal],
                b"content-type: application/json\r\ncontent-length: %d\r\n" % len(content),
                b"%b: %b\r\nconnection: close\r\n\r\n" % (REQUEST_ID_HEADER, request_id.encode("ascii")),
            ]
            self.transport.write(b"".join(head) + content)
            self._on_refusal(cast(TurnedAwayStatus, refusal.value))
        self._in_head = self._in_body = False
        self._is_ending = refusal is not HTTPStatus.REQUEST_TIMEOUT  # a client that sent nothing has nothing unread
        self.transport.close()

    def _end(self) -> None:
        """Close; where the client may be sending still, only our side of it, so that it can read its answer."""
        if (self._in_head or self._in_body or self._is_ending) and self._wire.can_write_eof():
            self._is_ending = True
            self.flow.resume_reading()
            self._wire.write_eof()
        else:
            self._wire.close()
        self._stop_read_timer()
        self._read_timer = self.loop.call_later(self._read_timeout_s, self._wire.abort)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
