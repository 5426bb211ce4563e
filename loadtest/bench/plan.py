"""How much is measured, and for how long."""

from dataclasses import dataclass

from loadtest.bench.ceiling import Search
from loadtest.bench.load import Closed, Load, Open


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds, and the loads in order. ``open_shares`` are of the saturation found: the highest closed-loop rate."""

    texts: int
    search: Search
    closed_singles: tuple[int, ...]
    closed_arrays: tuple[int, ...]
    closed_peers: tuple[int, ...]
    open_shares: tuple[float, ...]
    idle_s: float
    warm_up_s: float
    closed_s: float
    open_s: float
    drain_s: float
    array_texts: int = 32

    def closed(self, connections: int, *, texts_per_request: int = 1) -> Load:
        return Load(Closed(connections), texts_per_request, self.warm_up_s, self.closed_s, self.drain_s)

    def open(self, texts_per_s: float) -> Load:
        return Load(Open(texts_per_s), 1, self.warm_up_s, self.open_s, self.drain_s)

    def steps(self, *, models: int, peers: int) -> int:
        """Measurements in all, for a progress bar."""
        ours = len(self.closed_singles) + len(self.closed_arrays) + len(self.open_shares) + 2  # idle, and the ceiling again
        return models + ours + peers * (len(self.closed_peers) + 3)


FULL = Plan(
    texts=2_048,
    search=Search(max_items=(1, 4, 8, 16, 32), scan_texts=256, final_s=6.0, alone_texts=256),
    closed_singles=(1, 8, 64, 256),
    closed_arrays=(1, 4, 16),
    closed_peers=(1, 8, 64),
    open_shares=(0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.2),
    idle_s=10.0,
    warm_up_s=2.0,
    closed_s=10.0,
    open_s=15.0,
    drain_s=10.0,
)
QUICK = Plan(
    texts=256,
    search=Search(max_items=(8,), scan_texts=32, final_s=0.3, alone_texts=32),
    closed_singles=(1, 8),
    closed_arrays=(2,),
    closed_peers=(8,),
    open_shares=(0.3, 0.6),
    idle_s=1.0,
    warm_up_s=0.5,
    closed_s=2.0,
    open_s=2.0,
    drain_s=10.0,
)
"""Everything once, in about half a minute: shows that it works, not how fast anything is."""
