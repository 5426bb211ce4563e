"""The one layer in front of the routes that are no doors."""

from server.doors.middleware import RequestId


async def test_the_reply_carries_the_requests_id():
    seen, sent = [], []

    async def app(scope, _receive, send):
        seen.append(scope["state"]["request_id"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    for wished in (b"mine", b"my\tid"):
        await RequestId(app)({"type": "http", "headers": [(b"x-request-id", wished)]}, None, send)
    assert seen[0] == "mine"
    assert len(seen[1]) == 32
    assert [message["headers"] for message in sent] == [[(b"x-request-id", seen_id.encode())] for seen_id in seen]


async def test_what_is_not_http_passes_untouched():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    await RequestId(app)({"type": "lifespan"}, "receive", "send")
    assert seen == [({"type": "lifespan"}, "receive", "send")]
