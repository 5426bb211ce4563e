"""The thread that writes the feedback log. Whatever the disk does, nobody but this thread waits for it."""

import contextlib
import errno
import logging
import threading
import time
from dataclasses import replace

from server.core.errors import ConfigurationError
from server.core.feedback import Record, VerdictRecord, write_line
from server.core.text_keys import text_key
from server.feedback.disk import Disk
from server.feedback.intake import Draft, Intake
from server.feedback.observer import FeedbackObserver
from server.feedback.rotation import RotatingLog
from server.observability.logging import describe_exception

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Writer:
    """Started once, closed once. While the disk refuses, records wait in the intake, as far as there is room, and the writer
    tries again after pauses that double. A record that is refused twice is dropped. When the disk turns out to be full, the
    oldest files of the log make room for a new one, once: if that doesn't help, what fills the disk isn't ours.

    Args:
        sync_s: the longest that a written record waits to be safe on the disk.
        first_pause_s, last_pause_s: how long it waits after a failure, at first and at most.
    """

    def __init__(
        self,
        intake: Intake,
        disk: Disk,
        log: RotatingLog,
        *,
        keep_text: bool,
        sync_s: float,
        observer: FeedbackObserver,
        first_pause_s: float = FIRST_PAUSE_S,
        last_pause_s: float = LAST_PAUSE_S,
    ) -> None:
        self._intake = intake
        self._disk = disk
        self._log = log
        self._keep_text = keep_text
        self._sync_s = sync_s
        self._observer = observer
        self._first_pause_s = first_pause_s
        self._last_pause_s = last_pause_s
        self._pause_s = first_pause_s
        self._unsynced_since: float | None = None
        self._closing = threading.Event()
        self._again: Draft | None = None
        self._is_said_down = False
        self._has_complained = False
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)
        self.pausing_s = 0.0
        """How long the writer waits before it tries the disk again; 0 while it doesn't."""

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Write what waits, if the disk lets it, and end. False if the thread is still busy after ``timeout_s``."""
        self._intake.close()
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            is_last = self._closing.is_set()
            try:
                self._write_all(self._disk.prepare())
                return
            except Exception as error:  # a defect is met like a broken disk: a thread that died could only be mourned
                self._log.abandon()
                self._unsynced_since = None
                if not self._is_said_down and isinstance(error, OSError) and error.errno in _FULL:
                    self._make_room()
                self._say_down(error)
            if is_last:
                self._drop_all()
                return
            self.pausing_s = self._pause_s
            self._closing.wait(self._pause_s)
            self.pausing_s = 0.0
            self._pause_s = min(self._pause_s * 2, self._last_pause_s)

    def _make_room(self) -> None:
        with contextlib.suppress(OSError):
            self._observer.files_removed(self._log.make_room())

    def _write_all(self, hash_key: bytes) -> None:
        """Until the intake is closed and empty."""
        self._log.tend()
        self._measure()
        while True:
            try:
                draft = self._again or self._intake.take(self._patience_s())
            except TimeoutError:
                self._tend()
                continue
            if draft is None:
                self._log.seal()
                self._measure()
                return
            self._write(draft, hash_key)
            self._tend()

    def _write(self, draft: Draft, hash_key: bytes) -> None:
        try:
            line = write_line(self._finish(draft, hash_key))
        except Exception as error:
            self._again = None
            self._observer.record_dropped("error")
            if not self._has_complained:
                self._has_complained = True
                logger.error("a record can't be written; more like it are only counted", extra=describe_exception(error))
            return
        try:
            self._log.append(line)
        except Exception:
            if self._again is draft:  # it may be its own fault, and the others wait
                self._observer.record_dropped("disk")
            self._again = None if self._again is draft else draft
            raise
        self._again = None
        if self._unsynced_since is None:
            self._unsynced_since = time.monotonic()
        self._say_up()
        if isinstance(draft.record, VerdictRecord):
            self._observer.record_written(draft.record.reasons)

    def _finish(self, draft: Draft, hash_key: bytes) -> Record:
        if draft.text is None:
            return draft.record
        kept = draft.text if self._keep_text else None
        return replace(draft.record, text=kept, text_key=text_key(hash_key, draft.text))

    def _patience_s(self) -> float | None:
        """How long the thread may wait for another record before something else is due."""
        waits = []
        if self._unsynced_since is not None:
            waits.append(self._unsynced_since + self._sync_s - time.monotonic())
        if self._log.due_in_s is not None:
            waits.append(self._log.due_in_s)
        return max(0.0, min(waits)) if waits else None

    def _tend(self) -> None:
        if self._unsynced_since is not None and time.monotonic() >= self._unsynced_since + self._sync_s:
            self._log.sync()
            self._unsynced_since = None
        due_in_s = self._log.due_in_s
        if due_in_s is not None and due_in_s <= 0:
            self._log.tend()
        self._measure()

    def _measure(self) -> None:
        self._observer.log_measured(self._log.total_bytes)

    def _drop_all(self) -> None:
        if self._again is not None:
            self._observer.record_dropped("disk")
        while self._intake.take(None) is not None:  # it is closed, so this ends
            self._observer.record_dropped("disk")

    def _say_down(self, error: Exception) -> None:
        if not self._is_said_down:
            self._is_said_down = True
            why = describe_exception(error)
            if isinstance(error, OSError):
                why["reason"] = error.strerror
            elif isinstance(error, ConfigurationError):
                why["reason"] = str(error)
            logger.error("the feedback log can't be written; verdicts go on without it", extra=why)

    def _say_up(self) -> None:
        self._pause_s = self._first_pause_s
        if self._is_said_down:
            self._is_said_down = False
            logger.info("the feedback log is written again")
