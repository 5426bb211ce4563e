"""A bound on what several hold together, under which many large ones don't keep small ones out."""


class SharedBound:
    """Counts what is held, in whatever unit its owner counts. Used on one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def take(self, more: int, *, held: int = 0) -> bool:
        """Let one who holds ``held`` have ``more``; False, and nothing taken, if there is no room.

        It must leave free as much as it comes to, so that large ones, however many, leave room for smaller. One that is
        alone is let in, whatever its size: that is for its owner to bound.
        """
        others = self._held - held
        if others and others + 2 * (held + more) > self._most:
            return False
        self._held += more
        return True

    def give_back(self, held: int) -> None:
        """One who held so much is done."""
        self._held -= held
