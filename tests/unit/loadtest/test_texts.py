"""The corpus: the same for a seed, mixed alike in every stretch, from a file as well."""

import random
from statistics import mean

import pyarrow
import pyarrow.parquet
import pytest

from loadtest.command import Unusable
from loadtest.texts import BLOCK, deal, generate_texts, read_texts


def words(text: str) -> int:
    return len(text.split())


def test_a_seed_gives_the_same_texts_and_another_gives_others():
    assert generate_texts(300, seed=7) == generate_texts(300, seed=7)
    assert generate_texts(300, seed=7) != generate_texts(300, seed=8)


@pytest.mark.parametrize(("wanted", "given"), [(1, BLOCK), (BLOCK, BLOCK), (BLOCK + 1, 2 * BLOCK)])
def test_whole_blocks_are_given(wanted, given):
    assert len(generate_texts(wanted)) == given


def test_every_block_holds_the_same_lengths_and_one_long_text():
    texts = generate_texts(4 * BLOCK)
    blocks = [sorted(map(words, texts[first : first + BLOCK])) for first in range(0, len(texts), BLOCK)]
    assert all(block[:-1] == blocks[0][:-1] for block in blocks)
    assert sorted(block[-1] for block in blocks) == [250, 472, 890, 1_680]
    assert max(blocks[0][:-1]) < 250


def test_blocks_are_in_different_orders():
    texts = generate_texts(2 * BLOCK)
    assert list(map(words, texts[:BLOCK])) != list(map(words, texts[BLOCK:]))


def test_dealing_keeps_every_text_and_evens_the_blocks_out():
    rng = random.Random(3)
    texts = ["x" * rng.randrange(1, 400) + str(i) for i in range(4 * BLOCK - 10)]
    dealt = deal(texts, rng)
    assert sorted(dealt) == sorted(texts)
    means = [mean(map(len, dealt[first : first + BLOCK - 5])) for first in range(0, 4 * BLOCK - 20, BLOCK - 2)]
    assert max(means) / min(means) < 1.06


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "texts.parquet"
    rows = [*(f"text number {i}" for i in range(50)), None, "", "text number 3"]
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), path)
    return path


def test_texts_come_from_a_file_each_once_and_none_empty(parquet):
    texts = read_texts(parquet, 50, seed=1)
    assert sorted(texts) == sorted(f"text number {i}" for i in range(50))
    assert read_texts(parquet, 20, seed=1) == read_texts(parquet, 20, seed=1)


def test_too_few_texts_are_refused(parquet):
    with pytest.raises(Unusable, match="50 different texts, fewer than 51"):
        read_texts(parquet, 51)


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "words.txt").write_text("just words")
    with pytest.raises(Unusable, match=r"words\.txt is no Parquet file"):
        read_texts(tmp_path / "words.txt", 1)


def test_a_file_without_texts_is_refused(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"words": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(Unusable, match="no column named text"):
        read_texts(tmp_path / "other.parquet", 1)
