"""What every HTTP request passes on its way in. Plain ASGI: one call deep, nothing buffered."""

import asyncio
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.core.errors import TextTooLarge

REQUEST_ID_HEADER = "x-request-id"
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestId:
    """Gives each request an id, its client's if that is sane, in ``request.state.request_id`` and the reply's header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wished = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = wished if _SANE_REQUEST_ID.fullmatch(wished) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


class BodyLimit:
    """Refuses a body over ``max_bytes``, as it is announced or as it comes in.

    The refusal is ``TextTooLarge``, raised where the route reads its body, so that it is answered and counted like any other.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        is_announced_over = announced.isdecimal() and int(announced) > self._max_bytes
        received_bytes = 0

        async def receive_bounded() -> Message:
            nonlocal received_bytes
            if not is_announced_over:
                message = await receive()
                received_bytes += len(message.get("body", b""))
                if received_bytes <= self._max_bytes:
                    return message
            raise TextTooLarge(f"the body is over {self._max_bytes} bytes")

        await self._app(scope, receive_bounded, send)


class CancelOnDisconnect:
    """Cancels the work on a request whose client has gone, so that nobody computes what nobody reads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            if not exchange.is_abandoned or exchange.task.uncancel() > 0:
                raise
        finally:
            exchange.finish()


class _Exchange:
    """One request and its reply. Once the body is in, all that can still come is the client's going away."""

    def __init__(self, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None, "a request is served by a task"
        self.task = task
        self.is_abandoned = False
        self._receive = receive
        self._send = send
        self._is_finished = False
        self._watcher: asyncio.Task[Message] | None = None

    async def receive(self) -> Message:
        if self._watcher is not None:
            return await asyncio.shield(self._watcher)
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._watcher = asyncio.create_task(self._wait_disconnect())
            self._watcher.add_done_callback(self._on_disconnect)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_finished = True
        await self._send(message)

    def finish(self) -> None:
        self._is_finished = True
        if self._watcher is not None:
            self._watcher.cancel()

    async def _wait_disconnect(self) -> Message:
        return await self._receive()

    def _on_disconnect(self, watcher: asyncio.Task[Message]) -> None:
        if not watcher.cancelled() and watcher.exception() is None and not self._is_finished:
            self.is_abandoned = True
            self.task.cancel()
