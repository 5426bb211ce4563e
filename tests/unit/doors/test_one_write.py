"""An answer leaves in one piece, and whatever else is written leaves at once."""

import asyncio

from server.doors.one_write import OneWrite

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes = []

    def write(self, data) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return "closed" in self.writes

    def close(self) -> None:
        self.writes.append("closed")


def written(*steps):
    wire = Wire()
    transport = OneWrite(wire, wire.close)
    for step in steps:
        getattr(transport, step)() if isinstance(step, str) else transport.write(step)
    return wire.writes


def test_a_head_leaves_with_its_body():
    assert written(HEAD, b"{}", HEAD, b"[]") == [HEAD + b"{}", HEAD + b"[]"]


def test_a_head_without_a_body_leaves_when_the_body_is_said_to_be_empty_or_the_answer_or_the_connection_ends():
    assert written(HEAD, b"") == [HEAD]
    assert written(HEAD, "close") == [HEAD, "closed"]
    assert written(HEAD, "flush", "flush", HEAD, b"{}", "flush") == [HEAD, HEAD + b"{}"]


def test_a_streamed_body_is_not_held_back_though_a_piece_ends_in_an_empty_line():
    assert written(HEAD, b"one\r\n\r\n", b"two\r\n\r\n") == [HEAD + b"one\r\n\r\n", b"two\r\n\r\n"]
    assert written(HEAD, HEAD) == [HEAD + HEAD]


def test_an_interim_answer_is_what_the_client_waits_for():
    assert written(b"HTTP/1.1 100 Continue\r\n\r\n") == [b"HTTP/1.1 100 Continue\r\n\r\n"]


def test_the_end_comes_once_and_is_known_to_who_asks():
    ends = []
    transport = OneWrite(Wire(), lambda: ends.append("end"))
    assert not transport.is_closing()
    transport.close()
    transport.close()
    assert transport.is_closing()
    assert ends == ["end"]


def test_an_end_from_outside_is_known_too():
    wire = Wire()
    transport = OneWrite(wire, wire.close)
    wire.close()
    assert transport.is_closing()
