"""The ceiling: every window once in batches within their bounds, and the best of all settings on top."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.artifact import Artifact
from loadtest.bench.ceiling import Rate, Search, Setting, form_batches, measure_ceiling, remeasure, settings
from loadtest.bench.ort_runs import Model, run_all
from loadtest.machine import usable_cores
from loadtest.texts import generate_texts

SHIPPED = Artifact(Path(__file__).resolve().parents[3] / "server" / "artifacts" / "default")
SETTING = Setting(sessions=2, threads=1, order="arrival", max_items=4, max_padded_tokens=64)
SEARCH = Search(max_items=(1, 4), scan_texts=8, final_s=0.05, alone_texts=6)

windows = st.lists(st.lists(st.just(1), min_size=1, max_size=100), max_size=40)


@given(windows, st.sampled_from(["sorted", "arrival"]), st.integers(1, 9), st.integers(1, 300))
def test_every_window_is_in_one_batch_within_the_bounds(windows, order, max_items, max_padded_tokens):
    setting = replace(SETTING, order=order, max_items=max_items, max_padded_tokens=max_padded_tokens)
    batches = form_batches(windows, setting)
    flat = [window for batch in batches for window in batch]
    assert sorted(map(len, flat)) == sorted(map(len, windows))
    for batch in batches:
        assert 1 <= len(batch) <= max_items
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= max_padded_tokens
    if order == "arrival":
        assert flat == windows


def test_sorting_puts_like_lengths_together():
    lengths = [3, 60, 4, 61, 5, 62]
    batches = form_batches([[1] * length for length in lengths], replace(SETTING, order="sorted", max_padded_tokens=512))
    assert [[len(window) for window in batch] for batch in batches] == [[62, 61, 60, 5], [4, 3]]


def test_the_settings_are_both_layouts_in_both_orders():
    found = list(settings(2, (1, 8)))
    assert {(setting.sessions, setting.threads) for setting in found} == {(2, 1), (1, 2)}
    assert {setting.order for setting in found} == {"sorted", "arrival"}
    assert len(found) == len(set(found)) == 2 * 2 * 3
    assert {(setting.sessions, setting.threads) for setting in settings(1, (8,))} == {(1, 1)}


def test_every_call_is_run_once_and_a_failing_one_is_raised():
    model = Model(SHIPPED.model)
    feeds = model.feeds([[101, 7592, 102], [101, 102]])
    assert feeds["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    ran = run_all(model.sessions(2, threads=1), [feeds] * 3)
    assert ran.wall_s > 0
    assert ran.cpu_s > 0
    with pytest.raises(Exception, match="input_ids"):
        run_all(model.sessions(2, threads=1), [feeds, {}])


def test_the_shipped_artefact_has_a_ceiling():
    texts = generate_texts(1)[:16]
    ceiling = measure_ceiling(SHIPPED.model, SHIPPED, texts, SEARCH)
    rates = [rate.texts_per_s for rate in ceiling.families]
    assert rates == sorted(rates, reverse=True)
    assert ceiling.best.texts_per_s == rates[0] > 0
    assert {rate.setting.family for rate in ceiling.families} == {
        (threads, order) for threads in {1, usable_cores()} for order in ("sorted", "arrival")
    }
    tokens_per_text = ceiling.best.tokens_per_s / ceiling.best.texts_per_s
    assert all(rate.tokens_per_s / rate.texts_per_s == pytest.approx(tokens_per_text) for rate in ceiling.families)
    assert 0 < ceiling.with_tokenising_texts_per_s < ceiling.best.texts_per_s
    assert ceiling.windows >= 16
    assert set(ceiling.alone_s) <= set(range(6))
    assert all(seconds > 0 for seconds in ceiling.alone_s.values())
    again = remeasure(SHIPPED.model, SHIPPED, texts, ceiling.best, 0.05)
    assert isinstance(again, Rate)
    assert again.setting == ceiling.best.setting
