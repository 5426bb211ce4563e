"""One session: a thread around one model. It takes batches, reports them, and outlives its model."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from server.batching.item import Item, Row
from server.batching.queue import BoundedQueue
from server.batching.serving import BatchReport, serve
from server.core.errors import StillguardError

MAX_BACKOFF_S = 30.0

logger = logging.getLogger(__name__)


Payload_contra = TypeVar("Payload_contra", contravariant=True)
Row_co = TypeVar("Row_co", covariant=True)


class Model(Protocol[Payload_contra, Row_co]):
    """What a session runs. Called by one thread at a time."""

    def classify(self, payloads: Sequence[Payload_contra], /) -> Collection[Row_co]:
        """Row i is payload i's."""
        ...

    def warm_up(self) -> None:
        """Run on typical shapes; raises if the model can't serve."""
        ...


class SessionEvents(Protocol):
    """What a session tells its pool, on the event loop."""

    def batch_reported(self, session: "Session", report: BatchReport) -> None:
        """Once per batch taken, unless the batch was taken away (:meth:`Session.abandon_call`)."""
        ...

    def session_died(self, session: "Session") -> None:
        """Its model died; its batch is reported next."""
        ...

    def session_restarted(self, session: "Session") -> None:
        """It has a new model and serves."""
        ...

    def session_ended(self, session: "Session", held: Sequence[Item]) -> None:
        """The thread is about to end; nothing follows. It neither reported nor was relieved of the batch ``held``."""
        ...


class Backoff:
    """The pause before the next model: doubled from ``first_s`` to :data:`MAX_BACKOFF_S`, until a batch goes well."""

    def __init__(self, first_s: float) -> None:
        self._first_s = self._next_s = first_s

    def next_s(self) -> float:
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, MAX_BACKOFF_S)
        return pause_s

    def reset(self) -> None:
        self._next_s = self._first_s


class _Call:
    """A batch in the model's hands. ``since`` is ``time.monotonic()`` at the start of the call that is going on."""

    __slots__ = ("batch", "since")

    def __init__(self, batch: Sequence[Item]) -> None:
        self.batch = batch
        self.since = time.monotonic()


class Session:
    """Serves until the queue is closed, or until its call is abandoned.

    A model that died is dropped, and one made by ``rebuild`` takes its place, after a pause. It died if it raised what is
    no ``Exception``, or if it could serve no item of a batch, not even alone, and can't run :meth:`Model.warm_up` either.
    """

    def __init__(
        self,
        model: Model | None,
        *,
        rebuild: Callable[[], Model],
        name: str,
        queue: BoundedQueue,
        check_row: Callable[[Row], bool],
        events: SessionEvents,
        post: Callable[..., None],
        backoff: Backoff,
    ) -> None:
        """Args:
        model: None to begin with a pause and one from ``rebuild``.
        rebuild: gives a model that isn't warm; whatever it raises is logged, and tried again after the next pause.
        post: ``post(event, *args)`` has the event loop call it.
        """
        self.name = name
        self.backoff = backoff
        self._model = model
        self._rebuild = rebuild
        self._queue = queue
        self._check_row = check_row
        self._events = events
        self._post = post
        self._call: _Call | None = None
        self._is_abandoned = False
        self._settling = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def busy_since(self) -> float | None:
        """``time.monotonic()`` at which the present model call began; None between calls. For any thread."""
        call = self._call
        return None if call is None else call.since

    def abandon_call(self, begun_by: float) -> Sequence[Item] | None:
        """Take a stuck call's batch away. From then on the batch is the caller's to settle, and the thread's no more: when
        the call comes back, the thread drops what it brings, and ends.

        Args:
            begun_by: ``time.monotonic()``; a call that began later is not stuck.

        Returns:
            the batch, or None if no such call goes on, for it came back just now.
        """
        with self._settling:
            call = self._call
            if call is None or call.since > begun_by:
                return None
            self._is_abandoned = True
            return call.batch

    def _run(self) -> None:
        try:
            while self._has_model() and (batch := self._queue.take()) is not None:
                if not self._serve(batch):
                    return
        except BaseException as error:
            # A mistake of ours, outside of the model's calls. Its own words could quote a text.
            logger.error("%s ended: %s", self.name, type(error).__name__)
        finally:
            self._model = None
            with self._settling:
                held = () if self._call is None or self._is_abandoned else self._call.batch
                self._call = None
            self._post(self._events.session_ended, self, held)

    def _has_model(self) -> bool:
        """True with a model to serve; pauses and rebuilds until there is one. False once the queue is closed."""
        while self._model is None:
            if self._queue.wait_closed(self.backoff.next_s()):
                return False
            try:
                model = self._rebuild()
                model.warm_up()
            except BaseException as error:
                # Only our own errors are known to quote nobody.
                reason = str(error) if isinstance(error, StillguardError) else type(error).__name__
                logger.error("%s can't be rebuilt: %s", self.name, reason)
            else:
                self._model = model
                self._post(self._events.session_restarted, self)
        return True

    def _serve(self, batch: Sequence[Item]) -> bool:
        """Run one batch and report it; False if it was taken away meanwhile."""
        self._call = call = _Call(batch)
        report = serve(batch, self._classify, self._check_row)
        death = report.death or (None if report.answers else self._fault())
        with self._settling:
            self._call = None
            is_abandoned = self._is_abandoned
        if is_abandoned:
            logger.warning("%s came back %.1f s after its call began, too late", self.name, time.monotonic() - call.since)
            return False
        if death is not None:
            logger.error("%s died: %s", self.name, death.__name__)
            self._model = None
            self._post(self._events.session_died, self)
        elif report.answers:
            self.backoff.reset()
        self._post(self._events.batch_reported, self, report)
        return True

    def _classify(self, payloads: Sequence) -> Collection:
        assert self._call is not None
        assert self._model is not None
        self._call.since = time.monotonic()
        return self._model.classify(payloads)

    def _fault(self) -> type[BaseException] | None:
        """The error of ``warm_up`` after a batch that failed throughout; None where it succeeds: the texts were at fault."""
        assert self._model is not None
        try:
            self._model.warm_up()
        except BaseException as error:
            return type(error)
        return None
