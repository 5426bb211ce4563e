"""uvicorn's HTTP protocol, made to bear clients that are slow, silent or huge.

uvicorn waits for ever for the end of a request's head, lets it grow without bound, never closes a connection on which no
request came, and takes any bytes, even empty lines, for a sign of life. Here:

- a head is complete within ``read_timeout_s`` of its first byte, or the answer is 408;
- a head is at most ``max_head_bytes`` long, or the answer is 431;
- a connection without a request, new or used, is closed after uvicorn's own keep-alive time, whatever trickles in;
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
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from server.doors.errors import status_envelope
from server.doors.exchange import REQUEST_ID_HEADER, request_id_for

_LINE_BYTES = 4
"""What a header line holds beside its name and value."""


def guard_protocol(*, read_timeout_s: float, max_head_bytes: int) -> Callable[..., asyncio.Protocol]:
    """What ``uvicorn.Config(http=…)`` takes."""
    return partial(GuardProtocol, read_timeout_s=read_timeout_s, max_head_bytes=max_head_bytes)


class OneWrite:
    """A transport on which an answer's head, the only write that ends in an empty line, goes out with what follows it, or at
    :meth:`flush`: an answer to HEAD has nothing to follow."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        if (
            not self._head
            and data.endswith(b"\r\n\r\n")
            and data.startswith(b"HTTP/1.1 ")
            and not data.startswith(b"HTTP/1.1 100")
        ):
            self._head = data
        else:
            head, self._head = self._head, b""
            self._transport.write(head + data)

    def flush(self) -> None:
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()


class _HeadTooLarge(Exception):
    """Raised through the parser, which stops there."""


class GuardProtocol(HttpToolsProtocol):
    """One connection. At most one timer is armed at any time: uvicorn's for silence, or ours for slowness."""

    def __init__(self, *args: Any, read_timeout_s: float, max_head_bytes: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_timeout_s = read_timeout_s
        self._max_head_bytes = max_head_bytes
        self._in_head = False
        self._in_body = False
        self._begun_in_this_data = False
        self._head_bytes = 0
        self._read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(OneWrite(transport))
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_read_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            self._decline_upgrade(data[stopped.args[0] :])
            return
        except httptools.HttpParserError as error:
            is_huge = isinstance(error.__context__, _HeadTooLarge)
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if is_huge else HTTPStatus.BAD_REQUEST)
            return
        if self._in_head:
            self._hold_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._in_head = self._begun_in_this_data = True

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        if self._head_bytes > self._max_head_bytes and self._parsed_head_bytes() > self._max_head_bytes:
            raise _HeadTooLarge
        self._head_bytes = 0
        self._stop_read_timer()
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        if self.parser.should_upgrade():
            return
        self._stop_read_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.transport.flush()
        super().on_response_complete()
        if self._in_head or self._in_body:
            self._unset_keepalive_if_required()
        if self._in_body and not self.transport.is_closing():
            self._read_timer = self.loop.call_later(self._read_timeout_s, self.transport.close)

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
        """Answer what can't become a request, unless an earlier one's answer is still owed; then hang up."""
        self._stop_read_timer()
        if self.transport.is_closing():
            return
        is_owed = self.cycle is not None and not self.cycle.response_complete
        if not (is_owed and (self._in_head or self.pipeline or self.cycle.response_started)):
            request_id = request_id_for(None)
            content = msgspec.json.encode(status_envelope(status, request_id))
            head = [
                STATUS_LINE[status],
                b"content-type: application/json\r\ncontent-length: %d\r\n" % len(content),
                b"%b: %b\r\nconnection: close\r\n\r\n" % (REQUEST_ID_HEADER, request_id.encode("ascii")),
            ]
            self.transport.write(b"".join(head) + content)
        self.transport.close()

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
