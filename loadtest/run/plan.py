"""One load test, in full: what every process that takes part is told."""

from dataclasses import asdict, dataclass
from typing import Any

from loadtest.scenario.exchange import Exchange, read_exchange
from loadtest.shapes import Step, Steps

MIN_BIN_S = 0.5
MAX_BINS = 600


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Attributes:
        shape: one of :data:`loadtest.shapes.SHAPES`.
        is_open: requests come at the steps' rates, whatever the server does; else the steps' levels are users, each of whom
            sends when it has its answer.
        users: connections of an open loop, over all processes; a request over them waits for one, and its wait is counted.
        warm_up_s: the beginning, which is not measured.
        timeout_s: how long a client waits for an answer, in seconds.
        drain_s: how long the last answers are waited for.
    """

    url: str
    shape: str
    steps: Steps
    is_open: bool
    users: int
    warm_up_s: float
    timeout_s: float
    drain_s: float
    seed: int
    exchanges: tuple[Exchange, ...]

    @property
    def seconds(self) -> float:
        return self.steps[-1].end_s

    @property
    def bin_s(self) -> float:
        """Half a second, or more where that would be too many bins."""
        return max(MIN_BIN_S, self.seconds / MAX_BINS)

    def to_record(self) -> dict[str, Any]:
        """Lists, numbers and strings alone."""
        return asdict(self)


def read_plan(record: dict[str, Any]) -> Plan:
    """The inverse of :meth:`Plan.to_record`."""
    return Plan(
        **record
        | {
            "steps": tuple(Step(**step) for step in record["steps"]),
            "exchanges": tuple(read_exchange(exchange) for exchange in record["exchanges"]),
        }
    )
