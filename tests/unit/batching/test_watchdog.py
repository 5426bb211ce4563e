"""Which calls are stuck, which aren't, and until when somebody looks."""

import asyncio
import threading

import pytest
from scripted_model import Model, Work, entered, make_batcher, rows, submitted

from server.batching.watchdog import LOOKS, Watchdog
from server.core.errors import ClassifierFailed

STUCK_S = 0.2
PAUSE_S = STUCK_S / LOOKS


async def test_a_fresh_call_is_left_alone_when_an_older_one_is_given_up(recorder):
    models = [Model(), Model()]
    batcher = make_batcher(models, observer=recorder, rebuild=Model, stuck_s=STUCK_S)
    batcher.start()
    tasks = []
    for value in (1, 2):
        tasks.append(await submitted(batcher, Work(value, failure="stick")))
        while sum(len(model.calls) for model in models) < len(tasks):
            await asyncio.to_thread(bool)
        if value == 1:
            await asyncio.sleep(2 * PAUSE_S)  # another timer of the same loop: two looks were at the first, none at the second
    with pytest.raises(ClassifierFailed):
        await tasks[0]
    for model in models:
        model.free()
    assert await tasks[1] == [4]
    assert recorder.losses == ["stuck"]
    assert await batcher.drain(30)


async def test_each_call_of_a_batch_that_is_split_has_its_own_time(recorder):
    """Three calls, each of more than half of what is allowed."""

    class Stepped(Model):
        def __init__(self):
            super().__init__()
            self.steps = threading.Semaphore(0)

        def classify(self, payloads):
            self._entered.release()
            assert self.steps.acquire(timeout=60), "the test never let the call go on"
            if len(payloads) > 1:
                raise RuntimeError
            return [2 * payload.value for payload in payloads]

    model = Stepped()
    batcher = make_batcher([model], observer=recorder, rebuild=Model, stuck_s=STUCK_S)
    batcher.start()
    task = await submitted(batcher, Work(1), Work(2))
    for _ in range(3):
        await entered(model)
        await asyncio.sleep(2.2 * PAUSE_S)
        model.steps.release()
    assert await task == [2, 4]
    assert recorder.losses == []
    assert await batcher.drain(30)


async def test_a_session_is_watched_from_its_restart_on(model, recorder):
    """The last look before was while it had a batch already, and none had heard of its restart."""
    replacement, opened = Model(), threading.Event()

    def build():
        assert opened.wait(60), "the test never let the session be rebuilt"
        return replacement

    batcher = make_batcher([model], observer=recorder, rebuild=build, stuck_s=STUCK_S)
    batcher.start()
    with pytest.raises(ClassifierFailed):
        await rows(batcher, Work(1, failure="die"))
    task = await submitted(batcher, Work(2, failure="stick"))

    def let_it_restart():
        opened.set()
        replacement.wait_entered()

    asyncio.get_running_loop().call_soon(let_it_restart)
    threading.Event().wait(1.1 * PAUSE_S)  # the loop's next turn begins with the restart, and with the look that is due
    with pytest.raises(ClassifierFailed, match="did not come back"):
        await task
    assert recorder.losses == ["died", "stuck"]
    replacement.free()
    assert await batcher.drain(30)


async def test_nobody_looks_while_nothing_is_called():
    answers, looks, ended = iter([False, False, True, False, True]), [], asyncio.Event()

    def is_idle():
        looks.append(next(answers, True))
        if looks[-1]:
            ended.set()
        return looks[-1]

    watchdog = Watchdog(stuck_s=0.004, sessions=lambda: (), is_idle=is_idle, on_stuck=lambda *_: None)
    for total in (3, 5):
        watchdog.arm()
        watchdog.arm()
        await asyncio.wait_for(ended.wait(), 30)
        ended.clear()
        await asyncio.sleep(0.005)  # for a look too many
        assert len(looks) == total
