"""What came of a plan."""

from dataclasses import dataclass, field

from loadtest.tally import Tally


@dataclass(frozen=True, slots=True)
class Played:
    """``drivers`` is what each process needed, in ``cpu_cores`` and ``rss_bytes``; ``lost_workers`` is how many ended without
    a last report."""

    tally: Tally
    drivers: list[dict[str, float]] = field(default_factory=list)
    lost_workers: int = 0
