"""The breaker's three states, on a clock that is turned by hand."""

import asyncio
import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.teacher.breaker import Breaker, BreakerLimits
from server.teacher.teacher import TeacherUnavailable
from tests.unit.teacher.counting import Clock, Counting

LIMITS = BreakerLimits(window=4, failures=2, slow_s=1.0, open_s=5.0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def breaker(clock, counting):
    return Breaker(LIMITS, name="one:8000", on_open=counting.breaker_opened, clock=clock)


def run(breaker, clock, seconds: float, error: BaseException | None = None, text: str = "a text") -> None:
    with breaker.trial(text):
        clock.now += seconds
        if error is not None:
            raise error


def succeed(breaker, clock, *, seconds: float = 0.1) -> None:
    run(breaker, clock, seconds)


def fail(breaker, clock, *, seconds: float = 0.1, is_teachers_fault: bool = True, text: str = "a text") -> None:
    error = TeacherUnavailable("error", "told to fail", is_teachers_fault=is_teachers_fault)
    with pytest.raises(TeacherUnavailable, match="told to fail"):
        run(breaker, clock, seconds, error, text)


def cancel(breaker, clock, *, seconds: float) -> None:
    with pytest.raises(asyncio.CancelledError):
        run(breaker, clock, seconds, asyncio.CancelledError())


def refuse(breaker, clock) -> None:
    """Asserts that the breaker lets nothing in."""
    with pytest.raises(TeacherUnavailable) as caught:
        run(breaker, clock, 0.0)
    assert caught.value.outcome == "breaker_open"


def test_it_opens_at_so_many_failures_of_the_last_few_and_not_before(breaker, clock, counting):
    fail(breaker, clock)
    for _ in range(3):
        succeed(breaker, clock)
    assert breaker.state == "closed"
    fail(breaker, clock)  # the first failure is out of the window by now
    assert (breaker.state, counting.openings) == ("closed", 0)
    fail(breaker, clock)
    assert (breaker.state, counting.openings) == ("open", 1)
    refuse(breaker, clock)


def test_a_flapping_endpoint_opens_it_though_every_other_try_succeeds(breaker, clock):
    for _ in range(2):
        succeed(breaker, clock)
        fail(breaker, clock)
    assert breaker.state == "open"


def test_a_slow_answer_counts_as_a_failure(breaker, clock):
    for _ in range(8):
        succeed(breaker, clock, seconds=1.0)
    assert breaker.state == "closed"
    for _ in range(2):
        succeed(breaker, clock, seconds=1.01)
    assert breaker.state == "open"


def test_the_texts_fault_counts_neither_way_unless_it_was_slow(breaker, clock):
    for _ in range(5):
        fail(breaker, clock, is_teachers_fault=False)
    assert breaker.state == "closed"
    for _ in range(2):
        fail(breaker, clock, seconds=2.0, is_teachers_fault=False)
    assert breaker.state == "open"


def test_a_cancelled_try_counts_only_if_it_was_slow(breaker, clock):
    for _ in range(5):
        cancel(breaker, clock, seconds=0.9)
    assert breaker.state == "closed"
    for _ in range(2):
        cancel(breaker, clock, seconds=1.1)
    assert breaker.state == "open"


def open_it(breaker, clock) -> None:
    for _ in range(2):
        fail(breaker, clock)
    assert breaker.state == "open"


def test_after_a_while_one_probe_at_a_time_is_let_in(breaker, clock):
    open_it(breaker, clock)
    clock.now += 4.9
    refuse(breaker, clock)
    clock.now += 0.1
    assert (breaker.state, breaker.is_admitting) == ("half_open", True)
    with breaker.trial("a text"):
        assert not breaker.is_admitting
        refuse(breaker, clock)
    assert breaker.state == "closed"


def test_a_probe_that_succeeds_closes_it_and_the_past_is_forgotten(breaker, clock):
    open_it(breaker, clock)
    clock.now += 5
    succeed(breaker, clock)
    fail(breaker, clock)
    assert breaker.state == "closed"


@pytest.mark.parametrize("ending", ["failure", "slow"])
def test_a_probe_that_fails_or_is_slow_opens_it_anew(breaker, clock, counting, ending):
    open_it(breaker, clock)
    clock.now += 5
    if ending == "failure":
        fail(breaker, clock)
    else:
        succeed(breaker, clock, seconds=1.5)
    assert (breaker.state, counting.openings) == ("open", 2)
    clock.now += 4.9
    refuse(breaker, clock)
    clock.now += 0.1
    assert breaker.state == "half_open"


def test_a_probe_that_is_cancelled_leaves_room_for_another(breaker, clock):
    open_it(breaker, clock)
    clock.now += 5
    cancel(breaker, clock, seconds=0.1)
    assert (breaker.state, breaker.is_admitting) == ("half_open", True)


def test_a_try_that_began_before_it_opened_says_nothing_afterwards(breaker, clock):
    early = breaker.trial("a text")
    early.__enter__()
    open_it(breaker, clock)
    early.__exit__(None, None, None)
    assert breaker.state == "open"
    late = breaker.trial("a text")
    clock.now += 5
    with late:
        pass
    assert breaker.state == "closed"


@given(st.lists(st.tuples(st.sampled_from(["ok", "fail", "slow", "neutral"]), st.floats(0, 3))))
@example([("fail", 22.7), ("fail", 0.0), ("slow", 2.5590307402361265)])  # 5 s later, less what rounding takes away
def test_it_is_open_only_after_enough_failures_and_always_lets_a_probe_in_later(events):
    clock = Clock()
    breaker = Breaker(LIMITS, name="one:8000", on_open=lambda: None, clock=clock)
    failures_since_closed = 0
    for kind, pause in events:
        clock.now += pause
        if not breaker.is_admitting:
            assert failures_since_closed >= LIMITS.failures
            continue
        if kind == "ok":
            succeed(breaker, clock)
        elif kind == "slow":
            succeed(breaker, clock, seconds=1.5)
        else:
            fail(breaker, clock, is_teachers_fault=kind == "fail")
        failures_since_closed += kind in ("fail", "slow")
    clock.now += LIMITS.open_s
    assert breaker.is_admitting


def test_many_different_texts_refused_in_a_row_are_held_against_it(breaker, clock, counting):
    for number in range(LIMITS.window + LIMITS.failures - 2):
        fail(breaker, clock, is_teachers_fault=False, text=f"text {number}")
        assert breaker.state == "closed"
    fail(breaker, clock, is_teachers_fault=False, text="one more")
    assert (breaker.state, counting.openings) == ("open", 1)
    clock.now += LIMITS.open_s
    fail(breaker, clock, is_teachers_fault=False, text="a probe")
    assert (breaker.state, counting.openings) == ("open", 2)
    clock.now += LIMITS.open_s
    succeed(breaker, clock)
    assert breaker.state == "closed"


def test_one_text_refused_again_and_again_is_not(breaker, clock):
    for _ in range(20):
        fail(breaker, clock, is_teachers_fault=False)
    assert breaker.state == "closed"


def test_an_answer_ends_the_row_of_refusals(breaker, clock):
    for number in range(20):
        fail(breaker, clock, is_teachers_fault=False, text=f"text {number}")
        if number % (LIMITS.window - 1) == 0:
            succeed(breaker, clock)
    assert breaker.state == "closed"


def test_the_log_says_when_the_endpoint_goes_out_and_when_it_is_back_and_nothing_of_the_probes_between(breaker, clock, caplog):
    caplog.set_level(logging.INFO, logger="server.teacher.breaker")
    open_it(breaker, clock)
    for _ in range(3):
        clock.now += LIMITS.open_s
        fail(breaker, clock)
    clock.now += LIMITS.open_s
    succeed(breaker, clock)
    succeed(breaker, clock)
    assert [(record.levelname, record.getMessage(), record.endpoint) for record in caplog.records] == [
        ("WARNING", "teacher's endpoint failed or was slow too often, and is left alone", "one:8000"),
        ("INFO", "teacher's endpoint answers again", "one:8000"),
    ]
