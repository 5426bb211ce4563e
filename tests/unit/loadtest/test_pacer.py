"""The pacer fires at its times, once for each, and not after it was set anew."""

import asyncio
import time

from loadtest.bench.pacer import Pacer


async def test_it_fires_no_earlier_than_asked_and_once():
    fired = asyncio.Queue()
    with Pacer(asyncio.get_running_loop(), lambda: fired.put_nowait(time.monotonic())) as pacer:
        for _ in range(3):
            due_at = time.monotonic() + 0.01
            pacer.set(due_at)
            assert await asyncio.wait_for(fired.get(), 30) >= due_at
        assert fired.empty()


async def test_a_time_that_has_passed_fires_at_once():
    fired = asyncio.Event()
    with Pacer(asyncio.get_running_loop(), fired.set) as pacer:
        pacer.set(time.monotonic() - 5)
        await asyncio.wait_for(fired.wait(), 30)


async def test_setting_it_anew_replaces_the_time():
    fired = asyncio.Queue()
    with Pacer(asyncio.get_running_loop(), lambda: fired.put_nowait(time.monotonic())) as pacer:
        pacer.set(time.monotonic() + 3_600)
        due_at = time.monotonic() + 0.01
        pacer.set(due_at)
        assert await asyncio.wait_for(fired.get(), 30) >= due_at
