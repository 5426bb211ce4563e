"""Texts to windows as the server cuts them, so that the ceiling computes what the server computes.

The server's own code may not be imported here; ``tests/unit/loadtest/test_windows.py`` holds the two against each other.
"""

from collections.abc import Sequence
from itertools import pairwise

from tokenizers import Encoding, Tokenizer

from loadtest.bench.artifact import Artifact

OVERLAP_TOKENS = 32
MAX_SLACK_TOKENS = 16

Window = list[int]
"""Token ids, special tokens included."""


class Windower:
    """The windows of each text, by the artefact's tokenizer."""

    def __init__(self, artifact: Artifact) -> None:
        self._tokenizer = Tokenizer.from_file(str(artifact.tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        framed = self._tokenizer.encode("a")
        content = [i for i, is_special in enumerate(framed.special_tokens_mask) if not is_special]
        self._before, self._after = framed.ids[: content[0]], framed.ids[content[-1] + 1 :]
        self._room = artifact.describe()["max_tokens"] - len(self._before) - len(self._after)

    def cut(self, texts: Sequence[str]) -> list[list[Window]]:
        """One list of windows per text; tokenised on as many threads as ``tokenizers`` likes."""
        return [self._windows(encoding) for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def _windows(self, encoding: Encoding) -> list[Window]:
        ids = encoding.ids
        if len(ids) <= self._room:
            return [[*self._before, *ids, *self._after]]
        is_word_start = [word != before for before, word in pairwise([None, *encoding.word_ids])]
        return [[*self._before, *ids[begin:end], *self._after] for begin, end in _spans(is_word_start, self._room)]


def _spans(is_word_start: Sequence[bool], room: int) -> list[tuple[int, int]]:
    """Overlapping spans of at most ``room`` tokens, cut at a word start where one is near."""
    slack = min(MAX_SLACK_TOKENS, (room - OVERLAP_TOKENS) // 4)

    def back(at: int) -> int:
        return next((i for i in range(at, at - slack - 1, -1) if is_word_start[i]), at)

    spans, begin = [], 0
    while len(is_word_start) - begin > room:
        end = back(begin + room)
        spans.append((begin, end))
        begin = back(end - OVERLAP_TOKENS)
    return [*spans, (begin, len(is_word_start))]
