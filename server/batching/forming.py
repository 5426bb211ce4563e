"""Which of the waiting items go into one model call."""

from collections.abc import Sequence

from server.batching.item import Item
from server.batching.limits import BatchLimits

CHEAP_PADDING_TOKENS = 16
"""Items this close in length always go together: padding them costs less than another call."""


def form_batch(waiting: Sequence[Item], *, limits: BatchLimits, max_items: int) -> list[Item]:
    """The oldest item, joined by those nearest to it in length while the limits hold.

    The oldest is always in, so an item that has k items before it goes within k + 1 batches, however odd its length. No item is
    padded to more than twice its length (or by :data:`CHEAP_PADDING_TOKENS`, if that is more): on a CPU a padded token
    costs as much as a real one.

    Args:
        waiting: at least one item, oldest first.
        max_items: at least 1; a further bound beside the limits' own.
    """
    oldest = waiting[0]
    batch = [oldest]
    room = min(max_items, limits.max_batch_items)
    shortest = longest = oldest.cost
    for item in sorted(waiting[1:], key=lambda item: abs(item.cost - oldest.cost)):
        if len(batch) >= room:
            break
        low, high = min(shortest, item.cost), max(longest, item.cost)
        if high * (len(batch) + 1) > limits.max_batch_tokens or high - low > max(low, CHEAP_PADDING_TOKENS):
            continue
        batch.append(item)
        shortest, longest = low, high
    return batch
