"""Which calls count where, on calls with made-up times."""

import json

import pytest
from scripted_server import GOOD_RESULT

from loadtest.bench.assess import Clock, assess
from loadtest.bench.connections import UNANSWERED, Call
from loadtest.bench.dialects import NATIVE
from loadtest.bench.load import Closed, Load, Open

CLOCK = Clock(began_at=100.0, ended_at=110.0, given_up_at=115.0, driver_cpu_s=1.0, server_cpu_s=15.0)
OPEN = Load(Open(1.0), 1, 0.0, 10.0, 5.0)
CLOSED = Load(Closed(1), 1, 0.0, 10.0, 5.0)


def call(intended_at: float, sent_at: float, done_at: float | None, *, windows: int = 1, infer_s: float = 0.5) -> Call:
    made = Call(0, intended_at)
    made.sent_at = sent_at
    if done_at is not None:
        made.done_at, made.outcome = done_at, "200"
        answer = {"results": [GOOD_RESULT | {"windows": windows}], "timings": {"infer_s": infer_s}}
        made.body = json.dumps(answer).encode()
    return made


def test_open_loop_latency_is_from_the_intended_time_not_from_the_sending():
    measured = assess(OPEN, NATIVE, [call(101.0, 104.0, 105.0)], CLOCK, {0: 1.0})
    assert measured.latency.p50_s == pytest.approx(4.0)
    assert measured.lateness_p99_s == pytest.approx(3.0)
    assert measured.overhead_p50_s == pytest.approx(3.5)
    assert measured.beside_model_p50_s == pytest.approx(3.0)


def test_an_open_loop_call_counts_by_when_it_should_have_been_sent_and_its_answer_by_when_it_came():
    before = call(99.0, 99.0, 101.0)
    within = call(102.0, 102.0, 103.0)
    late = call(109.0, 109.0, 112.0)
    measured = assess(OPEN, NATIVE, [before, within, late], CLOCK, {})
    assert measured.outcomes == {"200": 2}
    assert measured.latency.max_s == pytest.approx(3.0)
    assert measured.texts_per_s == pytest.approx(2 / 10), "of the first two"


def test_a_closed_loop_call_counts_by_when_it_ended():
    measured = assess(CLOSED, NATIVE, [call(99.0, 99.0, 101.0), call(109.0, 109.0, 112.0)], CLOCK, {})
    assert measured.outcomes == {"200": 1}
    assert measured.latency.max_s == pytest.approx(2.0)


@pytest.mark.parametrize("load", [OPEN, CLOSED])
def test_what_was_never_answered_counts_for_as_long_as_it_was_waited_for(load):
    measured = assess(load, NATIVE, [call(105.0, 105.0, None)], CLOCK, {})
    assert measured.outcomes == {UNANSWERED: 1}
    assert measured.latency.p50_s == pytest.approx(10.0)
    assert measured.texts_per_s == 0


def test_a_call_that_was_never_sent_is_late_by_all_of_its_wait():
    measured = assess(OPEN, NATIVE, [call(105.0, float("nan"), None)], CLOCK, {})
    assert measured.lateness_p99_s == pytest.approx(10.0)


def test_cpu_is_in_cores_and_per_text():
    measured = assess(OPEN, NATIVE, [call(102.0, 102.0, 103.0)], CLOCK, {})
    assert (measured.driver_cpu, measured.server_cpu) == (pytest.approx(0.1), pytest.approx(1.5))
    assert measured.server_cpu_s_per_text == pytest.approx(15.0)


def test_texts_of_several_windows_say_nothing_of_the_overhead():
    measured = assess(OPEN, NATIVE, [call(102.0, 102.0, 103.0, windows=3)], CLOCK, {0: 0.1})
    assert (measured.overhead_p50_s, measured.beside_model_p50_s, measured.windows_per_text) == (None, None, 3.0)
