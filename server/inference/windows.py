"""Where to cut a long run of tokens into overlapping windows."""

from collections.abc import Sequence

MAX_SLACK_TOKENS = 16
"""How far a cut is moved back to reach the start of a word."""


def fewest_windows(tokens: int, *, room: int, overlap: int) -> int:
    """How many spans :func:`cut_windows` gives at least for so many tokens."""
    return 1 + max(0, -(-(tokens - room) // (room - overlap)))


def cut_windows(is_word_start: Sequence[int], *, room: int, overlap: int) -> list[tuple[int, int]]:
    """Spans of token positions, each ``[begin, end)``, that cover all tokens in order.

    A span holds at most ``room`` tokens; neighbours share at least ``overlap``, so whatever is that short is seen whole
    by one of them. Cuts fall on word starts where one is near. Without tokens there is one empty span.

    Args:
        is_word_start: one truth value per token.
        overlap: below ``room``.
    """
    assert 0 <= overlap < room, f"an overlap of {overlap} doesn't fit into a room of {room} tokens"
    slack = min(MAX_SLACK_TOKENS, (room - overlap) // 4)
    tokens = len(is_word_start)
    spans = []
    begin = 0
    while tokens - begin > room:
        end = _back_to_word_start(is_word_start, begin + room, slack)
        spans.append((begin, end))
        begin = _back_to_word_start(is_word_start, end - overlap, slack)
    spans.append((begin, tokens))
    return spans


def _back_to_word_start(is_word_start: Sequence[int], at: int, slack: int) -> int:
    return next((i for i in range(at, at - slack - 1, -1) if is_word_start[i]), at)
