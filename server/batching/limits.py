"""The batcher's bounds."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much waits, and how much is computed at once. The defaults suit a MiniLM student on CPU cores.

    Measured on one core (INT8, six layers of 384): 1 × 32 tokens run at 18,000 tokens per second, 4 × 32 to 8 × 64 at
    20,000, 32 × 128 at 12,000, as its activations no longer fit the cache. Larger batches than the default gain nothing on a
    CPU, and everyone in a batch waits for all of it. A GPU wants 16,384 tokens or more.

    Attributes:
        max_batch_items: items in one model call.
        max_batch_tokens: padded tokens in one model call: its longest item times its items. A longer item goes alone.
            192 are one full window of 128, or eight texts of 24: 6 to 16 ms, in which nobody else gets that core.
        call_cost_tokens: what a call costs beside its padded tokens, in tokens. On a CPU core 10: 0.41 ms and 0.041 ms a token.
        max_queue_items: items that may wait, over all requests; bounds the queue's memory and bookkeeping.
        max_queue_tokens: tokens that may wait, over all requests. It is also the longest request that can be admitted, some
            200,000 characters of English, about two seconds of two cores.
        max_queue_wait_s: a request that would wait longer for what is ahead of it is refused when it comes. A longer queue
            would serve nobody: everyone in it waits, and still does when the rush is over.
    """

    max_batch_items: int = 32
    max_batch_tokens: int = 192
    call_cost_tokens: int = 10
    max_queue_items: int = 1_024
    max_queue_tokens: int = 65_536
    max_queue_wait_s: float = 0.75

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} must be above 0, not {value}")
