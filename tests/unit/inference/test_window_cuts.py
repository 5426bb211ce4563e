"""Cutting a run of tokens into windows."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.inference.windows import MAX_SLACK_TOKENS, cut_windows, fewest_windows


def test_what_fits_is_one_span():
    assert cut_windows([1] * 10, room=10, overlap=3) == [(0, 10)]


def test_no_tokens_are_one_empty_span():
    assert cut_windows([], room=10, overlap=3) == [(0, 0)]


def test_one_token_too_many_makes_a_second_span_with_the_overlap():
    assert cut_windows([1] * 11, room=10, overlap=3) == [(0, 10), (7, 11)]


def test_cuts_move_back_to_word_starts():
    starts = [i % 3 == 0 for i in range(40)]
    spans = cut_windows(starts, room=20, overlap=4)
    assert spans == [(0, 18), (12, 30), (24, 40)]


@pytest.mark.parametrize(("tokens", "windows"), [(0, 1), (10, 1), (11, 2), (17, 2), (18, 3), (24, 3), (25, 4)])
def test_words_of_one_token_need_the_fewest_spans(tokens, windows):
    assert fewest_windows(tokens, room=10, overlap=3) == len(cut_windows([1] * tokens, room=10, overlap=3)) == windows


def test_an_overlap_as_large_as_the_room_is_refused():
    with pytest.raises(AssertionError, match="an overlap of 10 doesn't fit into a room of 10"):
        cut_windows([1] * 30, room=10, overlap=10)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.booleans(), max_size=400),
    st.integers(1, 60).flatmap(lambda room: st.tuples(st.just(room), st.integers(0, room - 1))),
)
def test_spans_cover_everything_within_the_room_and_share_the_overlap(starts, bounds):
    room, overlap = bounds
    spans = cut_windows(starts, room=room, overlap=overlap)
    assert 1 <= fewest_windows(len(starts), room=room, overlap=overlap) <= len(spans)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(starts)
    assert all(end - begin <= room for begin, end in spans)
    for (begin, end), (next_begin, next_end) in pairwise(spans):
        assert begin < next_begin <= end - overlap
        assert end - next_begin <= overlap + MAX_SLACK_TOKENS
        assert next_end > end
