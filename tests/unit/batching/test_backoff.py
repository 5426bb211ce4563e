"""The pause before a session's next model: it doubles while that goes on, and a good batch ends it."""

import threading

import pytest
from scripted_model import Model, Work

from server.batching.item import Request
from server.batching.limits import BatchLimits
from server.batching.queue import BoundedQueue
from server.batching.session import MAX_BACKOFF_S, Backoff, Session


def test_the_pause_doubles_to_its_bound_until_it_is_reset():
    backoff = Backoff(4.0)
    assert [backoff.next_s() for _ in range(5)] == [4.0, 8.0, 16.0, MAX_BACKOFF_S, MAX_BACKOFF_S]
    backoff.reset()
    assert [backoff.next_s() for _ in range(2)] == [4.0, 8.0]


class Pool:
    """What one session tells; its queue is closed with the first batch."""

    def __init__(self, model, *, rebuild, backoff):
        self.queue = BoundedQueue(BatchLimits())
        self.deaths = 0
        self._ended = threading.Event()
        self._session = Session(
            model,
            rebuild=rebuild,
            name="session-0",
            queue=self.queue,
            check_row=lambda row: row is not None,
            events=self,
            post=lambda event, *args: event(*args),
            backoff=backoff,
        )

    def run(self):
        self._session.start()
        assert self._ended.wait(60)

    def batch_reported(self, _session, _report):
        self.queue.close()

    def session_died(self, _session):
        self.deaths += 1

    def session_restarted(self, _session): ...

    def session_ended(self, _session, _held):
        self._ended.set()


@pytest.mark.parametrize(
    ("failure", "deaths", "next_s"), [(None, 0, 0.001), ("raise", 0, 0.004), ("die", 1, 0.008), ("wear_out", 1, 0.008)]
)
def test_only_a_batch_that_went_well_resets_the_pause(failure, deaths, next_s):
    """Two pauses were made before; who died makes another."""
    backoff = Backoff(0.001)
    assert [backoff.next_s() for _ in range(2)] == [0.001, 0.002]
    pool = Pool(Model(), rebuild=Model, backoff=backoff)
    pool.queue.put_all(Request([(Work(1, failure=failure), 4)], queued_at=0.0, deadline=1e18, future=None))
    pool.run()
    assert pool.deaths == deaths
    assert backoff.next_s() == next_s


def test_each_attempt_to_rebuild_is_after_the_next_pause():
    backoff, attempts = Backoff(0.001), []

    def rebuild():
        attempts.append(None)
        if len(attempts) < 3:
            raise OSError
        pool.queue.close()
        return Model()

    pool = Pool(None, rebuild=rebuild, backoff=backoff)
    pool.run()
    assert len(attempts) == 3
    assert backoff.next_s() == 0.008
