"""Promises hold over many draws, are not vacuous, and p-values are what the textbooks say."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.cascade.aims import Aim
from distill.cascade.bands import is_escalated
from distill.cascade.choose import Target, choose
from distill.cascade.guarantees import controlled_risk, furthest_rejected, hoeffding_bentkus, selective_p_value
from distill.cascade.opinions import is_wrong, traffic_weights
from server.core.errors import ConfigurationError
from tests.unit.distill.cascade_world import C, world


def test_controlled_risk_counts_one_more_text_as_lost():
    assert controlled_risk(np.array([1, 0, 0, 0.0]), np.ones(4)) == pytest.approx(2 / 5)
    assert controlled_risk(np.array([1, 0.0]), np.array([1, 3.0])) == pytest.approx((1 + 3) / (4 + 3))


def test_controlled_risk_bounds_the_next_loss_over_many_draws():
    """A loss that falls along a grid of settings: uniform values above the setting. The bound is held, and nearly used."""
    rng, alpha, grid = np.random.default_rng(0), 0.1, np.linspace(0, 1, 101)
    risks = []
    for _ in range(800):
        values = rng.random(50)
        chosen = next(t for t in grid if controlled_risk((values > t).astype(float), np.ones(50)) <= alpha)
        risks.append(1 - chosen)
    assert alpha - 2 / 51 < np.mean(risks) <= alpha


def test_hoeffding_bentkus_by_hand():
    assert hoeffding_bentkus(0.0, 100, alpha=0.05) == pytest.approx(0.95**100)  # Hoeffding's, as e·0.95^100 is larger
    assert hoeffding_bentkus(0.06, 100, alpha=0.05) == 1.0
    assert hoeffding_bentkus(0.02, 500, alpha=0.05) < 0.01


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 500), st.floats(0.01, 0.99))
def test_p_values_are_probabilities_and_rise_with_the_mean(mean, n, alpha):
    p = hoeffding_bentkus(mean, n, alpha=alpha)
    assert 0 <= p <= 1
    assert p <= hoeffding_bentkus(min(1.0, mean + 0.1), n, alpha=alpha) + 1e-12


def test_a_p_value_at_the_boundary_rejects_no_more_often_than_it_says():
    rng, alpha = np.random.default_rng(0), 0.1
    p_values = [selective_p_value(rng.random(200) < alpha, np.ones(200), heaviest=1.0, alpha=alpha) for _ in range(3000)]
    assert np.mean(np.array(p_values) <= 0.1) <= 0.1


def test_weights_move_the_p_value_towards_the_traffic_they_stand_for():
    wrong = np.array([True] * 20 + [False] * 180)
    lighter = selective_p_value(wrong, np.where(wrong, 0.2, 1.0), heaviest=1.0, alpha=0.15)
    assert lighter < selective_p_value(wrong, np.ones(200), heaviest=1.0, alpha=0.15)
    assert selective_p_value(wrong[:0], np.ones(0), heaviest=1.0, alpha=0.15) == 1.0


def test_the_walk_stops_at_the_first_p_value_that_is_too_large():
    p = [0.9, 0.01, 0.02, 0.5, 0.001]
    assert furthest_rejected(p, [1], delta=0.1) == 2
    assert furthest_rejected(p, [0], delta=0.1) is None
    assert furthest_rejected(p, [1, 4], delta=0.1) == 4
    assert furthest_rejected(p, [1, 0, 0], delta=0.03) == 1, "two starts share delta: 0.015 each"


BIG = world(60_000, seed=99)


def risk_of(choice):
    """(P(wrong and not escalated), P(wrong | not escalated)) in a world of 60,000 texts."""
    kept = ~is_escalated(BIG.student, choice.block_at, choice.bands, BIG.keeps_block)
    wrong = is_wrong(BIG.student, BIG.labels, choice.block_at)
    return (wrong & kept).mean(), wrong[kept].mean()


def width(choice):
    """Of the first category's band; 1 holds every score."""
    low, high = choice.bands[0]
    return high - low


def test_the_joint_risk_is_held_in_expectation_and_not_by_asking_about_everything():
    alpha = 0.1
    promise = Target("joint-risk", alpha)
    risks = [risk_of(choose(world(400, seed=seed), Aim("best-f1"), promise, "unsure"))[0] for seed in range(25)]
    assert alpha / 2 < np.mean(risks) <= alpha + 2 * np.std(risks) / math.sqrt(25)


def test_the_selective_risk_is_held_in_all_but_delta_of_the_draws():
    alpha, delta = 0.3, 0.2
    promise = Target("selective-risk", alpha, delta)
    risks = [risk_of(choose(world(1000, seed=seed), Aim("best-f1"), promise, "unsure"))[1] for seed in range(25)]
    assert np.mean(np.array(risks) > alpha) <= delta
    assert np.mean(risks) > alpha / 2, "the promise is used, not kept by asking about everything"


def test_a_sample_without_the_rare_heavy_text_promises_nothing_of_it():
    """A text in 500 weighs 30 times the others and is always wrong: 5.7 % of the traffic; a third of the samples show none."""
    rng, alpha = np.random.default_rng(0), 0.05
    heavy = rng.random((300, 500)) < 0.002
    p_values = [selective_p_value(row, np.where(row, 30.0, 1.0), heaviest=30.0, alpha=alpha) for row in heavy]
    assert np.mean(np.array(p_values) <= 0.1) <= 0.1
    many = rng.random(20_000) < 0.002
    assert selective_p_value(many, np.where(many, 30.0, 1.0), heaviest=30.0, alpha=0.5) < 0.1, "no bound that rejects nothing"


def test_the_selective_risk_is_held_where_the_prior_lies_far_above_the_draws_share():
    """One harmful text in a hundred, which stands for thirty, and one in 33 of those that the student can't see."""

    def draw(n, seed):
        rng = np.random.default_rng(seed)
        harmful, labels, student = rng.random(n) < 0.01, np.zeros((n, C)), np.full((n, C), 0.001)
        labels[:, 0] = harmful
        seen = np.where(harmful, rng.uniform(0.2, 0.8, n), rng.uniform(0.001, 0.02, n))
        student[:, 0] = np.where(harmful & (rng.random(n) < 0.03), 0.003, seen)
        teacher = np.where(labels == 1, 0.95, 0.05) + rng.uniform(-0.04, 0.04, (n, C))
        weights = traffic_weights(labels, 0.3)
        return replace(world(n), student=student, teacher=teacher, labels=labels, fit_labels=labels, weights=weights)

    traffic, broken = draw(40_000, 999), 0
    for seed in range(12):
        try:
            choice = choose(draw(3000, seed), Aim("best-f1"), Target("selective-risk", 0.01, 0.1), "unsure")
        except ConfigurationError:
            continue  # nothing was promised
        kept = ~is_escalated(traffic.student, choice.block_at, choice.bands, traffic.keeps_block)
        wrong = is_wrong(traffic.student, traffic.labels, choice.block_at)
        broken += np.average(wrong[kept], weights=traffic.weights[kept]) > 0.01
    assert broken <= 1


def test_a_promise_that_so_few_texts_can_not_give_is_refused():
    with pytest.raises(ConfigurationError, match=r"can't promise a joint-risk of 0\.001"):
        choose(world(100), Aim("best-f1"), Target("joint-risk", 0.001), "unsure")
    with pytest.raises(ConfigurationError, match="can't promise a selective-risk"):
        choose(world(60), Aim("best-f1"), Target("selective-risk", 0.01), "unsure")
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        Target("joint-risk", 1.5)


def test_a_stricter_promise_escalates_more():
    dev = world(3000)
    widths = [width(choose(dev, Aim("best-f1"), Target("joint-risk", alpha), "unsure")) for alpha in (0.2, 0.1, 0.05, 0.02)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_the_promise_holds_where_texts_are_withheld_from_the_teacher():
    """A disguised text keeps its block, so its mistake is one that no band takes away."""
    dev = world(2000, disguised=1.0)
    assert width(choose(dev, Aim("best-f1"), Target("joint-risk", 0.3), "unsure")) < 1
    with pytest.raises(ConfigurationError, match="can't promise"):
        choose(dev, Aim("best-f1"), Target("joint-risk", 0.02), "unsure")
    assert width(choose(world(2000), Aim("best-f1"), Target("joint-risk", 0.02), "unsure")) < 1


def test_a_prior_makes_the_texts_stand_for_other_traffic():
    labels = np.array([[1.0, 0], [0, 0], [0, np.nan], [np.nan, np.nan]])
    weights = traffic_weights(labels, 0.1)
    assert weights.mean() == pytest.approx(1)
    assert weights[0] / weights.sum() == pytest.approx(0.1)
    assert traffic_weights(labels, None).tolist() == [1, 1, 1, 1]
    with pytest.raises(ConfigurationError, match="prior"):
        traffic_weights(labels[1:], 0.1)
