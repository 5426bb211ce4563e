"""One request and its reply, in plain ASGI: its id, its client's going away, its answer."""

import asyncio
import random
import re
from collections.abc import Sequence
from types import TracebackType

from starlette.types import Receive, Send

REQUEST_ID_HEADER = b"x-request-id"
_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
# An id tells requests apart and guards nothing, so it needs no system call for its randomness.
_ids = random.Random()

WATCH_AFTER_S = 0.005
"""When to begin to look for a client's going away. To look takes a task of its own, and most work is done by then."""


class ClientGone(Exception):
    """Nobody is left to read an answer."""


def request_id_for(wished: bytes | None) -> str:
    """The client's own id if that is sane, else 32 random hexadecimal digits."""
    if wished is not None and _SANE_REQUEST_ID.fullmatch(wished):
        return wished.decode("ascii")
    return f"{_ids.getrandbits(128):032x}"


async def send_json(
    send: Send, status: int, content: bytes, request_id: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """The reply; nothing can follow."""
    head = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (REQUEST_ID_HEADER, request_id.encode("ascii")),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": content})


class DisconnectWatch:
    """``with`` this, the work on a request whose client goes away is cancelled, so that nobody computes what nobody reads.
    What ends within :data:`WATCH_AFTER_S` isn't watched.

    Enter it once the body is in: all that can still come is the client's going away. Leaving by that way raises
    :class:`ClientGone`; a cancellation from elsewhere passes through.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watcher: asyncio.Future | None = None
        self._is_over = False
        self._is_gone = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "a request is served by a task"
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._watch)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over = True
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._is_gone and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientGone from None

    def _watch(self) -> None:
        self._watcher = asyncio.ensure_future(self._receive())
        self._watcher.add_done_callback(self._on_disconnect)

    def _on_disconnect(self, watcher: asyncio.Future) -> None:
        if not self._is_over and not watcher.cancelled() and watcher.exception() is None:
            self._is_gone = True
            self._task.cancel()
