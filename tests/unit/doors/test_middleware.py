"""The three layers, each around a bare application."""

import asyncio

import pytest

from server.core.errors import TextTooLarge
from server.doors.middleware import BodyLimit, CancelOnDisconnect, RequestId


def scope(**headers: str) -> dict:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "headers": raw}


def receiving(*messages: dict):
    left = list(messages)

    async def receive():
        return left.pop(0)

    return receive


def chunk(body: bytes, more_body: bool = False) -> dict:
    return {"type": "http.request", "body": body, "more_body": more_body}


async def ignore(_message) -> None:
    pass


async def read_all(_scope, receive, _send) -> None:
    while (await receive()).get("more_body"):
        pass


@pytest.mark.parametrize(
    ("announced", "chunks", "is_refused"),
    [
        ("10", [b"0123456789"], False),
        ("11", [b"0123456789"], True),
        ("", [b"01234", b"56789"], False),
        ("", [b"01234", b"56789", b"0"], True),
        ("5", [b"0123456789", b"0"], True),
        ("ten", [b"0123456789"], False),
    ],
)
async def test_a_body_is_bounded_by_what_it_says_and_by_what_it_is(announced, chunks, is_refused):
    messages = [chunk(body, more_body=index < len(chunks) - 1) for index, body in enumerate(chunks)]
    refused = False
    try:
        await BodyLimit(read_all, max_bytes=10)(scope(content_length=announced), receiving(*messages), ignore)
    except TextTooLarge:
        refused = True
    assert refused is is_refused


async def test_the_reply_carries_the_requests_id():
    seen, sent = [], []

    async def app(scope, _receive, send):
        seen.append(scope["state"]["request_id"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    await RequestId(app)(scope(x_request_id="mine"), receiving(), send)
    await RequestId(app)(scope(x_request_id="my\tid"), receiving(), send)
    assert seen[0] == "mine"
    assert len(seen[1]) == 32
    assert [message["headers"] for message in sent] == [[(b"x-request-id", seen_id.encode())] for seen_id in seen]


async def test_the_clients_going_cancels_the_application():
    gone, ended = asyncio.Event(), []
    messages = [chunk(b"a", more_body=True), chunk(b"b")]

    async def receive():
        if messages:
            return messages.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def app(_scope, receive, _send):
        await read_all(_scope, receive, _send)
        gone.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with asyncio.timeout(60):
        await CancelOnDisconnect(app)(scope(), receive, ignore)
    assert ended == ["cancelled"]
    assert asyncio.current_task().cancelling() == 0


async def test_a_cancellation_from_elsewhere_passes_through():
    entered = asyncio.Event()

    async def app(_scope, receive, _send):
        await receive()
        entered.set()
        await asyncio.Event().wait()

    async def receive():
        if not entered.is_set():
            return chunk(b"")
        await asyncio.Event().wait()

    task = asyncio.create_task(CancelOnDisconnect(app)(scope(), receive, ignore))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_disconnect_after_the_reply_cancels_nothing():
    replied, ended = asyncio.Event(), []
    messages = [chunk(b"")]

    async def receive():
        if messages:
            return messages.pop()
        await replied.wait()
        return {"type": "http.disconnect"}

    async def app(_scope, receive, send):
        await receive()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        replied.set()
        assert (await receive())["type"] == "http.disconnect"
        ended.append("whole")

    await CancelOnDisconnect(app)(scope(), receive, ignore)
    assert ended == ["whole"]


@pytest.mark.parametrize("layer", [RequestId, CancelOnDisconnect, lambda app: BodyLimit(app, max_bytes=1)])
async def test_what_is_not_http_passes_untouched(layer):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    receive = receiving()
    await layer(app)({"type": "lifespan"}, receive, ignore)
    assert seen == [({"type": "lifespan"}, receive, ignore)]
