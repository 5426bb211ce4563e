"""Reading word by word gives what the tokenizer gives, and only where it may."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from server.inference.words import MAX_CHARS, MAX_WORD_CHARS, WordReader, reads_by_word
from server.settings import Settings

PLAIN = string.ascii_letters + string.digits + string.punctuation + " \n"
SHIPPED = Settings.model_fields["artifact"].default


def opened(path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def small(tokenizer_path):
    return opened(tokenizer_path)


@pytest.fixture(scope="module")
def shipped():
    return opened(SHIPPED / "tokenizer.json")


def alone(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


@given(text=st.text(PLAIN, max_size=200))
def test_a_plain_text_reads_as_by_the_tokenizer(small, text):
    reader = WordReader(small)
    assert reader.read(text) == alone(small, text)
    assert reader.read(text) == alone(small, text), "and from memory"


@pytest.mark.parametrize(
    "text",
    [
        "Don't you know? It's 3.50$ (or so)...",
        "[SEP] [CLS] [PAD] [UNK] [MASK] ##ing",
        "snake_case CamelCase\n\nx=1;y+=2 <b>bold</b> e-mail@example.com",
        "antidisestablishmentarianism " * 5,
        "a" * 101,
        "",
    ],
)
def test_the_shipped_tokenizer_reads_by_word(shipped, text):
    assert reads_by_word(shipped)
    assert WordReader(shipped).read(text) == alone(shipped, text)


@pytest.mark.parametrize("text", ["café", "tab\there", "a\x1cb", "nul\x00", "a\x7f", "line\r\n", "x" * (MAX_CHARS + 1)])
def test_what_is_not_plain_or_too_long_is_left_to_the_tokenizer(small, text):
    assert WordReader(small).read(text) is None


def test_case_counts_where_the_tokenizer_keeps_it(small):
    cased = Tokenizer.from_str(small.to_str())
    cased.encode_special_tokens = True
    cased.normalizer = normalizers.BertNormalizer(lowercase=False)
    reader = WordReader(cased)
    assert reader.read("Hello hello") == alone(cased, "Hello hello")
    assert reader.read("Hello") != reader.read("hello")


def test_a_word_is_tokenized_once_until_the_memory_is_full(small):
    asked = []

    class Counting:
        normalizer = small.normalizer

        def encode(self, word, **options):
            asked.append(word)
            return small.encode(word, **options)

    reader = WordReader(Counting(), max_words=3)
    assert reader.read("hello Hello world hello") == alone(small, "hello Hello world hello")
    assert asked == ["hello", "world"]
    reader.read("kill them hello")
    assert asked == ["hello", "world", "kill", "them", "hello"], "the fourth word found the memory full"
    key = "a" * (MAX_WORD_CHARS + 1)
    assert reader.read(f"{key} {key}") == alone(small, f"{key} {key}")
    assert asked[5:] == [key, key], "what may be a key is not kept"


def added(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("hello world", special=False)])


def byte_level(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()


def folded(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.NFKC()


def pairs(tokenizer: Tokenizer) -> None:
    tokenizer.model = models.BPE()


def special_tokens_in_texts(tokenizer: Tokenizer) -> None:
    tokenizer.encode_special_tokens = False


@pytest.mark.parametrize("change", [added, byte_level, folded, pairs, special_tokens_in_texts])
def test_any_other_tokenizer_is_not_read_by_word(small, change):
    other = Tokenizer.from_str(small.to_str())
    other.encode_special_tokens = True
    assert reads_by_word(other)
    change(other)
    assert not reads_by_word(other)
