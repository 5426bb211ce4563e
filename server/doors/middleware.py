"""What a request passes on its way to every route that is no door; doors see to themselves."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.doors.exchange import REQUEST_ID_HEADER, request_id_for


class RequestId:
    """Gives each request an id, its client's if that is sane, in ``request.state.request_id`` and the reply's header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = REQUEST_ID_HEADER.decode("ascii")
        request_id = request_id_for(Headers(scope=scope).get(name, "").encode("latin-1"))
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[name] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)
