"""Text to windows: everything is seen, nothing is too long, offsets are true."""

import threading
import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server.core.errors import ArtifactError, ConfigurationError
from server.inference.encoder import BLOCK_CHARS, WindowEncoder

MAX_TOKENS = 24
OVERLAP = 6


@pytest.fixture(scope="module")
def encoder(tokenizer_path):
    return WindowEncoder(tokenizer_path, max_tokens=MAX_TOKENS, overlap_tokens=OVERLAP)


@pytest.fixture(scope="module")
def pieces(tokenizer_path):
    """A window's tokens as strings."""
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    return lambda window: [tokenizer.id_to_token(i) for i in window.token_ids]


def assert_covers(windows, text):
    assert windows[0].start == 0
    assert windows[-1].end == len(text)
    for window, following in pairwise(windows):
        assert window.start < following.start <= window.end < following.end


def test_a_short_text_is_one_window_between_the_special_tokens(encoder, pieces):
    (window,) = encoder.encode("Hello, killing world")
    assert pieces(window) == ["[CLS]", "hello", ",", "kill", "##ing", "world", "[SEP]"]
    assert (window.start, window.end) == (0, 20)


@pytest.mark.parametrize("text", ["", "   ", "\n\t \u200b"])
def test_a_text_without_tokens_is_one_window(encoder, pieces, text):
    (window,) = encoder.encode(text)
    assert pieces(window) == ["[CLS]", "[SEP]"]
    assert (window.start, window.end) == (0, len(text))


def test_windows_of_a_long_text_overlap_and_start_at_words(encoder, pieces):
    text = "hello killing world " * 30
    windows = encoder.encode(text)
    assert_covers(windows, text)
    assert len(windows) == 8
    for window in windows:
        tokens = pieces(window)
        assert tokens[0] == "[CLS]"
        assert tokens[-1] == "[SEP]"
        assert tokens[1] != "##ing"
        assert text[window.start : window.end].split(maxsplit=1)[0] == tokens[1].replace("kill", "killing")
    for window, following in pairwise(windows):
        assert pieces(following)[1 : 1 + OVERLAP] in [pieces(window)[i : i + OVERLAP] for i in range(len(pieces(window)))]


def test_the_last_word_of_a_text_over_many_blocks_is_seen(encoder, pieces):
    text = "hello " * BLOCK_CHARS + "kill"
    windows = encoder.encode(text)
    assert_covers(windows, text)
    assert pieces(windows[-1])[-2] == "kill"
    assert sum(pieces(window).count("kill") for window in windows) == 1


@pytest.mark.parametrize("shift", range(6))
def test_a_text_without_spaces_is_cut_between_words(encoder, pieces, shift):
    text = ("hello." * BLOCK_CHARS)[: BLOCK_CHARS - shift - 1] + ".kill." + "hello." * 10
    assert any("kill" in pieces(window) for window in encoder.encode(text))


def test_blocks_leave_the_tokens_as_they_are(encoder, tokenizer_path):
    text = "hello, killing world. " * 1_000
    whole = Tokenizer.from_file(str(tokenizer_path))
    whole.no_truncation()
    expected = whole.encode(text, add_special_tokens=False).ids
    gapless = WindowEncoder(tokenizer_path, max_tokens=len(expected) + 2, overlap_tokens=0)
    (window,) = gapless.encode(text)
    assert window.token_ids[1:-1] == expected


def test_a_long_word_is_read_in_parts(encoder, pieces):
    text = "x" * 300 + "kill" + "y" * 300
    windows = encoder.encode(text)
    assert_covers(windows, text)
    assert all("[UNK]" not in pieces(window) for window in windows)
    letters = "".join(piece.removeprefix("##") for window in windows for piece in pieces(window)[1:-1])
    assert letters.count("k") >= 1
    assert letters.count("x") >= 300
    assert letters.count("y") >= 300


def test_a_character_that_the_tokenizer_does_not_know_hides_nothing(encoder, pieces):
    text = "hello kill😀them world"
    (window,) = encoder.encode(text)
    assert pieces(window) == ["[CLS]", "hello", "kill", "[UNK]", "them", "world", "[SEP]"]
    assert (window.start, window.end) == (0, len(text))


def test_offsets_stay_true_where_words_were_read_in_parts(tokenizer_path, pieces):
    text = "kill😀them world " * 40
    windows = WindowEncoder(tokenizer_path, max_tokens=10, overlap_tokens=2).encode(text)
    assert_covers(windows, text)
    first_char = {"kill": "k", "[UNK]": "😀", "them": "t", "world": "w"}
    for window in windows[1:]:
        assert text[window.start] == first_char[pieces(window)[1]]


def test_special_tokens_in_a_text_are_words(encoder, pieces):
    (window,) = encoder.encode("hello [SEP]")
    assert pieces(window) == ["[CLS]", "hello", "[", "s", "##e", "##p", "]", "[SEP]"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=400) | st.text("ab 😀界é\n", max_size=6_000))
def test_any_text_is_covered_within_the_bound(encoder, text):
    windows = encoder.encode(text)
    assert windows[0].start == 0
    assert windows[-1].end == len(text)
    assert all(2 <= window.tokens <= MAX_TOKENS for window in windows)
    for window, following in pairwise(windows):
        assert window.start <= following.start <= window.end <= following.end


def test_a_megabyte_takes_linear_time_and_leaves_other_threads_their_turn(encoder):
    text = "hello killing world, them! " * 38_000
    started_at = time.thread_time()
    encoder.encode(text[: len(text) // 8])
    eighth_s = time.thread_time() - started_at
    turns = 0
    is_done = threading.Event()

    def count_turns():
        nonlocal turns
        while not is_done.wait(0.001):
            turns += 1

    counter = threading.Thread(target=count_turns)
    counter.start()
    started_at = time.thread_time()
    encoder.encode(text)
    whole_s = time.thread_time() - started_at
    is_done.set()
    counter.join()
    assert whole_s < 3.0
    assert whole_s < 8 * 3 * eighth_s
    assert turns > 5


def test_a_missing_tokenizer_is_one_clear_line(tmp_path):
    with pytest.raises(ArtifactError, match=r"tokenizer .*nowhere\.json is missing"):
        WindowEncoder(tmp_path / "nowhere.json", max_tokens=128)


def test_a_malformed_tokenizer_is_one_clear_line(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer .*tokenizer\.json can't be read") as caught:
        WindowEncoder(path, max_tokens=128)
    assert "\n" not in str(caught.value)


def test_an_overlap_without_room_is_refused(tokenizer_path):
    with pytest.raises(ConfigurationError, match="windows of 34 tokens have room for 32 of a text"):
        WindowEncoder(tokenizer_path, max_tokens=34, overlap_tokens=32)
