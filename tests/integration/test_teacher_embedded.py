"""The embedded teacher with a real llama.cpp child and a tiny random model: it starts, answers, comes back and ends."""

import asyncio
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from server.core.calibration import IDENTITY
from server.core.policy import load_policies
from server.core.taxonomy import CATEGORIES
from server.teacher.embedded import EmbeddedTeacher
from server.teacher.teacher import TeacherUnavailable
from tests.unit.teacher.llama_server import llama_server
from tests.unit.teacher.tiny_llama import make_weights, write_gguf

pytest.importorskip("xllamacpp")

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child when its parent's thread ends")

RULES = dict(zip(CATEGORIES, load_policies()["default"].rules, strict=True))
TWO = {category: RULES[category] for category in ("hate", "violence")}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", make_weights())


@asynccontextmanager
async def running(model, **settings):
    """(teacher, queue of its changes); closed on exit."""
    changes: asyncio.Queue[bool] = asyncio.Queue()
    settings = {"lora": None, "calibration": IDENTITY, "first_backoff_s": 0.05} | settings
    teacher = EmbeddedTeacher(model, on_change=changes.put_nowait, **settings)
    await teacher.start()
    try:
        async with asyncio.timeout(60):
            yield teacher, changes
    finally:
        await teacher.close()


def ask(teacher, text="a text", rules=TWO, within_s=20.0):
    return teacher.judge(text, "user", rules, deadline=time.monotonic() + within_s)


async def test_it_is_unreachable_at_once_until_it_is_up_and_then_answers(model):
    async with running(model) as (teacher, changes):
        assert not teacher.is_ready
        with pytest.raises(TeacherUnavailable) as caught:
            await ask(teacher)
        assert caught.value.outcome == "unreachable"

        assert await changes.get() is True
        assert teacher.is_ready
        judgement = await ask(teacher)
        scores = judgement.scores
        assert judgement.basis == "logprobs"
        assert list(scores) == ["hate", "violence"]
        assert all(0 < score < 1 for score in scores.values())
        alone = await ask(teacher, rules={"violence": RULES["violence"]})
        assert alone.scores["violence"] == pytest.approx(scores["violence"], abs=0.01)
        assert len({round(score, 6) for score in (await ask(teacher, rules=RULES)).scores.values()}) > 4
        pid = teacher.pid
    assert not teacher.is_ready
    assert teacher.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_killed_child_comes_back(model, caplog):
    with caplog.at_level(logging.WARNING):
        async with running(model) as (teacher, changes):
            assert await changes.get() is True
            first, before = teacher.pid, (await ask(teacher)).scores
            os.kill(first, signal.SIGKILL)
            assert await changes.get() is False
            assert await changes.get() is True
            assert teacher.pid != first
            assert (await ask(teacher)).scores == pytest.approx(before)
    assert [record.getMessage() for record in caplog.records] == [
        "embedded teacher ended with exit status -9; starting it again in 0.05 s"
    ]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux to read another process's limits")
async def test_the_child_takes_the_back_seat(model):
    bound = 900 * 1024**2
    async with running(model, max_memory_bytes=bound) as (teacher, changes):
        await changes.get()
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, teacher.pid) == min(19, ours + 5)
        assert resource.prlimit(teacher.pid, resource.RLIMIT_DATA) == (bound, bound)
        with open(f"/proc/{teacher.pid}/oom_score_adj", encoding="ascii") as file:  # noqa: ASYNC230 (no disk is behind it)
            assert file.read().strip() == "500"


async def test_a_child_that_wants_more_memory_than_it_may_have_is_started_again_and_harms_nobody(model):
    ended: asyncio.Queue[str] = asyncio.Queue()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ended.put_nowait(record.getMessage())

    logger, watch = logging.getLogger("server.teacher.embedded"), Watch()
    logger.addHandler(watch)
    try:
        async with running(model, max_memory_bytes=8 * 1024**2) as (teacher, changes):
            assert "ended with exit status" in await ended.get()
            assert "ended with exit status" in await ended.get()
            assert changes.empty()
            with pytest.raises(TeacherUnavailable, match="isn't up"):
                await ask(teacher)
    finally:
        logger.removeHandler(watch)


async def test_a_judge_in_flight_is_unreachable_when_the_child_dies(model):
    async with running(model) as (teacher, changes):
        await changes.get()
        os.kill(teacher.pid, signal.SIGSTOP)  # so that the answer can't win the race
        question = asyncio.create_task(ask(teacher))
        os.kill(teacher.pid, signal.SIGKILL)
        with pytest.raises(TeacherUnavailable) as caught:
            await question
        assert caught.value.outcome == "unreachable"


async def test_a_stopped_child_costs_no_more_than_the_deadline(model):
    async with running(model) as (teacher, changes):
        await changes.get()
        os.kill(teacher.pid, signal.SIGSTOP)
        with pytest.raises(TeacherUnavailable) as caught:
            await ask(teacher, within_s=0.05)
        assert caught.value.outcome == "deadline"


async def test_a_child_that_lives_and_answers_nothing_is_replaced(model, caplog):
    with caplog.at_level(logging.WARNING):
        async with running(model, hung_s=0.2) as (teacher, changes):
            assert await changes.get() is True
            first, before = teacher.pid, (await ask(teacher)).scores
            os.kill(first, signal.SIGSTOP)
            while changes.empty():
                with pytest.raises(TeacherUnavailable) as caught:
                    await ask(teacher, within_s=0.05)
                assert caught.value.outcome in ("deadline", "unreachable")
            assert [await changes.get(), await changes.get()] == [False, True]
            assert teacher.pid != first
            with pytest.raises(ProcessLookupError):
                os.kill(first, 0)
            assert (await ask(teacher)).scores == pytest.approx(before)
    assert [record.getMessage() for record in caplog.records] == [
        "embedded teacher let questions wait for 0.2 s and answered none; starting it again in 0.05 s"
    ]


async def test_questions_that_ran_out_of_time_are_forgiven_by_any_reply(model):
    async with running(model, context_tokens=1024, hung_s=0.5) as (teacher, changes):
        await changes.get()
        first = teacher.pid
        for _ in range(12):
            os.kill(first, signal.SIGSTOP)
            with pytest.raises(TeacherUnavailable, match="deadline"):
                await ask(teacher, within_s=0.05)
            os.kill(first, signal.SIGCONT)
            with pytest.raises(TeacherUnavailable, match="HTTP status"):
                await ask(teacher, text="secret " * 400)
        assert (teacher.pid, changes.empty()) == (first, True)


async def test_a_burst_is_answered_and_an_abandoned_burst_holds_up_nobody(model):
    async with running(model) as (teacher, changes):
        await changes.get()
        answers = await asyncio.gather(*(ask(teacher, text=f"text {number}") for number in range(8)))
        assert [list(answer.scores) for answer in answers] == [["hate", "violence"]] * 8
        abandoned = (ask(teacher, text=f"text {number}", within_s=0.002) for number in range(8))
        outcomes = {type(answer) for answer in await asyncio.gather(*abandoned, return_exceptions=True)}
        assert TeacherUnavailable in outcomes
        assert list((await ask(teacher)).scores) == ["hate", "violence"]


async def test_a_text_over_the_context_is_an_error_that_names_no_text(model):
    async with running(model, context_tokens=1024) as (teacher, changes):
        await changes.get()
        with pytest.raises(TeacherUnavailable) as caught:
            await ask(teacher, text="secret " * 400)
        assert caught.value.outcome == "error"
        assert not caught.value.is_teachers_fault
        assert "secret" not in str(caught.value)


async def test_a_model_that_does_not_load_is_tried_again_with_growing_pauses(tmp_path):
    pauses: asyncio.Queue[str] = asyncio.Queue()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            pauses.put_nowait(record.getMessage().rsplit("in ", 1)[1])

    logger, watch = logging.getLogger("server.teacher.embedded"), Watch()
    logger.addHandler(watch)
    try:
        async with running(tmp_path / "absent.gguf", first_backoff_s=0.01, max_backoff_s=0.03) as (teacher, changes):
            assert [await pauses.get() for _ in range(4)] == ["0.01 s", "0.02 s", "0.03 s", "0.03 s"]
            assert not teacher.is_ready
            assert changes.empty()
    finally:
        logger.removeHandler(watch)


def test_only_the_holder_of_the_key_is_answered_and_no_text_can_be_read_back(model):
    with llama_server(model) as client:
        assert client.base_url.host == "127.0.0.1"
        assert client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1}).status_code == 200
        assert client.get("/slots").status_code == 501
        stranger = httpx.post(client.base_url.join("/v1/completions"), json={"prompt": "a"}, trust_env=False)
        assert stranger.status_code == 401


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open to wait for another's child")
@pytest.mark.parametrize("has_hung", [False, pytest.param(True, marks=ON_LINUX)])
def test_the_child_ends_when_its_parent_is_killed(model, has_hung):
    script = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from server.core.calibration import IDENTITY
        from server.teacher.embedded import EmbeddedTeacher

        async def main():
            teacher = EmbeddedTeacher(Path(sys.argv[1]), lora=None, calibration=IDENTITY)
            await teacher.start()
            await teacher.wait_ready()
            print(teacher.pid, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", script, str(model)], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        child = os.pidfd_open(pid)
        try:
            if has_hung:
                os.kill(pid, signal.SIGSTOP)
            assert select.select([child], [], [], 0)[0] == []
            parent.kill()
            assert select.select([child], [], [], 10)[0] == [child]
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)
            os.close(child)
