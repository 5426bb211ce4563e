"""Which items share a model call."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.batching.forming import form_batch
from server.batching.item import Request
from server.batching.limits import BatchLimits


@pytest.fixture(scope="module")
def items():
    """A maker of waiting items with the given costs."""
    loop = asyncio.new_event_loop()
    yield lambda costs: Request([(None, c) for c in costs], queued_at=0.0, deadline=1e18, future=loop.create_future()).items
    loop.close()


def costs(batch):
    return [item.cost for item in batch]


def test_items_of_one_length_go_together_up_to_the_item_limit(items):
    waiting = items([10] * 9)
    assert form_batch(waiting, limits=BatchLimits(max_batch_items=4), max_items=99) == waiting[:4]


def test_a_share_bounds_the_batch_too(items):
    waiting = items([10] * 9)
    assert form_batch(waiting, limits=BatchLimits(), max_items=3) == waiting[:3]


def test_padded_tokens_bound_the_batch(items):
    assert costs(form_batch(items([60, 58, 40, 59]), limits=BatchLimits(max_batch_tokens=180), max_items=99)) == [58, 59, 60]


def test_the_nearest_in_length_ride_along_with_the_oldest(items):
    limits = BatchLimits(max_batch_tokens=400)
    assert costs(form_batch(items([100, 12, 102, 10, 98, 300]), limits=limits, max_items=99)) == [98, 100, 102]


def test_an_item_that_would_make_every_token_dearer_waits_for_its_like(items):
    limits = BatchLimits(call_cost_tokens=10)
    assert costs(form_batch(items([20, 20, 22]), limits=limits, max_items=99)) == [20, 20, 22], "76 / 62 is below 50 / 40"
    assert costs(form_batch(items([20, 20, 24]), limits=limits, max_items=99)) == [20, 20], "82 / 64 is above 50 / 40"


def test_where_calls_are_dear_padding_is_cheap(items):
    limits = BatchLimits(call_cost_tokens=2_048, max_batch_tokens=16_384)
    assert costs(form_batch(items([20, 128, 60]), limits=limits, max_items=99)) == [20, 60, 128]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 200), min_size=2, max_size=12), st.integers(1, 50))
def test_no_batch_costs_more_per_token_than_its_first_item_alone(items, waiting, call_cost_tokens):
    first, *_ = waiting
    batch = costs(form_batch(items(waiting), limits=BatchLimits(call_cost_tokens=call_cost_tokens), max_items=99))
    assert (call_cost_tokens + len(batch) * max(batch)) / sum(batch) <= (call_cost_tokens + first) / first


def test_an_item_over_the_token_limit_goes_alone(items):
    assert costs(form_batch(items([500, 500, 10]), limits=BatchLimits(max_batch_tokens=64), max_items=99)) == [500]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 8), st.integers(1, 600), st.integers(1, 8))
def test_every_batch_keeps_the_limits_and_takes_the_first(items, waiting, max_batch_items, max_batch_tokens, share):
    limits = BatchLimits(max_batch_items=max_batch_items, max_batch_tokens=max_batch_tokens)
    queue = items(waiting)
    while queue:
        batch = form_batch(queue, limits=limits, max_items=share)
        assert queue[0] in batch
        assert len(set(batch)) == len(batch) <= min(share, max_batch_items)
        assert len(batch) == 1 or max(costs(batch)) * len(batch) <= max_batch_tokens
        queue = [item for item in queue if item not in batch]
