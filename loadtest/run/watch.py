"""The server's own numbers, while the load is on."""

import time
from dataclasses import dataclass, field

import gevent
import httpx

from loadtest.scrape import Moment, scrape

MIN_SCRAPE_S = 1.0
_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Watch:
    """Reads ``url`` (a /metrics) every ``every_s`` seconds, in a greenlet; a time that gave nothing is left out."""

    url: str
    every_s: float
    moments: list[Moment] = field(default_factory=list)
    _began_at: float = 0.0
    _reader: gevent.Greenlet | None = None

    def begin(self) -> None:
        self._began_at = time.perf_counter()
        self._reader = gevent.spawn(self._read_on)

    def end(self) -> None:
        """Read once more."""
        if self._reader is not None:
            self._reader.kill()
        with httpx.Client(trust_env=False, timeout=_TIMEOUT_S) as client:
            self._read(client)

    def _read_on(self) -> None:
        with httpx.Client(trust_env=False, timeout=_TIMEOUT_S) as client:
            while True:
                self._read(client)
                gevent.sleep(self.every_s)

    def _read(self, client: httpx.Client) -> None:
        at_s = time.perf_counter() - self._began_at
        found = scrape(client, self.url)
        if found is not None:
            self.moments.append(Moment(at_s, found))
