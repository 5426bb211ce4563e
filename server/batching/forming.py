"""Which of the waiting items go into one model call."""

from collections.abc import Sequence

from server.batching.item import Item
from server.batching.limits import BatchLimits

CHEAP_PADDING_TOKENS = 16
"""Items this close in length always go together: padding them costs less than another call."""

GIVES_WAY_S_PER_TOKEN = 1e-4
"""How long a request gives way to shorter ones that came after it, per token that it brought: 0.2 s for a text of 2,000
tokens, which would otherwise keep every short text behind it waiting for all of its windows."""


def form_batch(waiting: Sequence[Item], *, limits: BatchLimits, max_items: int) -> list[Item]:
    """The item whose turn it is, joined by those nearest to it in length while the limits hold.

    Turns go by time of arrival plus :data:`GIVES_WAY_S_PER_TOKEN` for each token of the item's request. So only what comes
    within that time of it can overtake an item, and it goes within k + 1 batches if it has k items before it then,
    however odd its length. No item is padded to more than twice its length (or by :data:`CHEAP_PADDING_TOKENS`, if that
    is more): on a CPU a padded token costs as much as a real one.

    Args:
        waiting: at least one item, oldest first.
        max_items: at least 1; a further bound beside the limits' own.
    """
    first = min(waiting, key=turn_at)
    batch = [first]
    room = min(max_items, limits.max_batch_items)
    shortest = longest = first.cost
    for item in sorted(waiting, key=lambda item: abs(item.cost - first.cost)):
        if len(batch) >= room:
            break
        if item is first:
            continue
        low, high = min(shortest, item.cost), max(longest, item.cost)
        if high * (len(batch) + 1) > limits.max_batch_tokens or high - low > max(low, CHEAP_PADDING_TOKENS):
            continue
        batch.append(item)
        shortest, longest = low, high
    return batch


def turn_at(item: Item) -> float:
    """When it is this item's turn, on the clock of ``time.monotonic()``."""
    return item.queued_at + GIVES_WAY_S_PER_TOKEN * item.request.tokens
