"""One works at a time; small work goes before large that came shortly before it, and nobody waits for ever."""

import asyncio

import pytest

from server.turns import Turns


class Stage:
    """Starts workers one after another; ``order`` is who had a turn."""

    def __init__(self, gives_way_s: float):
        self.turns = Turns(gives_way_s=gives_way_s)
        self.order: list[str] = []
        self.gate = asyncio.Event()

    async def work(self, name: str, size: int) -> None:
        async with self.turns.turn(size):
            self.order.append(name)
            await self.gate.wait()

    async def start(self, name: str, size: int) -> asyncio.Task[None]:
        task = asyncio.create_task(self.work(name, size))
        await asyncio.sleep(0)
        return task


async def test_small_work_goes_before_large_that_waits():
    stage = Stage(gives_way_s=1.0)
    tasks = [await stage.start(name, size) for name, size in (("first", 9), ("large", 1_000), ("small", 10), ("smaller", 1))]
    assert stage.order == ["first"], "one at a time"
    stage.gate.set()
    await asyncio.gather(*tasks)
    assert stage.order == ["first", "smaller", "small", "large"]


async def test_large_work_gives_way_for_a_bounded_time():
    stage = Stage(gives_way_s=0.0)
    tasks = [await stage.start(name, size) for name, size in (("first", 9), ("large", 1_000), ("small", 1))]
    stage.gate.set()
    await asyncio.gather(*tasks)
    assert stage.order == ["first", "large", "small"]


@pytest.mark.parametrize("is_given_its_turn", [False, True])
async def test_who_gives_up_keeps_nobody_waiting(is_given_its_turn):
    stage = Stage(gives_way_s=1.0)
    first, second, third = [await stage.start(name, 1) for name in ("first", "second", "third")]
    if is_given_its_turn:
        first.cancel()
        await asyncio.sleep(0)  # the turn is passed on, and not yet taken
    second.cancel()
    stage.gate.set()
    await asyncio.wait([first, second, third])
    assert stage.order == ["first", "third"]
    assert second.cancelled()
    last = await stage.start("last", 1)
    await last
