"""Which teacher the settings come to, and what is said of one that can't be had."""

import asyncio
import json
import time

import pytest

from server.core.errors import ConfigurationError
from server.core.policy import load_policies
from server.settings import Settings
from server.teacher.client import HttpTeacher
from server.teacher.null import NoTeacher
from server.teacher.teacher import TeacherUnavailable
from server.teaching import load_teachers


def test_none_is_no_teacher():
    (teacher,) = load_teachers(Settings(teacher="none"), load_policies())
    assert isinstance(teacher, NoTeacher)


async def test_a_url_is_asked_by_name_and_with_the_key(tmp_path):
    asked = []

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(
            next(line for line in head.decode().lower().split("\r\n") if line.startswith("content-length")).split(":")[1]
        )
        asked.append((head.decode(), json.loads(await reader.readexactly(length))))
        writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    (tmp_path / "key").write_text("s3cret\n")
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = Settings(teacher=url, teacher_model="judge", teacher_api_key_file=tmp_path / "key")
        policies = load_policies()
        (teacher,) = load_teachers(settings, policies)
        with pytest.raises(TeacherUnavailable):
            await teacher.judge("text", "user", {"hate": policies["default"].rules[1]}, deadline=time.monotonic() + 60)
        await teacher.close()
    ((head, body),) = asked
    assert "Authorization: Bearer s3cret\r\n" in head
    assert body["model"] == "judge"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read: FileNotFoundError"),
        (" \n", "is empty"),
        ("schlüssel", "can't be read"),
        ("schl\nssel\n", "must hold one line"),
        ("schl\x00ssel", "must hold one line"),
    ],
)
def test_a_key_that_cannot_be_had_stops_the_start(tmp_path, content, message):
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    settings = Settings(teacher="http://127.0.0.1:9", teacher_model="judge", teacher_api_key_file=path)
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_teachers(settings, load_policies())
    assert "schl" not in str(caught.value)


async def test_several_urls_are_several_endpoints_of_one_teacher():
    settings = Settings(teacher="http://127.0.0.1:9/v1, http://127.0.0.1:10", teacher_model="judge")
    teachers = load_teachers(settings, load_policies())
    assert [type(teacher) for teacher in teachers] == [HttpTeacher, HttpTeacher]
    assert teachers[0].identity == teachers[1].identity
    assert teachers[0].identity.startswith("judge@")
    (chat,) = load_teachers(Settings(teacher="http://127.0.0.1:9", teacher_model="judge", teacher_api="chat"), load_policies())
    (bare,) = load_teachers(
        Settings(teacher="http://127.0.0.1:9", teacher_model="judge", teacher_top_logprobs=0), load_policies()
    )
    assert len({teacher.identity for teacher in (teachers[0], chat, bare)}) == 3
    for teacher in (*teachers, chat, bare):
        await teacher.close()


@pytest.mark.parametrize("teacher", ["embedded", "http://127.0.0.1:9"])
def test_a_teachers_folder_must_hold_one(tmp_path, teacher):
    (tmp_path / "teacher.json").write_text(json.dumps({"name": "t"}))
    settings = Settings(teacher=teacher, teacher_model="judge", teacher_path=tmp_path)
    with pytest.raises(ConfigurationError, match=f"teacher {tmp_path}: teacher.json is malformed"):
        load_teachers(settings, load_policies())
