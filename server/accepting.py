"""Take every connection that waits, each turn of the event loop.

libuv takes one a turn, and in one turn a busy server answers all requests that have come in since the last. Under three times
what it could hold, new clients waited for their turn for up to 40 seconds, whatever the deadline said.
"""

import asyncio
import os
import socket
from collections.abc import Callable


class Accepting:
    """Beside a listening server's own way of taking connections, until :meth:`close`. Used on the event loop only."""

    def __init__(self, server: asyncio.Server, protocol: Callable[[], asyncio.Protocol], *, most: int) -> None:
        """Args:
        protocol: makes a connection's, like the server's own.
        most: connections to take at a turn; a server's backlog holds no more.
        """
        self._protocol = protocol
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task] = set()
        # The event loop watches a descriptor once, and the server's is the server's.
        self._listeners = [socket.socket(fileno=os.dup(listener.fileno())) for listener in server.sockets]
        for listener in self._listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener.fileno(), self._take_all, listener)

    async def close(self) -> None:
        """Take those that wait by now, and no more. On return each is the loop's, and what it has sent can be read."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            self._take_all(listener)
            listener.close()
        self._listeners = []
        if self._opening:
            await asyncio.wait(self._opening)

    def _take_all(self, listener: socket.socket) -> None:
        for _ in range(self._most):
            try:
                connection, _ = listener.accept()
            except OSError:  # none is left; or no descriptor is, which the server's own way deals with
                return
            connection.setblocking(False)
            opening = self._loop.create_task(self._open(connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # gone already
            connection.close()
