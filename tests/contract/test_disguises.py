"""What the shipped student's tokenizer drops inside a word can't keep a disguise together: it joins what it parted."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from server.core.artifact import TOKENIZER
from server.core.canonical import canonicalise

SHIPPED = Path(__file__).resolve().parents[2] / "server" / "artifacts" / "default"
WORD = "idiot"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(SHIPPED / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.fixture(scope="module")
def dropped(tokenizer) -> list[str]:
    # White space parts words for a reader, too.
    planes = [*range(0xD800), *range(0xF900, 0x20000), *range(0xE0000, 0xE0200)]
    for_private_use = [*range(0xE000, 0xF900, 100), 0xF8FF, 0xF0000, 0xFFFFD, 0x100000, 0x10FFFD]
    characters = [character for code in planes + for_private_use if not (character := chr(code)).isspace()]
    read = tokenizer.encode_batch_fast([f"id{character}iot" for character in characters])
    expected = tokenizer.encode(WORD).ids
    return [character for character, tokens in zip(characters, read, strict=True) if tokens.ids == expected]


@pytest.mark.parametrize("disguise", ["1d{}10t", "іd{}іоt", "i d {}i o t"], ids=["leet", "look-alikes", "spaced out"])
def test_a_character_that_is_dropped_does_not_keep_a_disguise_together(tokenizer, dropped, disguise):
    assert len(dropped) > 1_000
    kept = []
    for character in dropped:
        canonical = canonicalise(disguise.format(character))
        views = [canonical.text, canonical.deobfuscated or ""]
        if not any(WORD in tokenizer.decode(tokens.ids) for tokens in tokenizer.encode_batch(views)):
            kept.append(f"U+{ord(character):04X}")
    assert not kept
