"""What several hold together."""

from server.core.shared_bound import SharedBound


def test_each_leaves_free_as_much_as_it_takes():
    bound = SharedBound(100)
    assert [bound.take(more) for more in (40, 31, 30, 16, 15, 8, 7)] == [True, False, True, False, True, False, True]


def test_one_that_is_alone_is_let_in_whatever_its_size():
    bound = SharedBound(100)
    assert bound.take(150)
    assert bound.take(50, held=150)
    assert not bound.take(1)
    bound.give_back(200)
    assert bound.take(100)


def test_growing_counts_what_one_holds_as_its_own():
    bound = SharedBound(100)
    assert bound.take(40)
    assert bound.take(20)
    assert bound.take(10, held=20)
    assert not bound.take(1, held=30)


def test_what_was_refused_is_not_held():
    bound = SharedBound(100)
    assert bound.take(40)
    assert not bound.take(31)
    bound.give_back(40)
    assert bound.take(100)
