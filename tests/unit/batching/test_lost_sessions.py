"""Sessions that die or get stuck: seen at once, counted, replaced; and what comes back late settles nothing."""

import asyncio
import logging
import threading

import pytest
from scripted_model import Model, Work, busy, entered, make_batcher, queued, rows, submitted

from server.core.errors import ArtifactError, ClassifierFailed, ShuttingDown

STUCK_S = 0.05


class Workshop:
    """Builds models, when it is let. ``first`` is what comes of the first attempts: errors are raised."""

    def __init__(self, *first):
        self.models = []
        self._first = list(first)
        self.is_open = threading.Event()
        self.is_open.set()

    def build(self):
        assert self.is_open.wait(60), "the test never opened the workshop"
        model = self._first.pop(0) if self._first else Model()
        if isinstance(model, Exception):
            raise model
        self.models.append(model)
        return self.models[-1]


@pytest.fixture
def workshop():
    workshop = Workshop()
    yield workshop
    workshop.is_open.set()
    for model in workshop.models:
        model.release()
        model.free()


def session_threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("session-")}


async def joined(threads):
    for thread in threads:
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive()


async def test_a_dead_session_is_seen_fails_its_batch_and_comes_back_with_another_model(model, recorder, workshop, caplog):
    caplog.set_level(logging.ERROR)
    workshop.is_open.clear()
    batcher = make_batcher([model], observer=recorder, rebuild=workshop.build)
    batcher.start()
    with pytest.raises(ClassifierFailed):
        await rows(batcher, Work(1, failure="die"))
    assert (batcher.is_alive, batcher.live_sessions, batcher.sessions) == (False, 0, 1)
    assert caplog.messages == ["session-0 died: Death"]
    workshop.is_open.set()
    assert await rows(batcher, Work(2)) == [4]
    assert (batcher.is_alive, batcher.live_sessions) == (True, 1)
    (replacement,) = workshop.models
    assert (len(model.calls), len(replacement.calls), replacement.warm_ups) == (1, 1, 1)
    assert (recorder.losses, recorder.drops) == (["died"], [("failed", 1)])
    assert await batcher.drain(30)


async def test_closing_does_not_wait_for_a_restart(model, workshop):
    batcher = make_batcher([model], restart_after_s=1_000.0, rebuild=workshop.build)
    batcher.start()
    with pytest.raises(ClassifierFailed):
        await rows(batcher, Work(1, failure="die"))
    waiting = await submitted(batcher, Work(2))
    batcher.close()
    with pytest.raises(ShuttingDown):
        await waiting
    assert await batcher.drain(30)
    assert workshop.models == []


async def test_a_drain_gives_up_a_stuck_call_that_nobody_waits_for_any_more(model, recorder, workshop):
    batcher = make_batcher([model], observer=recorder, rebuild=workshop.build, stuck_s=STUCK_S)
    batcher.start()
    gone = await submitted(batcher, Work(1, failure="stick"))
    await entered(model)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await asyncio.wait_for(batcher.drain(1_000), 30)
    assert (recorder.losses, workshop.models) == (["stuck"], [])
    model.free()


@pytest.mark.parametrize("failure", ["wear_out", "spoil"])
async def test_a_model_that_fails_on_everything_is_dead_although_it_lives_on(model, recorder, workshop, caplog, failure):
    batcher = make_batcher([model], observer=recorder, rebuild=workshop.build)
    batcher.start()
    with pytest.raises(ClassifierFailed):
        await rows(batcher, Work(1, failure=failure))
    assert await rows(batcher, Work(2)) == [4]
    assert (len(model.calls), len(workshop.models)) == (1, 1)
    assert recorder.losses == ["died"]
    assert "session-0 died: RuntimeError" in caplog.messages
    assert await batcher.drain(30)


@pytest.mark.parametrize("failure", ["raise", "bad"])
async def test_a_poisoned_text_alone_kills_no_session(model, recorder, workshop, failure):
    batcher = make_batcher([model], observer=recorder, rebuild=workshop.build)
    batcher.start()
    with pytest.raises(ClassifierFailed):
        await rows(batcher, Work(1, failure=failure))
    assert await rows(batcher, Work(2)) == [4]
    assert (model.warm_ups, workshop.models, recorder.losses) == (1, [], [])
    assert await batcher.drain(30)


async def test_a_rebuild_that_fails_is_said_and_tried_again(model, caplog):
    caplog.set_level(logging.ERROR)
    worn_out = Model()
    worn_out.is_worn_out = True
    workshop = Workshop(ArtifactError("artifact /a: model.onnx is corrupt"), ValueError("a secret"), worn_out)
    batcher = make_batcher([model], rebuild=workshop.build)
    batcher.start()
    with pytest.raises(ClassifierFailed):
        await rows(batcher, Work(1, failure="die"))
    assert await rows(batcher, Work(2)) == [4]
    assert caplog.messages == [
        "session-0 died: Death",
        "session-0 can't be rebuilt: artifact /a: model.onnx is corrupt",
        "session-0 can't be rebuilt: ValueError",
        "session-0 can't be rebuilt: RuntimeError",
    ]
    assert await batcher.drain(30)


async def test_a_stuck_session_fails_its_items_and_another_takes_its_place(model, recorder, workshop, caplog):
    caplog.set_level(logging.WARNING)
    before = session_threads()
    batcher = make_batcher([model], observer=recorder, rebuild=workshop.build, stuck_s=STUCK_S)
    batcher.start()
    first = await busy(batcher, model)
    doomed = [await submitted(batcher, Work(1, failure="stick")), await submitted(batcher, Work(2))]
    model.release()
    assert await first == [-2]
    (stuck,) = session_threads() - before
    for task in doomed:
        with pytest.raises(ClassifierFailed, match="did not come back"):
            await task
    assert await rows(batcher, Work(3), Work(4)) == [6, 8]
    assert (recorder.losses, recorder.drops) == (["stuck"], [("failed", 1), ("failed", 1)])
    assert batcher.live_sessions == 1
    model.free()
    await joined([stuck])
    assert await rows(batcher, Work(5)) == [10]
    assert [items for items, _, _ in recorder.batches] == [1, 2, 1], "what came back late is reported to nobody"
    assert [len(call) for call in model.calls] == [1, 2], "and its thread takes nothing more"
    assert caplog.messages[0] == "session-0 is stuck in a call of 2 items: given up"
    assert caplog.messages[1].endswith("too late")
    assert recorder.losses == ["stuck"]
    assert await batcher.drain(30)


async def test_the_others_serve_while_one_is_stuck(recorder, workshop):
    models = [Model(), Model()]
    workshop.is_open.clear()
    batcher = make_batcher(models, observer=recorder, rebuild=workshop.build, stuck_s=STUCK_S)
    batcher.start()
    with pytest.raises(ClassifierFailed):
        await rows(batcher, Work(1, failure="stick"))
    assert (batcher.is_alive, batcher.live_sessions, batcher.sessions) == (True, 1, 2)
    assert await rows(batcher, Work(2)) == [4]
    for model in models:
        model.free()
    workshop.is_open.set()
    assert await batcher.drain(30)


async def test_stuck_threads_do_not_pile_up(model, recorder, workshop):
    """Each keeps a model's memory: beyond one per session, a replacement waits until one of them comes back."""
    batcher = make_batcher([model], observer=recorder, rebuild=workshop.build, stuck_s=STUCK_S)
    batcher.start()
    for _ in range(2):
        with pytest.raises(ClassifierFailed):
            await rows(batcher, Work(1, failure="stick"))
    assert (len(workshop.models), batcher.live_sessions) == (1, 0)
    waiting = await submitted(batcher, Work(2))
    model.free()
    assert await waiting == [4]
    assert (len(workshop.models), batcher.live_sessions) == (2, 1)
    workshop.models[0].free()
    assert await batcher.drain(30)


@pytest.mark.parametrize("stood_still", [1.2, 4])
async def test_a_server_that_was_stopped_itself_blames_no_session(model, recorder, stood_still):
    batcher = make_batcher([model], observer=recorder, stuck_s=STUCK_S)
    batcher.start()
    task = await busy(batcher, model)
    threading.Event().wait(stood_still * STUCK_S)  # the loop stands still, as all of a stopped process does
    for _ in range(3):
        await asyncio.sleep(0)
    model.release()
    assert await task == [-2]
    assert recorder.losses == []
    assert await batcher.drain(30)


async def test_expired_work_does_not_hide_a_stuck_session(model, recorder, workshop):
    batcher = make_batcher([model], observer=recorder, rebuild=workshop.build, stuck_s=STUCK_S)
    batcher.start()
    gone = await submitted(batcher, Work(1, failure="stick"))
    await entered(model)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await rows(batcher, Work(2)) == [4]
    assert (recorder.losses, recorder.drops) == (["stuck"], [("cancelled", 1)])
    assert queued(batcher) == (0, 0)
    model.free()
    assert await batcher.drain(30)


async def test_a_drain_does_not_wait_for_the_stuck(model, workshop):
    batcher = make_batcher([model], rebuild=workshop.build, stuck_s=STUCK_S)
    batcher.start()
    with pytest.raises(ClassifierFailed):
        await rows(batcher, Work(1, failure="stick"))
    assert await asyncio.wait_for(batcher.drain(1_000), 30)
    model.free()


class TornLimits:
    """Limits that raise, once they are torn, when a thread first asks them how many items go into a batch."""

    max_queue_items = max_queue_tokens = max_batch_tokens = 1_000
    max_queue_wait_s = 60.0
    call_cost_tokens = 10
    is_torn = False

    @property
    def max_batch_items(self):
        is_torn, self.is_torn = self.is_torn, False
        if is_torn:
            raise ZeroDivisionError("a secret")
        return 8


async def test_a_session_whose_thread_ends_is_seen_and_replaced(model, recorder, workshop, caplog):
    limits = TornLimits()
    batcher = make_batcher([model], observer=recorder, rebuild=workshop.build, limits=limits)
    batcher.start()
    first = await busy(batcher, model)
    waiting = await submitted(batcher, Work(1))
    limits.is_torn = True
    model.release()
    assert await first == [-2]
    assert await waiting == [2], "what it had not yet taken is for its successor"
    assert (len(workshop.models), batcher.live_sessions, recorder.losses) == (1, 1, ["died"])
    assert "session-0 ended: ZeroDivisionError" in caplog.messages
    assert await batcher.drain(30)
    assert recorder.losses == ["died"], "a thread that ends with the batcher is no loss"


async def test_the_batch_of_a_thread_that_ends_fails_at_once(model, recorder, workshop):
    class Torn(int):
        """A cost that can't be padded."""

        def __rmul__(self, _):
            raise MemoryError

    batcher = make_batcher([model], observer=recorder, rebuild=workshop.build)
    batcher.start()
    with pytest.raises(ClassifierFailed):
        await rows(batcher, Work(1, cost=Torn(4)))
    assert await rows(batcher, Work(2)) == [4]
    assert (recorder.losses, recorder.drops, model.calls) == (["died"], [("failed", 1)], [])
    assert await batcher.drain(30)


async def test_a_replacement_is_tried_again_while_no_thread_is_to_be_had(model, recorder, workshop, monkeypatch, caplog):
    batcher = make_batcher([model], observer=recorder, rebuild=workshop.build, stuck_s=STUCK_S)
    batcher.start()
    start, failures = threading.Thread.start, [None] * 2

    def run_out(thread):
        if thread.name == "session-0" and failures:
            failures.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", run_out)
    with pytest.raises(ClassifierFailed):
        await rows(batcher, Work(1, failure="stick"))
    assert await rows(batcher, Work(2)) == [4]
    assert (len(workshop.models), batcher.live_sessions, recorder.losses) == (1, 1, ["stuck"])
    assert caplog.messages.count("session-0 can't be started: can't start new thread") == 2
    model.free()
    assert await batcher.drain(30)


async def test_what_costs_nothing_is_nobodys_text(model):
    batcher = make_batcher([model])
    batcher.start()
    with pytest.raises(AssertionError, match="at least 1, not 0"):
        await rows(batcher, Work(1), Work(2, cost=0))
    assert queued(batcher) == (0, 0)
    assert await batcher.drain(30)
