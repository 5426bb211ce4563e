"""A budget is never overspent, and is spent where people's labels say that it does most."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from distill.cascade.bands import FLOORS, asked, bands_at, is_escalated, pooled, served_scores
from distill.cascade.budget import best_bands, symmetric_bands
from distill.cascade.choose import choose_without_teacher
from distill.cascade.opinions import is_wrong, traffic_weights
from distill.metrics import average_precision
from server.core.taxonomy import CATEGORIES
from tests.unit.distill.cascade_world import C, world

BLOCK_AT = arrays(float, C, elements=st.integers(1, 999).map(lambda n: n / 1000))
EVERYWHERE = np.ones(C, dtype=bool)
HALF = np.full(C, 0.5)


def share(opinions, block_at, bands):
    return np.average(is_escalated(opinions.student, block_at, bands, opinions.keeps_block), weights=opinions.weights)


def served(opinions, bands, ask_about="all"):
    questions = asked(opinions.student, HALF, bands, opinions.keeps_block, ask_about)
    return served_scores(opinions.student, pooled(opinions.student, opinions.teacher, 0.5), questions)


def wrong(opinions, bands):
    return np.average(is_wrong(served(opinions, bands), opinions.labels, HALF), weights=opinions.weights)


def au_prc(opinions, bands):
    return average_precision(served(opinions, bands).ravel(), opinions.labels.ravel(), np.repeat(opinions.weights, C))


def around(opinions, budget, block_at=HALF):
    scores, keeps, weights = opinions.student, opinions.keeps_block, opinions.weights
    return symmetric_bands(scores, block_at, EVERYWHERE, keeps, budget=budget, weights=weights)


def best(opinions, budget, objective):
    return best_bands(opinions, HALF, EVERYWHERE, 0.5, budget=budget, objective=objective, ask_about="all")


@settings(deadline=None, max_examples=30)
@given(st.floats(0.001, 0.9), st.integers(0, 5), BLOCK_AT)
def test_a_budget_is_never_exceeded_and_the_next_band_would(budget, seed, block_at):
    weights = np.random.default_rng(seed).random(300) + 0.1
    opinions = replace(world(300, seed=seed, disguised=0.1), weights=weights)
    bands = around(opinions, budget, block_at)
    assert share(opinions, block_at, bands) <= budget
    nested = [bands_at(floor, block_at, EVERYWHERE) for floor in FLOORS]
    wider = nested[max(i for i, other in enumerate(nested) if (other == bands).all()) + 1 :]
    assert not wider or share(opinions, block_at, wider[0]) > budget


@pytest.mark.parametrize("objective", ["verdicts", "ranking"])
@pytest.mark.parametrize("budget", [0.01, 0.05, 0.2])
def test_the_best_bands_keep_to_the_budget_and_are_no_worse_than_those_around_the_threshold(objective, budget):
    dev = world(1500, seed=3, disguised=0.05)
    bands = best(dev, budget, objective)
    assert share(dev, HALF, bands) <= budget
    if objective == "verdicts":
        assert wrong(dev, bands) <= wrong(dev, around(dev, budget))
    else:
        assert au_prc(dev, bands) >= au_prc(dev, around(dev, budget))


def test_where_harm_is_rarer_than_scores_say_blocks_are_what_is_asked_about():
    dev, test = (world(4000, seed=seed) for seed in (1, 2))
    rare, others = (replace(w, weights=traffic_weights(w.labels, 0.02)) for w in (dev, test))
    bands = best(rare, 0.05, "verdicts")
    assert bands[0, 0] > around(rare, 0.05)[0, 0]
    assert bands[0, 1] > around(rare, 0.05)[0, 1]
    assert wrong(others, bands) < wrong(others, around(rare, 0.05)), "on texts that had no part in the choice"


def test_a_ranking_is_made_at_its_top():
    dev, test = (world(4000, seed=seed) for seed in (1, 2))
    bands = best(dev, 0.05, "ranking")
    assert bands[0, 1] > around(dev, 0.05)[0, 1]
    assert au_prc(test, bands) > au_prc(test, around(dev, 0.05))


def test_where_no_block_may_be_lifted_bands_stay_around_the_threshold():
    dev = world(1500, seed=3)
    strict = replace(dev, keeps_block=np.ones(len(dev), dtype=bool))
    assert (best(strict, 0.05, "verdicts") == around(strict, 0.05)).all(), "the upper ends make no difference"


def test_without_a_teacher_the_budget_is_spent_around_the_best_f1():
    opinions = world(4000)
    choice = choose_without_teacher(opinions.student, opinions.labels, budget=0.1)
    escalated = is_escalated(opinions.student, choice.block_at, choice.bands, opinions.keeps_block).mean()
    assert 0.08 < escalated <= 0.1
    numbers = choice.policy_numbers()
    assert list(numbers["block_at"]) == list(CATEGORIES)
    assert all(low < numbers["block_at"][name] < high for name, (low, high) in numbers["unsure"].items())
    assert numbers["unsure"]["hate"] == pytest.approx(choice.bands[1])
