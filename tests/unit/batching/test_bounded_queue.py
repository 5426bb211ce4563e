"""The queue alone: bounds, order, and what it says to those it sheds."""

import asyncio
import threading
import time
from dataclasses import fields
from operator import itemgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.batching.item import Request
from server.batching.limits import BatchLimits
from server.batching.queue import MAX_RETRY_AFTER_S, BoundedQueue
from server.core.errors import QueueFull, TextTooLarge

LIMITS = BatchLimits(max_batch_items=4, max_batch_tokens=100, max_queue_items=6, max_queue_tokens=60)


@pytest.fixture
def request_of():
    """A maker of requests with the given costs, which came so long after the others."""
    loop, came_at = asyncio.new_event_loop(), time.monotonic()
    yield lambda *costs, left_s=60.0, after_s=0.0: Request(
        [(cost, cost) for cost in costs],
        queued_at=came_at + after_s,
        deadline=came_at + after_s + left_s,
        future=loop.create_future(),
    )
    loop.close()


def test_items_are_admitted_all_or_none(request_of):
    queue = BoundedQueue(LIMITS)
    queue.put_all(request_of(10, 10, 10, 10))
    assert (queue.items, queue.tokens) == (4, 40)
    with pytest.raises(QueueFull):
        queue.put_all(request_of(1, 1, 1))
    with pytest.raises(QueueFull):
        queue.put_all(request_of(21))
    assert (queue.items, queue.tokens) == (4, 40)
    queue.put_all(request_of(10, 10))
    assert (queue.items, queue.tokens) == (6, 60)


@pytest.mark.parametrize("costs", [(61,), (1,) * 7])
def test_what_could_never_fit_is_too_large_rather_than_shed(request_of, costs):
    queue = BoundedQueue(LIMITS)
    with pytest.raises(TextTooLarge, match=f"needs {len(costs)} windows of {sum(costs)} tokens"):
        queue.put_all(request_of(*costs))
    assert queue.items == 0


def test_what_would_wait_too_long_is_shed(request_of):
    queue = BoundedQueue(BatchLimits(max_queue_wait_s=2.0))
    queue.put_all(request_of(2_500))  # before anything is known of the rate, everybody is let in
    queue.record_service(tokens=990, infer_s=1.0, sessions=1)
    with pytest.raises(QueueFull) as caught:
        queue.put_all(request_of(2_500))
    assert caught.value.retry_after_s == 3
    queue.record_service(tokens=10_990, infer_s=1.0, sessions=1)  # the rate is 2,000 now
    queue.put_all(request_of(2_500))


def test_what_would_wait_beyond_its_own_deadline_is_shed_at_once(request_of):
    queue = BoundedQueue(BatchLimits(max_queue_wait_s=60.0))
    queue.put_all(request_of(1_000))
    queue.record_service(tokens=990, infer_s=1.0, sessions=1)
    with pytest.raises(QueueFull):
        queue.put_all(request_of(1_000, left_s=0.9))
    queue.put_all(request_of(1_000, left_s=30.0))


def test_a_long_request_keeps_no_short_one_out_since_it_gives_way(request_of):
    queue = BoundedQueue(BatchLimits(max_queue_wait_s=1.0))
    long = request_of(*[256] * 40)
    queue.put_all(long)
    queue.record_service(tokens=990, infer_s=1.0, sessions=1)
    short = request_of(20)
    queue.put_all(short)
    assert queue.take() == short.items
    with pytest.raises(QueueFull):
        queue.put_all(request_of(*[256] * 40))
    queue.discard(long)
    queue.put_all(request_of(*[256] * 40))


def test_retry_after_is_what_waits_at_the_recent_rate(request_of):
    queue = BoundedQueue(LIMITS)
    queue.put_all(request_of(60))

    def retry_after_s():
        with pytest.raises(QueueFull) as caught:
            queue.put_all(request_of(1))
        return caught.value.retry_after_s

    assert queue.wait_s == 0
    assert retry_after_s() == 1
    queue.record_service(tokens=10, infer_s=2.0, sessions=1)
    assert queue.wait_s == pytest.approx(6)
    assert retry_after_s() == 6
    queue.record_service(tokens=50, infer_s=1.0, sessions=2)  # the rate moves a tenth of the way, from 10 to 21
    assert retry_after_s() == 3
    for _ in range(200):
        queue.record_service(tokens=1, infer_s=100.0, sessions=1)
    assert retry_after_s() == MAX_RETRY_AFTER_S


def test_whose_turn_it_is_is_taken_however_odd_its_length(request_of):
    queue = BoundedQueue(LIMITS)
    shorts, long, more = request_of(1, 1), request_of(50), request_of(1, 1)
    for request in (shorts, long, more):
        queue.put_all(request)
    assert queue.take() == shorts.items + more.items
    late = request_of(1, after_s=1.0)  # after the long one's turn
    queue.put_all(late)
    assert queue.take() == long.items
    assert queue.take() == late.items
    assert (queue.items, queue.tokens) == (0, 0)


def test_a_long_request_gives_way_for_three_tenths_of_a_millisecond_per_token_and_no_longer(request_of):
    """2,048 tokens: 0.6144 s, whatever comes in the meantime."""
    queue = BoundedQueue(BatchLimits(max_batch_tokens=256))
    long, early, late = request_of(*[128] * 16), request_of(24, after_s=0.6), request_of(24, after_s=0.61)
    queue.put_all(long)
    queue.put_all(early)
    assert queue.take() == early.items
    queue.put_all(late)
    assert [queue.take() for _ in range(8)] == [long.items[i : i + 2] for i in range(0, 16, 2)]
    assert queue.take() == late.items


def test_nobody_gives_way_for_more_than_a_quarter_of_its_time():
    request = Request([(None, 128)] * 16, queued_at=10.0, deadline=12.0, future=None)
    assert request.turn_at == 10.5


@pytest.mark.parametrize("windows", [100, 188, 255, 1_023])
def test_a_short_text_goes_next_however_many_windows_of_a_longer_one_wait(request_of, windows):
    queue = BoundedQueue(BatchLimits(max_queue_tokens=1_000_000))
    short = request_of(10, after_s=0.05)
    queue.put_all(request_of(*[256] * windows))
    queue.put_all(short)
    assert queue.take() == short.items


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 128), st.integers(1, 20), st.floats(0, 1)), min_size=1, max_size=30))
def test_nobody_is_overtaken_by_what_came_after_its_turn(requests):
    queue = BoundedQueue(BatchLimits(max_batch_items=1))
    waiting = []
    for cost, items, at in sorted(requests, key=itemgetter(2)):
        request = Request([(None, cost)] * items, queued_at=at, deadline=1e18, future=None)
        queue.put_all(request)
        waiting += request.items
    while waiting:
        (taken,) = queue.take()
        waiting.remove(taken)
        assert all(taken.queued_at <= item.turn_at for item in waiting), "it came after the turn of one that still waits"


def test_what_nobody_wants_is_dropped_on_the_way(request_of):
    queue = BoundedQueue(LIMITS)
    expired, ended, wanted = request_of(5, left_s=-1.0), request_of(5), request_of(5)
    ended.end(None)
    for request in (expired, ended, wanted):
        queue.put_all(request)
    assert queue.take() == wanted.items
    assert (queue.items, queue.tokens) == (0, 0)


def test_discarding_gives_back_the_room_of_what_still_waits_of_that_request_alone(request_of):
    queue = BoundedQueue(LIMITS)
    begun, request, other = request_of(*[5] * 6), request_of(30), request_of(5)
    queue.put_all(begun)
    assert queue.take() == begun.items[:4]
    for waiting in (request, other):
        queue.put_all(waiting)
    for gone in (begun, request, request):
        queue.discard(gone)
    assert (queue.items, queue.tokens) == (1, 5)
    assert queue.take() == other.items
    assert (queue.items, queue.tokens) == (0, 0)


def test_closing_wakes_those_who_wait():
    queue = BoundedQueue(LIMITS)
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(queue.take()), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    queue.close()
    for thread in threads:
        thread.join(30)
    assert taken == [None, None]
    assert queue.wait_closed(0)


@pytest.mark.parametrize("name", [field.name for field in fields(BatchLimits)])
def test_limits_that_let_nothing_through_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be above 0, not 0"):
        BatchLimits(**{name: 0})


def test_idle_sessions_share_what_arrives(request_of):
    class ToldWhenRead:
        """Limits whose reading, under the queue's lock and just before a taker waits, can be waited for."""

        max_batch_tokens = max_queue_items = max_queue_tokens = 1_000
        call_cost_tokens = 10
        was_read = threading.Semaphore(0)

        @property
        def max_batch_items(self):
            self.was_read.release()
            return 8

    limits = ToldWhenRead()
    queue = BoundedQueue(limits)
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(queue.take()), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert limits.was_read.acquire(timeout=30)
    queue.put_all(request_of(*[10] * 8))
    for thread in threads:
        thread.join(30)
    assert [len(batch) for batch in taken] == [4, 4]
