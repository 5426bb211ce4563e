"""The batcher: every caller hears exactly once, whatever happens to the model, the others or the server."""

import asyncio
import math
import time

import pytest
from scripted_model import Work, busy, make_batcher, queued, rows, soon, submitted

from server.batching.limits import BatchLimits
from server.core.errors import ClassifierFailed, DeadlineExceeded, QueueFull, ShuttingDown, TextTooLarge


async def test_answers_come_in_the_order_of_the_payloads(model):
    batcher = make_batcher([model])
    batcher.start()
    answers = await batcher.submit([Work(3), Work(1), Work(2)], deadline=soon())
    assert [answer.row for answer in answers] == [6, 2, 4]
    assert all(0 <= answer.queue_s < 30 and 0 <= answer.infer_s < 30 for answer in answers)
    assert await batcher.submit([], deadline=soon()) == []
    assert await batcher.drain(30)


async def test_what_waits_while_the_session_is_busy_makes_the_next_batch(model, recorder):
    batcher = make_batcher([model], observer=recorder)
    batcher.start()
    first = await busy(batcher, model)
    tasks = [await submitted(batcher, Work(value, cost=value)) for value in (5, 7, 6)]
    assert queued(batcher) == (3, 18)
    model.release()
    assert await asyncio.gather(first, *tasks) == [[-2], [10], [14], [12]]
    assert [[work.value for work in call] for call in model.calls] == [[-1], [5, 6, 7]]
    assert recorder.batches == [(1, 4, 4), (3, 18, 21)]
    assert queued(batcher) == (0, 0)
    assert recorder.drops == []
    assert await batcher.drain(30)


@pytest.mark.parametrize("failure", ["raise", "bad", "rows"])
async def test_a_poisoned_item_fails_alone(model, recorder, failure, caplog):
    batcher = make_batcher([model], observer=recorder)
    batcher.start()
    first = await busy(batcher, model)
    works = [Work(value, failure=failure if value == 3 else None) for value in range(8)]
    tasks = [await submitted(batcher, work) for work in works]
    model.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert await first == [-2]
    assert isinstance(results.pop(3), ClassifierFailed)
    assert results == [[2 * value] for value in (0, 1, 2, 4, 5, 6, 7)]
    assert recorder.drops == [("failed", 1)]
    assert [items for items, _, _ in recorder.batches] == [1, 8]
    assert "told to fail" not in caplog.text
    assert batcher.is_alive
    assert await batcher.drain(30)


async def test_one_failed_item_fails_its_request_and_frees_the_rest(model, recorder):
    batcher = make_batcher([model], limits=BatchLimits(max_batch_items=1), observer=recorder)
    batcher.start()
    first = await busy(batcher, model)
    doomed = await submitted(batcher, Work(1), Work(2, failure="raise"), *(Work(value) for value in range(3, 9)))
    neighbour = await submitted(batcher, Work(9))
    model.release()
    with pytest.raises(ClassifierFailed):
        await doomed
    assert await asyncio.gather(first, neighbour) == [[-2], [18]]
    assert recorder.drops == [("failed", 7)]
    assert queued(batcher) == (0, 0)
    assert await batcher.drain(30)


async def test_a_full_queue_sheds_at_once_and_keeps_its_word_to_the_others(model, recorder):
    batcher = make_batcher([model], limits=BatchLimits(max_queue_items=3), observer=recorder)
    batcher.start()
    first = await busy(batcher, model)
    waiting = await submitted(batcher, Work(1), Work(2))
    with pytest.raises(QueueFull) as caught:
        await rows(batcher, Work(3), Work(4))
    assert caught.value.retry_after_s >= 1
    with pytest.raises(TextTooLarge):
        await rows(batcher, *[Work(5)] * 4)
    assert queued(batcher) == (2, 8)
    model.release()
    assert await asyncio.gather(first, waiting) == [[-2], [2, 4]]
    assert sum(len(call) for call in model.calls) == 3
    assert await batcher.drain(30)


async def test_a_deadline_is_kept_while_the_model_goes_on(model, recorder):
    batcher = make_batcher([model], observer=recorder)
    batcher.start()
    model.hold()
    started_at = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await rows(batcher, Work(1), deadline=soon(0.02))
    assert 0.015 < time.monotonic() - started_at < 25
    assert recorder.drops == [("expired", 1)]
    model.release()
    assert await rows(batcher, Work(2)) == [4]
    assert await batcher.drain(30)


async def test_an_item_that_expired_in_the_queue_costs_no_inference(model, recorder):
    batcher = make_batcher([model], observer=recorder)
    batcher.start()
    first = await busy(batcher, model)
    with pytest.raises(DeadlineExceeded):
        await rows(batcher, Work(1), Work(2), deadline=soon(0.02))
    assert queued(batcher) == (0, 0)
    model.release()
    assert await first == [-2]
    assert await batcher.drain(30)
    assert [[work.value for work in call] for call in model.calls] == [[-1]]
    assert recorder.drops == [("expired", 2)]


async def test_a_deadline_in_the_past_is_not_admitted(model, recorder):
    batcher = make_batcher([model], observer=recorder)
    batcher.start()
    with pytest.raises(DeadlineExceeded):
        await rows(batcher, Work(1), deadline=soon(-1))
    assert recorder.drops == model.calls == []
    assert await rows(batcher, Work(1)) == [2]  # shows the rate
    with pytest.raises(DeadlineExceeded):
        batcher.expect(1, tokens=1, deadline=soon(-1))
    assert await batcher.drain(30)


async def test_a_cancelled_caller_costs_no_inference(model, recorder):
    batcher = make_batcher([model], observer=recorder)
    batcher.start()
    first = await busy(batcher, model)
    gone = await submitted(batcher, Work(1), Work(2))
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert queued(batcher) == (0, 0)
    assert recorder.drops == [("cancelled", 2)]
    model.release()
    assert await first == [-2]
    assert await batcher.drain(30)
    assert sum(len(call) for call in model.calls) == 1


async def test_draining_finishes_what_was_admitted_and_admits_no_more(model):
    batcher = make_batcher([model])
    batcher.start()
    first = await busy(batcher, model)
    waiting = await submitted(batcher, Work(1))
    draining = asyncio.create_task(batcher.drain(30))
    await asyncio.sleep(0)
    with pytest.raises(ShuttingDown):
        await rows(batcher, Work(2))
    model.release()
    assert await draining is True
    assert await asyncio.gather(first, waiting) == [[-2], [2]]
    assert not batcher.is_alive
    assert batcher.live_sessions == 0


async def test_what_a_drain_can_not_finish_is_told_so(model, recorder):
    batcher = make_batcher([model], observer=recorder)
    batcher.start()
    first = await busy(batcher, model)
    waiting = await submitted(batcher, Work(1), Work(2))
    assert await batcher.drain(0.02) is False
    for task in (first, waiting):
        with pytest.raises(ShuttingDown):
            await task
    assert sorted(recorder.drops) == [("shutdown", 1), ("shutdown", 2)]
    model.release()
    assert await batcher.drain(30) is True
    assert len(model.calls) == 1


async def test_a_batcher_admits_nothing_before_it_starts_and_after_it_closes(model):
    batcher = make_batcher([model])
    assert not batcher.is_alive
    with pytest.raises(ShuttingDown):
        await rows(batcher, Work(1))
    batcher.start()
    assert batcher.is_alive
    batcher.close()
    assert not batcher.is_alive
    with pytest.raises(ShuttingDown):
        await rows(batcher, Work(1))
    assert await batcher.drain(30)


def test_a_loop_that_closed_early_harms_no_thread(model):
    batcher = make_batcher([model])

    async def leave_one_call_running():
        batcher.start()
        task = await busy(batcher, model)
        task.cancel()

    asyncio.run(leave_one_call_running())
    model.release()
    batcher.close()


def test_a_batcher_without_models_is_refused():
    with pytest.raises(ValueError, match="at least one model"):
        make_batcher([])


async def test_what_would_wait_too_long_is_refused_before_anything_is_done_for_it(model):
    batcher = make_batcher([model], limits=BatchLimits(max_queue_wait_s=0.001))
    batcher.start()
    model.release()
    await batcher.submit([Work(1, cost=1)], deadline=math.inf)  # shows the rate
    first = await busy(batcher, model)
    waiting = await submitted(batcher, Work(2, cost=60_000))
    with pytest.raises(QueueFull):
        batcher.expect(1, tokens=60_000, deadline=math.inf)
    batcher.expect(1, tokens=10, deadline=math.inf)
    model.release()
    await asyncio.gather(first, waiting)
    assert await batcher.drain(30)


@pytest.mark.parametrize("failure", ["raise", "bad", "rows", "die", None])
async def test_a_batch_that_failed_says_nothing_of_the_rate(model, failure):
    """Before any rate is known, nobody is known to wait."""
    batcher = make_batcher([model])
    batcher.start()
    await asyncio.gather(rows(batcher, Work(1), Work(2, failure=failure)), return_exceptions=True)
    first = await busy(batcher, model)
    waiting = await submitted(batcher, Work(3))
    assert (batcher.queue_wait_s > 0) is (failure is None)
    model.release()
    await asyncio.gather(first, waiting)
    assert await batcher.drain(30)


async def test_what_can_not_be_admitted_is_refused_before_anything_is_done_for_it(model):
    batcher = make_batcher([model], limits=BatchLimits(max_queue_items=3, max_queue_tokens=20))
    with pytest.raises(ShuttingDown):
        batcher.expect(1, tokens=1, deadline=math.inf)
    batcher.start()
    first = await busy(batcher, model)
    with pytest.raises(TextTooLarge):
        batcher.expect(4, tokens=4, deadline=math.inf)
    waiting = await submitted(batcher, Work(1, cost=9), Work(2, cost=9))
    batcher.expect(1, tokens=1, deadline=math.inf)
    with pytest.raises(QueueFull):
        batcher.expect(2, tokens=2, deadline=math.inf)
    crowded = await submitted(batcher, Work(3, cost=2))
    with pytest.raises(QueueFull):
        batcher.expect(1, tokens=1, deadline=math.inf)
    model.release()
    assert await asyncio.gather(first, waiting, crowded) == [[-2], [2, 4], [6]]
    batcher.expect(3, tokens=3, deadline=math.inf)
    assert await batcher.drain(30)
    with pytest.raises(ShuttingDown):
        batcher.expect(1, tokens=1, deadline=math.inf)


async def test_a_long_text_is_not_overtaken_for_ever_by_short_ones(model):
    """However many keep coming, those whose turn is before its own are all that can go before it."""
    batcher = make_batcher([model], limits=BatchLimits(max_batch_items=2, max_batch_tokens=500))
    batcher.start()
    first = await busy(batcher, model)
    early = [await submitted(batcher, Work(value, cost=5)) for value in range(3)]
    long = await submitted(batcher, Work(99, cost=400))
    late = [await submitted(batcher, Work(value, cost=401)) for value in range(3, 40)]
    model.release()
    await asyncio.gather(first, long, *early, *late)
    calls = [[work.value for work in call] for call in model.calls[1:]]
    assert calls[0] == [0, 1]
    assert calls[1:4] == [[2], [99], [3]]
    assert await batcher.drain(30)
