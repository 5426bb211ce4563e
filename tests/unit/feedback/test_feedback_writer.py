"""The writer: whatever the disk does, every record is written once or counted as dropped, and nobody waits."""

import json
import threading
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.feedback import read_line
from server.core.text_keys import text_key
from server.feedback.fake import FakeDisk
from server.feedback.intake import Draft, Intake
from server.feedback.rotation import FileLimits, RotatingLog
from server.feedback.writer import Writer
from tests.unit.core.test_feedback_records import FEEDBACK, VERDICT
from tests.unit.feedback.recording import Recording

LIMITS = FileLimits(file_max_bytes=2_000, file_max_age_s=60, max_bytes=10**6, max_age_s=1_000)
BROKEN = OSError(5, "Input/output error")
FULL = OSError(28, "No space left on device")


class World:
    """A writer on a fake disk, and what it did. ``script`` says of each operation whether it fails; then all go well."""

    def __init__(self, script=(), *, keep_text: bool = True, sync_s: float = 60, first_pause_s: float = 0.0) -> None:
        self.script = list(script)[::-1]
        self.recording = Recording()
        self.disk = FakeDisk(self.fails)
        self.intake = Intake(max_items=1_000, max_chars=10**7)
        self.writer = Writer(
            self.intake,
            self.disk,
            RotatingLog(self.disk, LIMITS),
            keep_text=keep_text,
            sync_s=sync_s,
            observer=self.recording,
            first_pause_s=first_pause_s,
            last_pause_s=first_pause_s,
        )

    def fails(self, _operation) -> None:
        if self.script and self.script.pop():
            raise BROKEN

    def offer(self, count: int, *, start: int = 0) -> None:
        for index in range(start, start + count):
            assert self.intake.offer(Draft(replace(VERDICT, index=index), f"text {index}"))

    @property
    def indices(self) -> list[int]:
        """Of the records that a reader finds."""
        found = []
        for line in self.disk.lines:
            found.append(read_line(line).index)
        return found


@settings(deadline=None)
@given(script=st.lists(st.booleans(), max_size=60), records=st.integers(0, 30), is_early=st.booleans())
def test_whatever_the_disk_does_each_record_is_written_once_or_counted_as_dropped(script, records, is_early):
    world = World(script)
    if is_early:
        world.offer(records)
    world.writer.start()
    if not is_early:
        world.offer(records)
        world.recording.wait_for(settled=records)
    assert world.writer.close(60)
    assert len(world.indices) + world.recording.dropped["disk"] == records
    assert all(earlier < later for earlier, later in pairwise(world.indices)), "in order, and none twice"
    assert len(world.recording.written) == len(world.indices)
    assert world.recording.dropped.keys() <= {"disk"}


def test_a_disk_that_is_full_for_a_while_costs_nothing_but_time():
    world = World([True] * 20)
    world.offer(50)
    world.writer.start()
    world.recording.wait_for(settled=50)
    assert world.writer.close(60)
    assert world.indices == list(range(50))
    assert world.recording.dropped == Counter()


class SmallDisk(World):
    """One that holds ``capacity`` bytes, of which others take ``taken``."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.taken = capacity, 0
        super().__init__()

    def fails(self, operation) -> None:
        held = sum(map(len, (*self.disk.sealed.values(), *self.disk.open.values())))
        if operation == "append" and held + self.taken >= self.capacity:
            raise FULL


def test_a_disk_that_our_own_log_fills_takes_the_newest_records_and_loses_the_oldest_files():
    world = SmallDisk(10_000)
    world.offer(50)
    world.writer.start()
    world.recording.wait_for(settled=50)
    assert world.writer.close(60)
    assert world.recording.dropped == Counter()
    assert world.recording.removed_files > 1
    kept = sorted(set(world.indices))
    assert kept == list(range(50 - len(kept), 50)), "the newest, none of them missing"
    assert 5 < len(kept) < 50


def test_a_disk_that_others_fill_costs_the_log_one_files_worth_and_no_more():
    world = SmallDisk(10_000)
    world.offer(8)
    world.writer.start()
    world.recording.wait_for(settled=8)
    before = len(world.disk.sealed)
    world.taken = 10_000
    world.offer(5, start=8)
    world.recording.wait_for(settled=13)
    assert world.writer.close(60)
    assert world.recording.dropped == Counter(disk=5)
    assert world.recording.removed_files == 2 < before


def test_a_record_that_never_fits_does_not_block_the_others():
    world = World()

    def fails(operation) -> None:
        if operation == "append" and world.recording.dropped.total() == 0:
            raise FULL

    world.disk.fails = fails
    world.offer(3)
    world.writer.start()
    world.recording.wait_for(settled=3)
    assert world.writer.close(60)
    assert (world.indices, world.recording.dropped) == ([1, 2], {"disk": 1})


def test_a_disk_that_never_works_ends_with_everything_counted(caplog):
    world = World()
    world.disk.fails = lambda _operation: (_ for _ in ()).throw(FULL)
    world.offer(7)
    world.writer.start()
    assert world.writer.close(60)
    assert world.recording.dropped == {"disk": 7}
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (line.error, line.reason) == ("OSError", "No space left on device")


@pytest.mark.parametrize("where", ["files", "create", "append"])
def test_a_defect_is_survived_like_a_broken_disk(where):
    world = World()
    faults = [ZeroDivisionError]

    def fails(operation) -> None:
        if operation == where and faults:
            raise faults.pop()

    world.disk.fails = fails
    world.offer(3)
    world.writer.start()
    world.recording.wait_for(settled=3)
    assert world.writer.close(60)
    assert world.indices == [0, 1, 2]


def test_an_outage_is_logged_once_and_its_end_too(caplog):
    caplog.set_level("INFO")
    world = World([False] * 4 + [True] * 9)
    world.writer.start()
    world.offer(3)
    world.recording.wait_for(settled=3)
    assert world.writer.close(60)
    assert [record.getMessage() for record in caplog.records] == [
        "the feedback log can't be written; verdicts go on without it",
        "the feedback log is written again",
    ]


def test_a_disk_that_hangs_keeps_nobody_waiting():
    release, hung = threading.Event(), threading.Event()
    world = World()

    def hang(operation) -> None:
        if operation == "append":
            hung.set()
            release.wait(60)

    world.disk.fails = hang
    world.writer.start()
    world.offer(2)
    assert hung.wait(60)
    world.offer(500, start=2)
    assert not world.writer.close(0.01)
    release.set()
    assert world.writer.close(60)
    assert len(world.indices) == 502


def test_closing_ends_the_wait_for_the_disk():
    world = World([True], first_pause_s=3600.0)
    paused = threading.Event()

    def fails(_operation) -> None:
        if world.script and world.script.pop():
            paused.set()
            raise FULL

    world.disk.fails = fails
    world.writer.start()
    assert paused.wait(60)
    world.offer(2)
    assert world.writer.close(60)
    assert world.indices == [0, 1]


def test_what_is_written_is_safe_within_the_interval():
    world = World(sync_s=0.001)
    synced = threading.Event()
    world.disk.fails = lambda operation: synced.set() if operation == "sync" else None
    world.writer.start()
    world.offer(1)
    assert synced.wait(60)
    assert world.writer.close(60)
    (size,) = world.disk.synced.values()
    assert size == len(next(iter(world.disk.sealed.values())))


def test_texts_are_kept_only_where_they_may_be_and_their_key_always():
    for keep_text in (True, False):
        world = World(keep_text=keep_text)
        world.intake.offer(Draft(VERDICT, "canary text"))
        world.intake.offer(Draft(FEEDBACK, None))
        world.intake.offer(Draft(FEEDBACK, "canary text"))
        world.writer.start()
        assert world.writer.close(60)
        verdict, bare, full = map(read_line, world.disk.lines)
        expected = "canary text" if keep_text else None
        key = text_key(b"k" * 32, "canary text")
        assert (verdict.text, verdict.text_key) == (expected, key)
        assert (bare.text, bare.text_key) == (None, None)
        assert (full.text, full.text_key) == (expected, key)
        assert (b"canary" in b"".join(world.disk.lines)) is keep_text


def test_a_record_that_cannot_be_written_costs_itself_alone(caplog):
    world = World()
    for scores in ({"hate": float("nan")}, {"hate": float("inf")}, VERDICT.student_scores):
        world.intake.offer(Draft(replace(VERDICT, student_scores=scores), "t"))
    world.writer.start()
    assert world.writer.close(60)
    assert (world.recording.dropped, len(world.disk.lines)) == ({"error": 2}, 1)
    assert [record.error for record in caplog.records] == ["ValueError"]


def test_what_is_written_is_measured():
    world = World()
    world.offer(40)
    world.writer.start()
    assert world.writer.close(60)
    assert world.recording.total_bytes == sum(map(len, world.disk.sealed.values()))
    assert len(world.disk.sealed) > 5
    assert all(json.loads(line)["kind"] == "verdict" for line in world.disk.lines)


def test_a_writer_that_was_never_started_can_be_closed():
    assert World().writer.close(1)
