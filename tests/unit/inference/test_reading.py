"""Texts in both views and in windows: no further than the bounds allow, and no longer than somebody waits."""

import pytest

from server.core.errors import DeadlineExceeded, TextTooLarge
from server.core.types import Text
from server.inference.encoder import BLOCK_CHARS, WindowEncoder
from server.inference.fake import FakeEncoder
from server.inference.reading import ReadingLimits, read_texts

LIMITS = ReadingLimits(max_windows=10, max_request_windows=15, max_chars=1_000)
WINDOW = "plain " * 10
"""What fills one window of the fake encoder."""


class CountingEncoder(FakeEncoder):
    """``begun``: the texts that it was given."""

    def __init__(self):
        super().__init__(max_tokens=12, overlap_tokens=0)
        self.begun = []

    def encode(self, text, checkpoint=None):
        self.begun.append(text)
        return super().encode(text, checkpoint)


@pytest.fixture
def encoder():
    return CountingEncoder()


def test_each_window_knows_its_view(encoder):
    (reading,) = read_texts(encoder, [Text("you k1ll")], LIMITS)
    assert (reading.views, reading.is_disguised) == (["you k1ll", "you kill"], True)
    assert [(window.start, window.end) for window in reading.windows] == [(0, 8), (0, 8)]


def test_a_text_may_need_so_many_windows_and_no_more(encoder):
    (reading,) = read_texts(encoder, [Text(WINDOW * 10)], LIMITS)
    assert len(reading.windows) == 10
    with pytest.raises(TextTooLarge, match=r"^the text needs more than 10 windows of the model, over both views$") as caught:
        read_texts(encoder, [Text("plain"), Text(WINDOW * 11), Text("later")], LIMITS)
    assert caught.value.text_index == 1
    assert "later" not in encoder.begun


def test_both_views_count(encoder):
    with pytest.raises(TextTooLarge, match="the text needs more than 10 windows"):
        read_texts(encoder, [Text(WINDOW * 5 + "k1ll")], LIMITS)


def test_all_texts_may_need_so_many_windows_and_no_more(encoder):
    texts = [Text(WINDOW * 5)] * 3
    assert [len(reading.windows) for reading in read_texts(encoder, texts, LIMITS)] == [5, 5, 5]
    with pytest.raises(TextTooLarge, match=r"^the texts need more than 15 windows of the model in all$") as caught:
        read_texts(encoder, [*texts, Text("one"), Text("later")], LIMITS)
    assert caught.value.text_index is None
    assert "later" not in encoder.begun


def test_what_nfkc_would_write_out_at_length_is_refused_before_it_is(encoder):
    """U+FB03 becomes three characters."""
    assert read_texts(encoder, [Text("\ufb03" * 333)], LIMITS)
    encoder.begun.clear()
    with pytest.raises(TextTooLarge, match=r"^the texts have more than 1000 characters in Unicode's form NFKC$") as caught:
        read_texts(encoder, [Text("ab"), Text("\ufb03" * 333)], LIMITS)
    assert caught.value.text_index == 1
    assert encoder.begun == []


def test_reading_ends_when_nobody_waits_any_more(encoder):
    answers = iter([True, True, False])
    with pytest.raises(DeadlineExceeded):
        read_texts(encoder, [Text(WINDOW * 10), Text("later")], LIMITS, lambda: next(answers))
    assert len(encoder.begun) == 1
    assert list(answers) == []


def test_a_long_text_is_read_no_further_than_its_bound(tokenizer_path):
    """The real encoder says after each block what the text needs at least, and is stopped at the first that is too much."""
    encoder = WindowEncoder(tokenizer_path, max_tokens=24, overlap_tokens=6)
    text = "kill them " * 4_000
    needed = []
    windows = encoder.encode(text, needed.append)
    assert len(needed) == -(-len(text) // BLOCK_CHARS)
    assert needed == sorted(needed)
    assert len(windows) * 0.7 < needed[-1] <= len(windows)
    asked = []

    def is_wanted():
        asked.append(True)
        return True

    with pytest.raises(TextTooLarge):
        read_texts(encoder, [Text(text)], ReadingLimits(max_windows=60, max_request_windows=100, max_chars=10**6), is_wanted)
    assert len(asked) == 2, "a block needs 51 windows"
