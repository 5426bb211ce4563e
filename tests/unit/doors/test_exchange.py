"""A request's id, its client's going away, and its reply."""

import asyncio
import re
import time

import pytest

from server.core.errors import TextTooLarge
from server.doors.exchange import WATCH_AFTER_S, ClientGone, DisconnectWatch, request_id_for, send_json


async def nothing_more():
    """An ASGI ``receive`` of a client that stays and sends nothing."""
    await asyncio.Event().wait()


def leaving(gone: asyncio.Event):
    """An ASGI ``receive`` of a client that goes away then."""

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    return receive


@pytest.mark.parametrize("wished", [b"mine", b"a.b_c:d-9", b"x" * 128])
def test_a_sane_id_is_kept(wished):
    assert request_id_for(wished) == wished.decode()


@pytest.mark.parametrize("wished", [None, b"", b"a b", b"x" * 129, b"<b>", b"\xff", b"a\n"])
def test_any_other_is_replaced_by_one_of_its_own(wished):
    made = {request_id_for(wished) for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in made)


async def test_a_reply_is_one_head_and_one_body():
    sent = []

    async def send(message):
        sent.append(message)

    await send_json(send, 429, b"{}", "r1", [(b"retry-after", b"2")])
    head = [(b"content-type", b"application/json"), (b"content-length", b"2"), (b"x-request-id", b"r1"), (b"retry-after", b"2")]
    assert sent == [
        {"type": "http.response.start", "status": 429, "headers": head},
        {"type": "http.response.body", "body": b"{}"},
    ]


async def test_the_clients_going_cancels_the_work():
    gone, ended = asyncio.Event(), []

    async def work():
        gone.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with asyncio.timeout(60) as patience:
        with pytest.raises(ClientGone), DisconnectWatch(leaving(gone)):
            await work()
    assert ended == ["cancelled"]
    assert not patience.expired()
    assert asyncio.current_task().cancelling() == 0


async def test_a_cancellation_from_elsewhere_passes_through():
    entered = asyncio.Event()

    async def serve():
        with DisconnectWatch(nothing_more):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_ends_first_is_left_alone_and_nothing_watches_any_more():
    gone = asyncio.Event()
    with DisconnectWatch(leaving(gone)):
        await asyncio.sleep(0)
    gone.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_only_work_that_is_not_done_soon_is_watched():
    watched = asyncio.Event()

    async def receive():
        watched.set()
        await asyncio.Event().wait()

    with DisconnectWatch(receive):
        await asyncio.sleep(0)
    assert not watched.is_set()
    started = time.monotonic()
    with DisconnectWatch(receive):
        await watched.wait()
    assert time.monotonic() - started > WATCH_AFTER_S / 2


async def test_the_works_own_error_is_the_one_that_counts():
    with pytest.raises(TextTooLarge), DisconnectWatch(nothing_more):
        raise TextTooLarge("over")
