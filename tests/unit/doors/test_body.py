"""A request's body: bounded in bytes and in time, alone and together with all others."""

import asyncio

import pytest

from server.core.errors import QueueFull, TextTooLarge
from server.core.shared_bound import SharedBound
from server.doors.body import read_body
from server.doors.errors import BodyTooSlow
from server.doors.exchange import ClientGone


def receiving(*chunks: bytes):
    """An ASGI ``receive`` that gives a body in chunks, and nothing more."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1} for index, chunk in enumerate(chunks)
    ]

    async def receive():
        return messages.pop(0)

    return receive


async def read(receive, announced=None, *, timeout_s=60.0, half_sent=None):
    half_sent = half_sent or SharedBound(10)
    try:
        return await read_body(receive, announced=announced, max_bytes=10, timeout_s=timeout_s, half_sent=half_sent)
    finally:
        assert_empty(half_sent, 10)


def assert_empty(half_sent: SharedBound, max_bytes: int) -> None:
    """There would be no room for so much beside anything that is held."""
    assert half_sent.take(max_bytes)


@pytest.mark.parametrize("announced", [None, b"10", b"3", b"ten", b""])
async def test_a_body_within_the_bound_is_whole_whatever_was_announced(announced):
    assert await read(receiving(b"0123", b"", b"456789"), announced) == b"0123456789"


@pytest.mark.parametrize(
    ("announced", "chunks"),
    [
        (b"11", []),
        (b"9" * 5_000, []),
        (None, [b"01234567890"]),
        (None, [b"01234", b"56789", b"0"]),
        (b"5", [b"0123456789", b"0"]),
    ],
)
async def test_a_body_over_the_bound_is_refused_as_announced_or_as_it_comes(announced, chunks):
    with pytest.raises(TextTooLarge, match="the body is over 10 bytes"):
        await read(receiving(*chunks), announced)


async def test_a_body_that_never_ends_meets_the_deadline():
    sent = [{"type": "http.request", "body": b"0", "more_body": True}]

    async def receive():
        return sent.pop() if sent else await asyncio.Event().wait()

    with pytest.raises(BodyTooSlow):
        await read(receive, timeout_s=0.01)


async def test_a_client_that_hangs_up_half_way_is_gone():
    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await read(receive)


async def test_half_sent_bodies_share_one_budget_and_leave_room_for_shorter_ones():
    half_sent, waiting = SharedBound(20), asyncio.Event()

    async def half(size: int):
        sent = [{"type": "http.request", "body": b"0" * size, "more_body": True}]
        waiting.clear()

        async def receive():
            if not sent:
                waiting.set()
                await asyncio.Event().wait()
            return sent.pop()

        reading = asyncio.create_task(read_body(receive, announced=None, max_bytes=10, timeout_s=60.0, half_sent=half_sent))
        await asyncio.wait([reading, asyncio.create_task(waiting.wait())], return_when=asyncio.FIRST_COMPLETED)
        return reading

    first, second = await half(10), await half(5)
    third, fourth = await half(3), await half(2)
    with pytest.raises(QueueFull, match="too much is being read") as refused:
        await third
    assert refused.value.retry_after_s == 1
    whole = receiving(b"0123456789")
    assert await read_body(whole, announced=None, max_bytes=10, timeout_s=60.0, half_sent=half_sent) == b"0123456789"
    for reading in (first, second, fourth):
        assert not reading.done()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert_empty(half_sent, 20)
