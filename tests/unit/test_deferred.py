"""What is kept for those who come back."""

from server.core.taxonomy import CATEGORIES
from server.core.types import TextResult
from server.deferred import Deferred, DeferredResults

RESULT = TextResult("allow", "teacher", (), dict.fromkeys(CATEGORIES, 0.0), 1, 1, None)


def test_a_result_is_pending_until_it_is_there():
    results = DeferredResults(max_items=2, ttl_s=3600)
    first = results.open()
    assert results.find(first) == Deferred(first)
    results.fill(first, RESULT)
    assert results.find(first) == Deferred(first, RESULT)
    assert results.find("never given") is None


def test_ids_differ_and_are_long_enough_not_to_be_guessed():
    results = DeferredResults(max_items=100, ttl_s=3600)
    ids = {results.open() for _ in range(100)}
    assert len(ids) == 100
    assert min(map(len, ids)) >= 22


def test_with_no_room_nothing_is_promised_and_nothing_promised_is_dropped():
    results = DeferredResults(max_items=2, ttl_s=3600)
    kept = [results.open(), results.open()]
    assert results.open() is None
    assert all(results.find(deferred_id) for deferred_id in kept)


def test_what_was_found_makes_room_the_first_found_first_and_what_nobody_had_stays():
    results = DeferredResults(max_items=3, ttl_s=3600)
    one, two, three = (results.open() for _ in range(3))
    for deferred_id in (one, two):
        results.fill(deferred_id, RESULT)
    assert results.find(three) == Deferred(three), "a pending one isn't had yet"
    assert results.open() is None
    for _ in range(2):
        assert [results.find(deferred_id) for deferred_id in (two, one)] == [Deferred(two, RESULT), Deferred(one, RESULT)]
    four = results.open()
    assert (results.find(two), results.find(one)) == (None, Deferred(one, RESULT))
    assert results.open() is not None
    assert (results.find(one), results.find(three), results.find(four)) == (None, Deferred(three), Deferred(four))
    assert results.open() is None


def test_what_expired_makes_room_and_stays_away():
    results = DeferredResults(max_items=1, ttl_s=1e-9)
    first = results.open()
    assert results.open() is not None
    results.fill(first, RESULT)
    assert results.find(first) is None
