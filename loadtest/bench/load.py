"""One load and what came of it: the arrivals of requests, and the measures taken."""

from dataclasses import dataclass

from loadtest.bench.dialects import Dialect
from loadtest.stats import Latency


@dataclass(frozen=True, slots=True)
class Closed:
    """Each of ``connections`` clients sends its next request when it has its answer."""

    connections: int


@dataclass(frozen=True, slots=True)
class Open:
    """Requests come at random (Poisson), ``rate_per_s`` on average, whatever the server does."""

    rate_per_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """A server: where it listens, what it speaks, and its processes, if they are on this machine."""

    host: str
    port: int
    dialect: Dialect
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """``texts_per_request`` neighbours of the corpus make one request; the corpus goes round. Requests of the first
    ``warm_up_s`` are sent and not counted; after ``measure_s`` more the last are waited for, ``drain_s`` at most."""

    arrivals: Closed | Open
    texts_per_request: int
    warm_up_s: float
    measure_s: float
    drain_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a load, over its measured seconds.

    Attributes:
        texts_per_s: right answers that came within them, in texts.
        outcomes: requests by status (``200``), or ``lost``, ``unanswered``, ``wrong``. Closed-loop ones by when they ended,
            open-loop ones by when they should have been sent.
        latency: of right answers, and of requests without any for as long as they were waited for. In an open loop it is
            counted from the time at which a request should have been sent, so a driver or server that falls behind
            shows.
        lateness_p99_s: how late requests were sent, by the driver or for want of a connection.
        windows_per_text: windows that the server says it read; None where it doesn't.
        overhead_p50_s: latency less the model's time in the same answer, for texts of one window.
        beside_model_p50_s: latency less the model's own time for that text offline.
        driver_cpu: cores that the driver used; ``server_cpu`` the server's, None if it isn't on this machine.
        complaint: what was wrong with the first wrong answer.
    """

    load: Load
    texts_per_s: float
    outcomes: dict[str, int]
    latency: Latency
    lateness_p99_s: float
    windows_per_text: float | None
    overhead_p50_s: float | None
    beside_model_p50_s: float | None
    driver_cpu: float
    server_cpu: float | None
    complaint: str | None

    @property
    def server_cpu_s_per_text(self) -> float | None:
        return None if self.server_cpu is None or not self.texts_per_s else self.server_cpu / self.texts_per_s
