"""A transport that sends an answer in one piece: one system call and one packet."""

import asyncio
from collections.abc import Callable


class OneWrite:
    """A transport on which an answer's head, the only write that ends in an empty line, goes out with what follows it, or at
    :meth:`flush`: an answer to HEAD has nothing to follow. The first :meth:`close` calls ``end``, when all is written."""

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        self._transport = transport
        self._end = end
        self._head = b""
        self._is_closed = False
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
        if not self._is_closed:
            self.flush()
            self._is_closed = True
            self._end()

    def is_closing(self) -> bool:
        return self._is_closed or self._transport.is_closing()
