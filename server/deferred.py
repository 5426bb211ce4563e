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
    """At most ``max_items``, each for ``ttl_s`` from its last change; no text among them. One whose result was found can be
    found again until ``ttl_s`` is over or its room is needed. Ids can't be guessed, and are known to who got the reply. They
    are this process's own, and gone with it."""

    def __init__(self, *, max_items: int, ttl_s: float) -> None:
        self._max_items = max_items
        self._awaited: TTLCache[str, Deferred] = TTLCache(max_items, ttl_s, timer=time.monotonic)
        self._found: TTLCache[str, Deferred] = TTLCache(max_items, ttl_s, timer=time.monotonic)

    def open(self) -> str | None:
        """A new id, pending; None if there is room for no more, so that no result is dropped which nobody has had."""
        self._awaited.expire()
        self._found.expire()
        if len(self._awaited) + len(self._found) >= self._max_items:
            try:
                self._found.popitem()  # the one that was found first
            except KeyError:
                return None
        deferred = Deferred(secrets.token_urlsafe(16))
        self._awaited[deferred.id] = deferred
        return deferred.id

    def fill(self, deferred_id: str, result: TextResult) -> None:
        """The result is there. One that expired meanwhile stays away."""
        if deferred_id in self._awaited:
            self._awaited[deferred_id] = Deferred(deferred_id, result)

    def find(self, deferred_id: str) -> Deferred | None:
        """None for an id that never was, has expired, or was found before and had to make room."""
        deferred = self._awaited.get(deferred_id)
        if deferred is None:
            return self._found.get(deferred_id)
        if deferred.result is not None:
            self._awaited.pop(deferred_id, None)
            self._found[deferred_id] = deferred
        return deferred
