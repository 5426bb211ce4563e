"""What one run found out."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtest.bench.ceiling import Ceiling, Rate
from loadtest.bench.load import Closed, Measured
from loadtest.command import Unusable

SCHEMA = 1


class NothingServed(Unusable):
    """A server that answered nothing; there is no rate to compare."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of our server: ``ready_s`` from exec to its ready line; ``idle_cpu`` in cores; resident memory when ready, and after
    all loads."""

    ready_s: float
    idle_cpu: float
    rss_ready_bytes: int
    rss_loaded_bytes: int


@dataclass(frozen=True, slots=True)
class PeerReport:
    """``at_maximum`` is an open loop at the peer's own highest closed-loop rate, and ``ours`` the same load on our server."""

    runs: str
    closed: list[Measured]
    at_maximum: Measured
    rss_bytes: int
    ours: Measured | None = None

    @property
    def saturation(self) -> Measured:
        return fastest(self.closed)


@dataclass(frozen=True, slots=True)
class Report:
    """``unloaded`` is one client alone. ``ceiling_again`` is the best setting, timed once more between the loads: what the
    machine has drifted by. ``footprint`` is None for a server that we didn't start; ``not_run`` says why of each peer that
    couldn't be run."""

    machine: dict[str, Any]
    texts: dict[str, Any]
    artifact: dict[str, Any]
    ceiling: Ceiling
    ceiling_again: Rate
    stock: Ceiling | None
    singles: list[Measured]
    arrays: list[Measured]
    opened: dict[float, Measured]
    footprint: Footprint | None
    peers: dict[str, PeerReport] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)

    @property
    def ceiling_texts_per_s(self) -> float:
        """The higher of the two measurements, to our disadvantage."""
        return max(self.ceiling.best.texts_per_s, self.ceiling_again.texts_per_s)

    @property
    def saturation(self) -> Measured:
        return fastest(self.singles)

    @property
    def array_saturation(self) -> Measured:
        return fastest(self.arrays)

    @property
    def unloaded(self) -> Measured:
        return next(one for one in self.singles if one.load.arrivals == Closed(1))

    @property
    def overhead_s(self) -> float | None:
        """Median time that the idle server adds to the model's own: the larger of the two ways to count it."""
        counted = [self.unloaded.overhead_p50_s, self.unloaded.beside_model_p50_s]
        return max((value for value in counted if value is not None), default=None)

    @property
    def measurements(self) -> list[Measured]:
        """All of our own server's."""
        return [*self.singles, *self.arrays, *self.opened.values(), *(peer.ours for peer in self.peers.values() if peer.ours)]

    def to_record(self) -> dict[str, Any]:
        """JSON's kinds alone: what couldn't be measured is null."""
        ceiling_cpu_s = self.ceiling.best.cpu_s_per_text
        return _plain(
            {
                "schema": SCHEMA,
                "machine": self.machine,
                "texts": self.texts,
                "artifact": self.artifact,
                "ceiling": _ceiling(self.ceiling) | {"again": asdict(self.ceiling_again)},
                "stock": self.stock and _ceiling(self.stock),
                "singles": [_measured(one) for one in self.singles],
                "arrays": [_measured(one) for one in self.arrays],
                "open": {f"{share:g}": _measured(one) for share, one in self.opened.items()},
                "overhead_s": self.overhead_s,
                "footprint": self.footprint and asdict(self.footprint),
                "cpu_s_per_text_over_ceiling": {
                    name: one.server_cpu_s_per_text and one.server_cpu_s_per_text / ceiling_cpu_s
                    for name, one in (("singles", self.saturation), ("arrays", self.array_saturation))
                },
                "peers": {
                    name: {
                        "runs": peer.runs,
                        "closed": [_measured(one) for one in peer.closed],
                        "at_maximum": _measured(peer.at_maximum),
                        "ours": peer.ours and _measured(peer.ours),
                        "rss_bytes": peer.rss_bytes,
                    }
                    for name, peer in self.peers.items()
                },
                "not_run": self.not_run,
            }
        )


def fastest(measured: list[Measured]) -> Measured:
    """The one of the highest rate.

    Raises:
        NothingServed: no request was answered rightly in any of them.
    """
    found = max(measured, key=lambda one: one.texts_per_s)
    if not found.texts_per_s:
        raise NothingServed(f"not one right answer came: {found.outcomes}, {found.complaint}")
    return found


def _ceiling(ceiling: Ceiling) -> dict[str, Any]:
    return {
        "families": [asdict(rate) for rate in ceiling.families],
        "texts_per_s": ceiling.best.texts_per_s,
        "tokens_per_s": ceiling.best.tokens_per_s,
        "cpu_s_per_text": ceiling.best.cpu_s_per_text,
        "with_tokenising_texts_per_s": ceiling.with_tokenising_texts_per_s,
        "windows": ceiling.windows,
    }


def _measured(one: Measured) -> dict[str, Any]:
    return asdict(one) | {"server_cpu_s_per_text": one.server_cpu_s_per_text}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
