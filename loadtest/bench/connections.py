"""A lean HTTP/1.1 client: raw protocol, keep-alive, one request at a time on each connection, bytes made beforehand."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

LOST = "lost"
UNANSWERED = "unanswered"


class Call:
    """One request on its way. Times are ``time.monotonic()``; ``outcome`` is the status, :data:`LOST` or :data:`UNANSWERED`."""

    __slots__ = ("body", "done_at", "index", "intended_at", "outcome", "sent_at")

    def __init__(self, index: int, intended_at: float) -> None:
        self.index = index
        self.intended_at = intended_at
        self.sent_at = math.nan
        self.done_at = math.nan
        self.outcome = UNANSWERED
        self.body = b""


class Pool:
    """Sends calls over connections that it opens when none is free, up to ``most``; a call over that waits for one."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        most: int,
        payload: Callable[[int], bytes],
        now: Callable[[], float],
        on_done: Callable[[Call], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """Args:
        payload: the bytes of request ``index``.
        on_done: called once per call that was answered or lost.
        on_failure: no connection can be had.
        """
        self._address = host, port
        self._most = most
        self._payload = payload
        self._now = now
        self._on_done = on_done
        self._on_failure = on_failure
        self._free: list[_Connection] = []
        self._waiting: deque[Call] = deque()
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task] = set()

    def submit(self, call: Call) -> None:
        if self._free:
            self._send(self._free.pop(), call)
            return
        self._waiting.append(call)
        if len(self._open) + len(self._opening) < self._most and len(self._opening) < len(self._waiting):
            self._opening.add(asyncio.get_running_loop().create_task(self._connect()))

    def close(self) -> None:
        for task in self._opening:
            task.cancel()
        for connection in list(self._open):
            connection.close()

    def opened(self, connection: "_Connection") -> None:
        self._open.add(connection)
        self.freed(connection)

    def freed(self, connection: "_Connection") -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._free.append(connection)

    def answered(self, connection: "_Connection", call: Call, *, status: int, body: bytes, is_reusable: bool) -> None:
        call.done_at, call.outcome, call.body = self._now(), str(status), body
        # The caller may submit at once: let it find this connection free.
        if is_reusable:
            self.freed(connection)
        else:
            connection.close()
        self._on_done(call)

    def closed(self, connection: "_Connection", call: Call | None) -> None:
        self._open.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if call is not None:
            call.done_at, call.outcome = self._now(), LOST
            self._on_done(call)

    def _send(self, connection: "_Connection", call: Call) -> None:
        call.sent_at = self._now()
        connection.send(call, self._payload(call.index))

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Connection(self), *self._address)
        except OSError as error:
            self._on_failure(error)
        finally:
            self._opening.discard(asyncio.current_task())


class _Connection(asyncio.Protocol):
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._call: Call | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []

    def send(self, call: Call, payload: bytes) -> None:
        self._call = call
        self._transport.write(payload)

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        call, self._call = self._call, None
        self._pool.closed(self, call)

    def on_body(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        body, self._chunks = b"".join(self._chunks), []
        call, self._call = self._call, None
        if call is not None:
            is_reusable = self._parser.should_keep_alive()
            self._pool.answered(self, call, status=self._parser.get_status_code(), body=body, is_reusable=is_reusable)


def encode_request(host: str, port: int, path: str, body: bytes) -> bytes:
    """A whole POST of JSON, ready to be written."""
    fields = f"Host: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode("ascii") + body
