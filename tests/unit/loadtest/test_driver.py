"""The driver against a server that misbehaves on request."""

import socket
from dataclasses import replace

import pytest

from loadtest.bench.driver import drive
from loadtest.bench.load import Closed, Load, Open


def load(arrivals, *, texts=1, warm_up_s=0.0, measure_s=0.5, drain_s=20.0) -> Load:
    return Load(arrivals, texts, warm_up_s, measure_s, drain_s)


def test_a_closed_loop_sends_the_texts_in_turn_and_counts_right_answers(scripted):
    measured = drive(scripted.target, ["a", "b", "c"], {}, load(Closed(1)))
    assert set(measured.outcomes) == {"200"}
    assert scripted.seen[:7] == ["a", "b", "c", "a", "b", "c", "a"]
    assert measured.texts_per_s == pytest.approx(measured.outcomes["200"] / 0.5, rel=0.5)
    assert measured.latency.count == measured.outcomes["200"]
    assert 0 < measured.latency.p50_s <= measured.latency.p99_s <= measured.latency.max_s < 0.6
    assert measured.windows_per_text == 1.0


def test_arrays_hold_neighbours_and_every_text_counts(scripted):
    measured = drive(scripted.target, list("abcdefg"), {}, load(Closed(1), texts=3))
    assert scripted.seen[:9] == list("abcdef" + "abc"), "what doesn't fill an array is left out"
    assert measured.texts_per_s == pytest.approx(3 * measured.outcomes["200"] / 0.5, rel=0.5)


def test_requests_end_as_what_they_are(scripted):
    measured = drive(scripted.target, ["good", "shed", "nan", "hang up"], {}, load(Closed(1)))
    assert set(measured.outcomes) == {"200", "503", "wrong", "lost"}
    assert measured.complaint == "scores that aren't finite probabilities"
    counts = measured.outcomes
    assert measured.latency.count == counts["200"] + counts["lost"], "a refusal is quick, and no answer"
    assert measured.texts_per_s < sum(counts.values()) / 0.5


def test_an_open_loop_sends_whatever_the_server_does(scripted):
    """Every request waits at the server, so a driver that waited for answers would have sent one."""
    measured = drive(scripted.target, ["wait"], {}, load(Open(60.0), measure_s=1.0, drain_s=0.2))
    assert measured.outcomes.keys() == {"unanswered"}
    assert 30 <= measured.outcomes["unanswered"] <= 100
    assert measured.texts_per_s == 0
    # Each has waited at least through the drain, and the first from the beginning.
    assert measured.latency.p50_s > 0.3
    assert measured.latency.max_s == pytest.approx(1.2, abs=0.5)


def test_arrivals_keep_their_rate_and_the_warm_up_is_not_counted(scripted):
    measured = drive(scripted.target, ["a"], {}, load(Open(100.0), warm_up_s=0.5, measure_s=1.0))
    assert set(measured.outcomes) == {"200"}
    assert 60 <= measured.outcomes["200"] <= 140
    assert len(scripted.seen) > measured.outcomes["200"] + 20
    assert measured.latency.count == measured.outcomes["200"]


def test_the_models_own_time_is_taken_off(scripted):
    alone_s = {1: 1_000.0}
    measured = drive(scripted.target, ["a", "b", "c"], alone_s, load(Closed(1)))
    assert measured.overhead_p50_s == pytest.approx(measured.latency.p50_s), "the server says that its model took no time"
    assert measured.beside_model_p50_s == pytest.approx(-1_000.0, abs=1.0), "only that text counts"


def test_a_server_that_is_not_there_is_said(scripted):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = replace(scripted.target, port=unused.getsockname()[1])
        with pytest.raises(OSError, match="refused"):
            drive(target, ["a"], {}, load(Closed(2)))
