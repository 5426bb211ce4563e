"""Results that are to come: what ``async`` escalations leave behind, for whoever comes back with the id."""

import secrets
import time
from dataclasses import dataclass

from cachetools import TTLCache

from server.core.types import TextResult


@dataclass(frozen=True, slots=True)
class Deferred:
    """One escalation. ``result`` is None while it is pending."""

    id: str
    result: TextResult | None = None


class DeferredResults:
    """At most ``max_items``, each for ``ttl_s`` from its last change; no text among them. Ids can't be guessed, and are
    known to who got the reply. They are this process's own, and gone with it."""

    def __init__(self, *, max_items: int, ttl_s: float) -> None:
        self._kept: TTLCache[str, Deferred] = TTLCache(max_items, ttl_s, timer=time.monotonic)

    def open(self) -> str | None:
        """A new id, pending; None if there is room for no more, so that nothing which was promised is dropped."""
        self._kept.expire()
        if len(self._kept) >= self._kept.maxsize:
            return None
        deferred = Deferred(secrets.token_urlsafe(16))
        self._kept[deferred.id] = deferred
        return deferred.id

    def fill(self, deferred_id: str, result: TextResult) -> None:
        """The result is there. One that expired meanwhile stays away."""
        if deferred_id in self._kept:
            self._kept[deferred_id] = Deferred(deferred_id, result)

    def find(self, deferred_id: str) -> Deferred | None:
        """None for an id that never was or has expired."""
        return self._kept.get(deferred_id)
