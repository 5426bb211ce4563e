"""Every item is settled exactly once under any mix of failures, deaths, stuck sessions, cancellations, expiry, shedding and
shutdown."""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_model import Model, Recorder, Work, make_batcher, queued, soon

from server.batching.limits import BatchLimits
from server.core.errors import ClassifierFailed, DeadlineExceeded, QueueFull, ShuttingDown

LIMITS = BatchLimits(max_batch_items=4, max_batch_tokens=64, max_queue_items=12, max_queue_tokens=200)
REASONS = {
    DeadlineExceeded: "expired",
    asyncio.CancelledError: "cancelled",
    ClassifierFailed: "failed",
    ShuttingDown: "shutdown",
}
LOSSES = {"die", "wear_out", "spoil", "stick"}
"""What takes a session's whole batch with it, the neighbours included."""


@dataclass(frozen=True)
class Plan:
    """One caller: what it sends, when it gives up, and how many turns the loop takes before the next one comes."""

    failures: list[str | None]
    costs: list[int]
    left_s: float
    cancel_after_turns: int | None
    turns: int

    @property
    def works(self):
        return [Work(i, cost, failure) for i, (cost, failure) in enumerate(zip(self.costs, self.failures, strict=False))]


class Models:
    """One model per session and one more per rebuild; ``failing_builds`` of these fail first."""

    def __init__(self, sessions, failing_builds):
        self.all = [Model() for _ in range(sessions)]
        self._failing_builds = failing_builds

    def rebuild(self):
        if self._failing_builds:
            self._failing_builds -= 1
            raise OSError("no model")
        self.all.append(Model())
        return self.all[-1]

    def each(self, method):
        for model in list(self.all):
            getattr(model, method)()


failures = st.sampled_from([None] * 12 + ["raise", "bad", "rows", "die", "wear_out", "spoil", "stick"])
plans = st.builds(
    Plan,
    failures=st.lists(failures, min_size=1, max_size=5),
    costs=st.lists(st.integers(1, 40), min_size=5, max_size=5),
    left_s=st.sampled_from([30.0, 30.0, 30.0, 0.0005, 0.003]),
    cancel_after_turns=st.sampled_from([None, None, None, 0, 1, 3]),
    turns=st.integers(0, 3),
)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def play(plans, *, sessions, failing_builds, held_for, ending):
    """Run the plans; each caller's outcome, what the observer saw, what waits at the end, and what the loop caught."""
    caught = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
    models, recorder = Models(sessions, failing_builds), Recorder()
    before = set(threading.enumerate())
    can_stick = any("stick" in plan.failures for plan in plans)
    batcher = make_batcher(
        models.all[:], rebuild=models.rebuild, limits=LIMITS, observer=recorder, stuck_s=0.02 if can_stick else 60.0
    )
    batcher.start()
    if held_for:
        models.each("hold")
    tasks = []
    for position, plan in enumerate(plans):
        if position == held_for:
            models.each("release")
        task = asyncio.create_task(batcher.submit(plan.works, deadline=soon(plan.left_s)))
        tasks.append(task)
        if plan.cancel_after_turns is not None:
            await turns(plan.cancel_after_turns)
            task.cancel()
        await turns(plan.turns)
    if ending == "close":
        await turns(1)
        batcher.close()
    models.each("release")
    if sum(plan.failures.count("stick") for plan in plans) > sessions:
        # More may be stuck than are replaced: then the rest is only served when some come back.
        asyncio.get_running_loop().call_later(0.2, models.each, "free")
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    heard = recorder.drops[:]
    models.each("free")
    assert await batcher.drain(60)
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("session-"):
            await asyncio.to_thread(thread.join, 60)
    await turns(3)
    assert recorder.drops == heard, "what came back late settled something"
    return outcomes, recorder, queued(batcher), caught


def assert_allowed(plan, outcome, *, any_loss, ending):
    if isinstance(outcome, list):
        assert [answer.row for answer in outcome] == [2 * work.value for work in plan.works]
        assert {work.failure for work in plan.works} <= {None, "stick"}
    elif isinstance(outcome, DeadlineExceeded):
        assert plan.left_s < 1
    elif isinstance(outcome, asyncio.CancelledError):
        assert plan.cancel_after_turns is not None
    elif isinstance(outcome, ClassifierFailed):
        assert any_loss or any(work.failure for work in plan.works)
    elif isinstance(outcome, ShuttingDown):
        assert ending == "close"
    else:
        assert isinstance(outcome, QueueFull), repr(outcome)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    plans=st.lists(plans, min_size=1, max_size=12),
    sessions=st.integers(1, 3),
    failing_builds=st.integers(0, 2),
    held_for=st.integers(0, 12),
    ending=st.sampled_from(["drain", "close"]),
)
def test_every_item_is_settled_exactly_once(plans, sessions, failing_builds, held_for, ending):
    outcomes, recorder, waiting, caught = asyncio.run(
        play(plans, sessions=sessions, failing_builds=failing_builds, held_for=held_for, ending=ending)
    )
    assert caught == []
    assert waiting == (0, 0)
    any_loss = any(LOSSES & set(plan.failures) for plan in plans)
    for plan, outcome in zip(plans, outcomes, strict=True):
        assert_allowed(plan, outcome, any_loss=any_loss, ending=ending)
    # The observer hears at most once of a caller. A cancelled one may have been settled an instant before; one that was
    # refused at the door, for its deadline or the shutdown, was never admitted.
    heard = Counter(reason for reason, _ in recorder.drops)
    ended = Counter(REASONS[type(outcome)] for outcome in outcomes if type(outcome) in REASONS)
    assert heard.total() <= ended.total()
    assert heard["cancelled"] <= ended["cancelled"]
    assert ended["failed"] <= heard["failed"] <= ended["failed"] + ended["cancelled"]
