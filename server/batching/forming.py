"""Which of the waiting items go into one model call."""

from collections.abc import Sequence
from operator import attrgetter

from server.batching.item import Item
from server.batching.limits import BatchLimits


def form_batch(waiting: Sequence[Item], *, limits: BatchLimits, max_items: int) -> list[Item]:
    """The item whose turn it is, joined by those nearest to it in length, as long as that makes a token cheaper.

    Turns go by :attr:`Item.turn_at`. So only what comes within the time that an item gives way can overtake it, and it goes
    within k + 1 batches if it has k items before it then, however odd its length.

    A call costs its padded tokens, and ``limits.call_cost_tokens`` for being a call. Along the line of lengths the batch grows
    to the side that costs less per token that somebody asked for, and is cut where that cost was lowest. So few that are of one
    length are cheap enough together, while many of unlike lengths wait for their like.

    Args:
        waiting: at least one item, in turn.
        max_items: at least 1; a further bound beside the limits' own.
    """
    first = waiting[0]
    line = sorted(waiting, key=attrgetter("cost"))
    room = min(max_items, limits.max_batch_items)
    begin = end = line.index(first)  # of the batch so far; both ends are in it
    tokens = first.cost
    cheapest, best = (limits.call_cost_tokens + tokens) / tokens, (begin, end)

    def price(items: int, longest: int, joining: int) -> float:
        """Per wanted token; infinite over the limit."""
        padded = items * longest
        return (limits.call_cost_tokens + padded) / (tokens + joining) if padded <= limits.max_batch_tokens else float("inf")

    while (items := end - begin + 2) <= room:
        shorter = price(items, line[end].cost, line[begin - 1].cost) if begin > 0 else float("inf")
        longer = price(items, line[end + 1].cost, line[end + 1].cost) if end + 1 < len(line) else float("inf")
        if shorter == longer == float("inf"):
            break
        if shorter <= longer:
            begin -= 1
            tokens += line[begin].cost
        else:
            end += 1
            tokens += line[end].cost
        if min(shorter, longer) < cheapest:
            cheapest, best = min(shorter, longer), (begin, end)
    return line[best[0] : best[1] + 1]
