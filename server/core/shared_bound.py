"""A bound on what several hold together, under which many large ones don't keep small ones out."""


class SharedBound:
    """Counts what is held, in whatever unit its owner counts. Used on one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def take(self, more: int, *, held: int = 0) -> bool:
        """Let one who holds ``held`` have ``more``; False, and nothing taken, if there is no room.

        What it holds in the end must leave as much free again, so that large holders, however many, leave room for smaller
        ones. A holder that is alone may have any amount: bounding a single one is its owner's task.
        """
        others = self._held - held
        if others and others + 2 * (held + more) > self._most:
            return False
        self._held += more
        return True

    def give_back(self, held: int) -> None:
        """One who held so much is done."""
        self._held -= held
