"""Files end, files go, and never do they hold more than they may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.feedback.disk import FileInfo
from server.feedback.fake import FakeDisk
from server.feedback.rotation import FileLimits, RotatingLog, begun_at

LIMITS = FileLimits(file_max_bytes=100, file_max_age_s=60, max_bytes=400, max_age_s=1_000)
EPOCH = 1_790_000_000.0


class World:
    def __init__(self, fails=lambda _operation: None) -> None:
        self.now = EPOCH
        self.disk = FakeDisk(fails)
        self.log = RotatingLog(self.disk, LIMITS, clock=lambda: self.now)
        self.appended: list[bytes] = []

    def append(self, size: int = 30) -> None:
        self.now += 0.001
        line = f"{len(self.appended):04}".encode().ljust(size - 1, b".") + b"\n"
        self.log.append(line)
        self.appended.append(line[:-1])

    @property
    def file_sizes(self) -> list[int]:
        return [len(data) for data in (*self.disk.sealed.values(), *self.disk.open.values())]


appends = st.integers(6, 120)
pauses = st.floats(0.001, 700)


@given(st.lists(appends | pauses, max_size=60))
def test_whatever_comes_the_bounds_hold_and_only_the_oldest_go(steps):
    world = World()
    for step in steps:
        if isinstance(step, int):
            world.append(step)
        else:
            world.now += step
            if world.log.due_in_s is not None and world.log.due_in_s <= 0:
                world.log.tend()
        assert sum(world.file_sizes) <= LIMITS.max_bytes
        assert all(size <= max(LIMITS.file_max_bytes, 120) for size in world.file_sizes)
        assert world.log.total_bytes == sum(world.file_sizes)
        begun = [begun_at(info) for info in world.disk.files()]
        if not isinstance(step, int):
            assert all(world.now - at <= LIMITS.max_age_s + 0.01 for at in begun)
        assert world.disk.lines == world.appended[len(world.appended) - len(world.disk.lines) :]
    assert len(world.disk.open) <= 1


def test_a_file_ends_before_a_line_too_many():
    world = World()
    for _ in range(4):
        world.append(30)
    assert (list(map(len, world.disk.sealed.values())), list(map(len, world.disk.open.values()))) == ([90], [30])


def test_a_line_larger_than_a_file_has_one_of_its_own():
    world = World()
    for size in (30, 150, 30):
        world.append(size)
    assert sorted(world.file_sizes) == [30, 30, 150]


def test_a_file_ends_at_its_age_and_goes_at_the_log_s():
    world = World()
    world.append()
    assert world.log.due_in_s == pytest.approx(60)
    world.now += 60
    world.log.tend()
    assert (len(world.disk.sealed), world.disk.open) == (1, {})
    assert world.log.due_in_s == pytest.approx(940)
    world.now += 941
    world.log.tend()
    assert world.disk.sealed == {}
    assert (world.log.due_in_s, world.log.total_bytes) == (None, 0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(6, 100)), max_size=60))
def test_the_bound_holds_for_as_many_servers_as_it_holds_files(steps):
    world = World()
    logs = [RotatingLog(world.disk, LIMITS, clock=lambda: world.now) for _ in range(3)]
    for server, size in steps:
        world.now += 0.001
        logs[server].append(b"." * (size - 1) + b"\n")
        assert sum(world.file_sizes) <= LIMITS.max_bytes


def test_another_server_s_open_file_counts_and_stays():
    world = World()
    world.disk.open["feedback-20200101T000000.000000Z-9"] = bytearray(b"x" * 350)
    for _ in range(8):
        world.append(50)
    assert len(world.disk.open) == 2
    assert world.disk.sealed == {}, "350 and one file more are over the bound, so nothing else can stay"


def test_after_a_failure_the_next_line_begins_a_file():
    failing = [True]

    def fails(operation):
        if operation == "append" and failing.pop():
            failing.append(False)
            raise OSError(28, "No space left on device")

    world = World(fails)
    with pytest.raises(OSError, match="No space left"):
        world.append()
    world.log.abandon()
    world.append()
    assert (len(world.disk.sealed), len(world.disk.open)) == (1, 1)
    assert world.disk.lines == world.appended


def test_room_is_made_of_the_oldest_whole_files_and_of_no_more_than_a_new_one_needs():
    world = World()
    for _ in range(7):
        world.append(60)
    assert world.file_sizes == [60] * 6
    assert world.log.make_room() == 2, "of 60 bytes each, for 100"
    assert world.disk.lines == world.appended[3:]
    assert world.log.make_room() + world.log.make_room() + world.log.make_room() == 3
    assert world.disk.lines == world.appended[-1:], "the one being written stays"


def test_a_name_that_is_not_of_ours_is_the_oldest():
    assert begun_at(FileInfo("feedback-20261122T140000.500000Z-12", 0, True)) == 1795356000.5
    assert begun_at(FileInfo("feedback-from-elsewhere", 0, True)) == 0
    assert begun_at(FileInfo("feedback-20261332T140000.500000Z-12", 0, True)) == 0
