"""A request's id, its bounded body, and its client's going away."""

import asyncio
import re
import time

import pytest

from server.core.errors import DeadlineExceeded, QueueFull, TextTooLarge
from server.doors.exchange import (
    WATCH_AFTER_S,
    BodyBudget,
    ClientGone,
    DisconnectWatch,
    read_body,
    request_id_for,
    send_json,
)


def receiving(*chunks: bytes, then=None):
    """An ASGI ``receive`` that gives a body in chunks, and then ``then``'s message when that event is set."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1} for index, chunk in enumerate(chunks)
    ]

    async def receive():
        if messages:
            return messages.pop(0)
        await (then or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    return receive


async def read(receive, announced=None, *, timeout_s=60.0, budget=None):
    budget = budget or BodyBudget(10)
    try:
        return await read_body(receive, announced=announced, max_bytes=10, timeout_s=timeout_s, budget=budget)
    finally:
        assert_empty(budget, 10)


def assert_empty(budget: BodyBudget, max_bytes: int) -> None:
    """There would be no room for so much if anything were held."""
    budget.take(max_bytes, held_bytes=0)
    budget.give_back(max_bytes)


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

    with pytest.raises(DeadlineExceeded):
        await read(receive, timeout_s=0.01)


async def test_a_client_that_hangs_up_half_way_is_gone():
    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await read(receive)


async def test_half_sent_bodies_share_one_budget_and_leave_room_for_shorter_ones():
    budget, waiting = BodyBudget(20), asyncio.Event()

    async def half(size: int):
        sent = [{"type": "http.request", "body": b"0" * size, "more_body": True}]
        waiting.clear()

        async def receive():
            if not sent:
                waiting.set()
                await asyncio.Event().wait()
            return sent.pop()

        reading = asyncio.create_task(read_body(receive, announced=None, max_bytes=10, timeout_s=60.0, budget=budget))
        await asyncio.wait([reading, asyncio.create_task(waiting.wait())], return_when=asyncio.FIRST_COMPLETED)
        return reading

    first, second = await half(10), await half(5)
    third, fourth = await half(3), await half(2)
    with pytest.raises(QueueFull, match="too much is being read") as refused:
        await third
    assert refused.value.retry_after_s == 1
    whole = receiving(b"0123456789")
    assert await read_body(whole, announced=None, max_bytes=10, timeout_s=60.0, budget=budget) == b"0123456789"
    for reading in (first, second, fourth):
        assert not reading.done()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert_empty(budget, 20)


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
        with pytest.raises(ClientGone), DisconnectWatch(receiving(then=gone)):
            await work()
    assert ended == ["cancelled"]
    assert not patience.expired()
    assert asyncio.current_task().cancelling() == 0


async def test_a_cancellation_from_elsewhere_passes_through():
    entered = asyncio.Event()

    async def serve():
        with DisconnectWatch(receiving()):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_ends_first_is_left_alone_and_nothing_watches_any_more():
    gone = asyncio.Event()
    with DisconnectWatch(receiving(then=gone)):
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
    with pytest.raises(TextTooLarge), DisconnectWatch(receiving()):
        raise TextTooLarge("over")
