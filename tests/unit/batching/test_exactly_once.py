"""Every item is settled exactly once under any mix of failures, cancellations, expiry, shedding and shutdown."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_model import Model, Recorder, Work, make_batcher, soon

from server.batching.limits import BatchLimits
from server.core.errors import ClassifierFailed, DeadlineExceeded, QueueFull, ShuttingDown

LIMITS = BatchLimits(max_batch_items=4, max_batch_tokens=64, max_queue_items=12, max_queue_tokens=200)
REASONS = {
    DeadlineExceeded: "expired",
    asyncio.CancelledError: "cancelled",
    ClassifierFailed: "failed",
    ShuttingDown: "shutdown",
}


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


failures = st.sampled_from([None] * 8 + ["raise", "bad", "rows", "die"])
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


async def play(plans, *, sessions, held_for, ending):
    """Run the plans; each caller's outcome, whether it was admitted, what the observer saw, and what the loop caught."""
    caught = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
    model, recorder = Model(), Recorder()
    batcher = make_batcher([model] * sessions, limits=LIMITS, observer=recorder)
    batcher.start()
    if held_for:
        model.hold()
    tasks = []
    for position, plan in enumerate(plans):
        if position == held_for:
            model.release()
        task = asyncio.create_task(batcher.submit(plan.works, deadline=soon(plan.left_s)))
        tasks.append(task)
        if plan.cancel_after_turns is not None:
            await turns(plan.cancel_after_turns)
            task.cancel()
        await turns(plan.turns)
    if ending == "close":
        await turns(1)
        batcher.close()
    model.release()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert await batcher.drain(60)
    return outcomes, recorder, caught


def assert_allowed(plan, outcome, *, any_death, ending):
    if isinstance(outcome, list):
        assert [answer.row for answer in outcome] == [2 * work.value for work in plan.works]
        assert not any(work.failure for work in plan.works)
    elif isinstance(outcome, DeadlineExceeded):
        assert plan.left_s < 1
    elif isinstance(outcome, asyncio.CancelledError):
        assert plan.cancel_after_turns is not None
    elif isinstance(outcome, ClassifierFailed):
        assert any_death or any(work.failure for work in plan.works)
    elif isinstance(outcome, ShuttingDown):
        assert ending == "close"
    else:
        assert isinstance(outcome, QueueFull), repr(outcome)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    plans=st.lists(plans, min_size=1, max_size=12),
    sessions=st.integers(1, 3),
    held_for=st.integers(0, 12),
    ending=st.sampled_from(["drain", "close"]),
)
def test_every_item_is_settled_exactly_once(plans, sessions, held_for, ending):
    outcomes, recorder, caught = asyncio.run(play(plans, sessions=sessions, held_for=held_for, ending=ending))
    assert caught == []
    any_death = any("die" in plan.failures for plan in plans)
    for plan, outcome in zip(plans, outcomes, strict=True):
        assert_allowed(plan, outcome, any_death=any_death, ending=ending)
    # The observer hears at most once of a caller. A cancelled one may have been settled an instant before; one that was
    # refused at the door, for its deadline or the shutdown, was never admitted.
    heard = Counter(reason for reason, _ in recorder.drops)
    ended = Counter(REASONS[type(outcome)] for outcome in outcomes if type(outcome) in REASONS)
    assert heard.total() <= ended.total()
    assert heard["cancelled"] <= ended["cancelled"]
    assert ended["failed"] <= heard["failed"] <= ended["failed"] + ended["cancelled"]
    if recorder.depths:
        assert recorder.depths[-1] == (0, 0)
