"""Text to windows with the student's own tokenizer, all of the text and at a bounded cost.

Three things that a WordPiece tokenizer does on its own would let a text hide, and are undone here:

- it cuts the text at a maximum length: windows go on to the end;
- it reads a word of more than 100 characters, or with one character that it doesn't know (``kill😀them``), as a single
  ``[UNK]``: such a word is read again in parts;
- it takes ``[SEP]`` in a text for the control token: here it is four ordinary characters and a word.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from server.core.errors import ArtifactError, ConfigurationError
from server.inference.classifier import Checkpoint, Window
from server.inference.windows import cut_windows, fewest_windows
from server.inference.words import WordReader, reads_by_word

BLOCK_CHARS = 4_096
"""Characters per native call. The call holds the interpreter lock, so this bounds how long the event loop can stall."""

_PARTS = re.compile(r"[A-Za-z0-9]{1,80}|[^A-Za-z0-9]")


class WindowEncoder:
    """Implements :class:`server.inference.classifier.Encoder` over a ``tokenizer.json``. Immutable, so thread-safe."""

    def __init__(self, tokenizer_path: Path, *, max_tokens: int, overlap_tokens: int = 32) -> None:
        """Args:
        max_tokens: the longest window, special tokens included.
        overlap_tokens: what neighbouring windows share at least.

        Raises:
            ArtifactError: the file is missing or is no tokenizer.
            ConfigurationError: the overlap leaves no room for progress.
        """
        self._tokenizer = _load(tokenizer_path)
        self._words = WordReader(self._tokenizer) if reads_by_word(self._tokenizer) else None
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._unknown_id = None if unknown is None else self._tokenizer.token_to_id(unknown)
        # Read off the file's own post-processor, by what it puts around a text of one letter.
        framed = self._tokenizer.encode("a")
        content = [i for i, is_special in enumerate(framed.special_tokens_mask) if not is_special]
        if not content:
            raise ArtifactError(f"tokenizer {tokenizer_path}: it reads the letter a as no token")
        self._before = framed.ids[: content[0]]
        self._after = framed.ids[content[-1] + 1 :]
        self._room = max_tokens - len(self._before) - len(self._after)
        self._overlap = overlap_tokens
        if not 0 <= overlap_tokens < self._room:
            raise ConfigurationError(
                f"windows of {max_tokens} tokens have room for {self._room} of a text, too few to overlap by {overlap_tokens}"
            )

    def encode(self, text: str, checkpoint: Checkpoint | None = None) -> list[Window]:
        """The windows of a text, in order; together their character spans cover it without a gap.

        Takes time linear in the text: about half a second per million characters of English, up to ten times that where
        every word has to be read in parts. Other threads get a turn every few milliseconds.

        Args:
            text: without lone surrogates, as canonical text is.
            checkpoint: called after each :data:`BLOCK_CHARS`.
        """
        ids = self._words.read(text) if self._words else None
        if ids is not None and self._is_simple(ids):
            return [self._whole(ids, text)]
        tokens = _Tokens()
        blocks = _blocks(text)
        for begin, end in blocks:
            block = text[begin:end]
            encoding = self._tokenizer.encode(block, add_special_tokens=False)
            ids = encoding.ids
            if len(blocks) == 1 and self._is_simple(ids):
                return [self._whole(ids, text)]
            unknown = self._unknown_id
            breaks = [] if unknown is None or unknown not in ids else _part_breaks(block, encoding, unknown)
            self._keep(block, encoding, breaks, begin, tokens)
            if checkpoint is not None:
                checkpoint(fewest_windows(len(tokens.ids), room=self._room, overlap=self._overlap))
        tokens.starts.append(len(text))
        windows = []
        for first, stop in cut_windows(tokens.is_word_start, room=self._room, overlap=self._overlap):
            begin = 0 if first == 0 else tokens.starts[first]
            # Up to the next token's start, so that the white space between them is in a window too.
            end = len(text) if stop == len(tokens.ids) else max(tokens.starts[stop], tokens.ends[stop - 1])
            windows.append(Window([*self._before, *tokens.ids[first:stop], *self._after], begin, end))
        return windows

    def _is_simple(self, ids: Sequence[int]) -> bool:
        """Most texts: one window and nothing unknown, so no place in the text is asked for."""
        return len(ids) <= self._room and self._unknown_id not in ids

    def _whole(self, ids: Sequence[int], text: str) -> Window:
        return Window([*self._before, *ids, *self._after], 0, len(text))

    def _keep(self, block: str, encoding: Encoding, breaks: list[int], offset: int, tokens: "_Tokens") -> None:
        """Append one block's tokens, read again in parts where it has ``breaks``; ``offset`` is where it begins in the text."""
        spans = encoding.offsets
        if breaks:
            pieces = (block[begin:end] for begin, end in pairwise([0, *breaks, len(block)]))
            encoding = self._tokenizer.encode(" ".join(pieces), add_special_tokens=False)
            # The k-th inserted space stands at its break, moved by the k spaces before it.
            spaces = [at + k for k, at in enumerate(breaks)]
            spans = [(begin - bisect_left(spaces, begin), end - bisect_left(spaces, end)) for begin, end in encoding.offsets]
        tokens.ids.extend(encoding.ids)
        tokens.starts.extend([offset + begin for begin, _ in spans])
        tokens.ends.extend([offset + end for _, end in spans])
        tokens.is_word_start.extend([word != before for before, word in pairwise([None, *encoding.word_ids])])


@dataclass(slots=True)
class _Tokens:
    """A text's tokens, one entry each: id, character span, and whether a word begins with it."""

    ids: array = field(default_factory=lambda: array("q"))
    starts: array = field(default_factory=lambda: array("q"))
    ends: array = field(default_factory=lambda: array("q"))
    is_word_start: bytearray = field(default_factory=bytearray)


def _load(path: Path) -> Tokenizer:
    if not path.is_file():
        raise ArtifactError(f"tokenizer {path} is missing")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises a bare Exception for a malformed file
        raise ArtifactError(f"tokenizer {path} can't be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _blocks(text: str) -> list[tuple[int, int]]:
    """Spans of at most :data:`BLOCK_CHARS`, cut at white space where there is any, or else between words."""
    blocks = []
    begin = 0
    while len(text) - begin > BLOCK_CHARS:
        limit = begin + BLOCK_CHARS
        cut = max(text.rfind(" ", begin + 1, limit), text.rfind("\n", begin + 1, limit))
        if cut < 0:
            cut = next((at for at in range(limit - 1, begin, -1) if not text[at].isalnum()), limit)
        blocks.append((begin, cut))
        begin = cut
    blocks.append((begin, len(text)))
    return blocks


def _part_breaks(block: str, encoding: Encoding, unknown_id: int) -> list[int]:
    """Where to break the unknown words: runs of ASCII letters and digits, and each other character on its own."""
    breaks: list[int] = []
    for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
        if token == unknown_id:
            breaks.extend(begin + part.start() for part in _PARTS.finditer(block[begin:end]) if part.start())
    return breaks
