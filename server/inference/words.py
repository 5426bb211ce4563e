"""Plain texts read word by word, each word by the tokenizer once."""

import re
from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

MAX_CHARS = 1_024
"""A text of new words alone takes up to three times as long here as in one native call: longer ones are not read here."""

MAX_WORDS = 32_768
"""Remembered at once, some 6 MB; then all are forgotten."""

MAX_WORD_CHARS = 20
"""Longer ones aren't remembered: they are rare, or numbers and keys that nobody wants kept."""

_WORD = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9\s]")


class WordReader:
    """Ids of plain texts (printable ASCII and line breaks) by a BERT tokenizer, in a tenth of its own time for known words.

    Rests on what :func:`reads_by_word` tells of a tokenizer: each word stands for itself, whatever is beside it. For any
    thread.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_words: int = MAX_WORDS) -> None:
        self._max_words = max_words
        self._tokenizer = tokenizer
        self._is_uncased = tokenizer.normalizer.lowercase
        self._known: dict[str, Sequence[int]] = {}

    def read(self, text: str) -> list[int] | None:
        """What the tokenizer makes of the text, special tokens left out; None if the text is too long, or isn't plain."""
        if len(text) > MAX_CHARS or not text.isascii() or not text.replace("\n", " ").isprintable():
            return None
        if self._is_uncased:
            text = text.lower()
        known = self._known
        ids: list[int] = []
        for word in _WORD.findall(text):
            ids += known.get(word) or self._learn(word)
        return ids

    def _learn(self, word: str) -> Sequence[int]:
        tokens = tuple(self._tokenizer.encode(word, add_special_tokens=False).ids)
        if len(word) <= MAX_WORD_CHARS:
            if len(self._known) >= self._max_words:
                self._known.clear()
            self._known[word] = tokens
        return tokens


def reads_by_word(tokenizer: Tokenizer) -> bool:
    """Whether it reads each word of a plain text on its own, as BERT's tokenizer does: it cleans character by character, cuts
    at white space and around each punctuation mark, and takes nothing in the text for a special token."""
    return (
        isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and isinstance(tokenizer.model, models.WordPiece)
        and tokenizer.encode_special_tokens
        and all(token.special for token in tokenizer.get_added_tokens_decoder().values())
    )
