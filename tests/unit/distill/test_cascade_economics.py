"""What a cascade is worth: figures against toys with known answers, orders that must hold, and the files that come out."""

import json
from dataclasses import replace

import numpy as np
import pytest

from distill.cascade.aims import Aim, Threshold
from distill.cascade.choose import Choice, Target, choose, choose_weight, helped_categories
from distill.cascade.operating_points import RATES, Bench, Prices, gap_closed, mended, rate_bands
from distill.cascade.opinions import Opinions, is_wrong, traffic_weights
from distill.cascade.pictures import reliability_bins
from distill.cascade.report import economics, save, table, with_numbers
from distill.cascade.router import bootstrap_lead, features, fit_router
from distill.cascade.selective import risk_coverage
from server.core.errors import ConfigurationError
from server.core.policy import load_policies
from server.core.taxonomy import CATEGORIES
from tests.unit.distill.cascade_world import C, world

POLICY = load_policies()["default"]
BUDGET = Target("budget", 0.1)


@pytest.fixture(scope="module")
def worlds():
    return world(1500, seed=1, unknown=0.3, disguised=0.05), world(1500, seed=2, unknown=0.3, disguised=0.05)


@pytest.fixture(scope="module")
def result(worlds):
    return economics(
        *worlds, aim=Aim("best-f1"), target=BUDGET, policy=POLICY, prices=Prices(0.001, 0.1, 0.02, 0.036), with_router=True
    )


def point(result, name):
    (found,) = (p for p in result.points if p.name == name)
    return found


def au_prc(result, name):
    return point(result, name).quality["pooled"]["au_prc"]


def test_a_gap_is_closed_by_the_share_of_the_way():
    assert gap_closed(0.6, 0.8, 0.75) == {
        "student": 0.6, "teacher": 0.8, "cascade": 0.75, "closed_gap": pytest.approx(0.75), "is_met": False
    }  # fmt: skip
    assert gap_closed(0.6, 0.8, 0.77)["is_met"]
    assert gap_closed(0.6, 0.8, 0.9)["closed_gap"] == pytest.approx(1.5)
    assert gap_closed(0.8, 0.6, 0.82) == {"student": 0.8, "teacher": 0.6, "cascade": 0.82, "closed_gap": None, "is_met": True}
    assert not gap_closed(0.8, 0.6, 0.8)["is_met"]
    assert gap_closed(None, 0.6, 0.8)["is_met"] is None


def test_a_cascade_lies_between_the_student_and_the_oracle_and_spends_what_it_was_given(result):
    quality = [au_prc(result, name) for name in ("student", *(f"cascade@{rate:g}" for rate in RATES))]
    assert (np.diff(quality) > -0.001).all(), "with so good a teacher questions help"
    assert quality[-1] > quality[0] + 0.004
    best = au_prc(result, "oracle")
    for p in result.points:
        assert p.quality["pooled"]["au_prc"] <= best + 1e-12
        for name in set(CATEGORIES) - {"jailbreak"}:  # too rare in this world for a figure
            ideal = point(result, "oracle").quality["categories"][name]["au_prc"]
            assert p.quality["categories"][name]["au_prc"] <= ideal + 1e-12
    for rate in RATES:
        assert point(result, f"cascade@{rate:g}").escalated == pytest.approx(rate, abs=0.3 * rate + 0.01)
    assert result.record["dev"]["escalated"] <= 0.1
    assert point(result, "student").escalated == 0
    assert point(result, "teacher").escalated == 1
    assert point(result, "chosen").quality == point(result, "cascade@0.1").quality, "the budget was ten percent"


def test_the_gap_in_the_report_is_that_of_its_points(result):
    gap = result.record["gap_target"]["categories"]["hate"]
    student, teacher, cascade = (
        point(result, name).quality["categories"]["hate"]["au_prc"] for name in ("student", "teacher", "cascade@0.1")
    )
    assert gap["closed_gap"] == pytest.approx((cascade - student) / (teacher - student))
    assert result.record["gaps"]["0.1"]["categories"]["hate"] == gap


def test_calibration_is_told_for_both_on_the_same_known_labels(result, worlds):
    test = worlds[1]
    known = ~np.isnan(test.labels[:, 1])
    record = result.record["calibration"]["hate"]
    assert record["labels"] == known.sum()
    assert record["positive_share"] == pytest.approx(test.labels[known, 1].mean())
    assert record["student_mean"] == pytest.approx(test.student[known, 1].mean())
    assert record["teacher_mean"] == pytest.approx(test.teacher[known, 1].mean())
    assert record["teacher_ece"] < record["student_ece"]


def test_costs_are_core_seconds_at_a_price(result):
    assert point(result, "student").cost_per_1000_texts == pytest.approx(0.001 * 1000 * 0.036 / 3600)
    assert point(result, "teacher").cost_per_1000_texts == pytest.approx((0.1 + 7 * 0.02) * 1000 * 0.036 / 3600)
    assert point(result, "both").cost_per_1000_texts == pytest.approx((0.001 + 0.1 + 7 * 0.02) * 1000 * 0.036 / 3600)
    cascade = point(result, "chosen")
    assert cascade.questions > 1
    core_s = 0.001 + cascade.escalated * (0.1 + (cascade.questions - 1) * 0.02)
    assert cascade.cost_per_1000_texts == pytest.approx(core_s * 1000 * 0.036 / 3600)


def test_wrong_verdicts_are_counted_by_hand():
    labels = np.full((4, C), 0.0)
    labels[0, 0] = labels[1, 1] = 1.0
    labels[3] = np.nan
    student = np.full((4, C), 0.1)
    student[0, 0] = student[2, 2] = student[3, 0] = 0.9  # one hit, one miss, one false block, one that nobody can judge
    assert is_wrong(student, labels, np.full(C, 0.5)).tolist() == [False, True, True, False]
    toy = Opinions(
        student, np.where(labels == 1, 0.9, 0.1), labels, labels, np.ones(4), np.ones(4, int), np.zeros(4, bool),
        np.zeros((4, 32), np.uint8),
    )  # fmt: skip
    assert mended(toy, toy.teacher, np.full(C, 0.5)).tolist() == [False, True, True, False]
    choice = Choice((Threshold(0.5, is_met=True),) * C, np.ones(C, dtype=bool), np.array([[0.45, 0.55]] * C))
    bench = Bench(toy, choice, with_numbers(POLICY, choice), None)
    alone = bench.student()
    assert (alone.wrong, alone.missed, alone.false_blocks) == (pytest.approx(2 / 3), 0.5, 1.0)
    assert bench.teacher().wrong == 0
    assert bench.oracle().escalated == 0.5
    assert alone.cost_per_1000_texts is None


def test_a_category_in_which_the_teacher_is_worse_is_not_asked_about(worlds):
    dev, _ = worlds
    teacher = dev.teacher.copy()
    teacher[:, 1] = np.random.default_rng(0).random(len(dev))
    choice = choose(replace(dev, teacher=teacher), Aim("best-f1"), BUDGET, "unsure")
    assert choice.helped.tolist() == [True, False, *[True] * 6]
    assert choice.bands[1, 0] == choice.bands[1, 1]
    assert choice.bands[0, 0] < choice.bands[0, 1]


def test_the_weight_is_the_teachers_share_of_what_is_known():
    """Noise in log-odds of variances 1 and 4 on top of the truth: the precisions are 4 to 1, whoever the noisy one is."""
    for student_noise, teacher_noise, weight in ((2.0, 1.0, 0.8), (1.0, 2.0, 0.2), (1.5, 1.5, 0.5)):
        opinions = world(4000, student_noise=student_noise, teacher_noise=teacher_noise)
        assert choose_weight(opinions) == pytest.approx(weight, abs=0.06)


def test_two_independent_opinions_are_better_than_either():
    dev, test = (world(3000, seed=seed, student_noise=1.5, teacher_noise=1.5) for seed in (1, 2))
    result = economics(dev, test, aim=Aim("best-f1"), target=BUDGET, policy=POLICY, prices=None, with_router=False)
    assert au_prc(result, "both") > max(au_prc(result, "student"), au_prc(result, "teacher")) + 0.02
    by_setting = {(entry["ask_about"], entry["teacher_weight"] == 1.0): entry for entry in result.record["otherwise"]}
    assert len(by_setting) == 4
    assert by_setting["all", False]["au_prc"] > by_setting["all", True]["au_prc"], "together, not the teacher's word alone"
    assert by_setting["all", False]["au_prc"] > by_setting["unsure", False]["au_prc"], "who is asked may say all they know"
    assert by_setting["unsure", False]["questions"] < by_setting["all", False]["questions"] == C


def test_a_useless_teacher_has_no_weight_and_is_never_asked(worlds):
    noise = np.random.default_rng(0).random(worlds[0].student.shape)
    useless = [replace(w, teacher=noise) for w in worlds]
    assert choose_weight(useless[0]) == 0
    assert not helped_categories(useless[0], 0.0).any()
    with pytest.raises(ConfigurationError, match="no joint-risk can be promised: on these texts the teacher"):
        choose(useless[0], Aim("best-f1"), Target("joint-risk", 0.05), "unsure")
    result = economics(*useless, aim=Aim("best-f1"), target=BUDGET, policy=POLICY, prices=None, with_router=False)
    assert point(result, "cascade@0.2").escalated == 0
    assert au_prc(result, "cascade@0.2") == au_prc(result, "student") > au_prc(result, "teacher")
    assert result.record["gap_target"]["pooled"]["is_met"] is False
    assert "cost" in table(result)


def test_a_prior_of_little_harm_moves_the_bands_and_still_spends_the_budget(worlds):
    rare = [replace(w, weights=traffic_weights(w.labels, 0.05)) for w in worlds]
    choice = choose(rare[0], Aim("best-f1"), BUDGET, "unsure")
    often, seldom = (rate_bands(w, choice, "verdicts", "unsure")[0.05] for w in (worlds[0], rare[0]))
    assert (often != seldom).any()
    chosen = Bench(rare[1], choice, with_numbers(POLICY, choice), None).cascade("chosen", choice.bands)
    unweighted = Bench(worlds[1], choice, with_numbers(POLICY, choice), None).cascade("chosen", choice.bands)
    assert chosen.escalated == pytest.approx(0.1, abs=0.03)
    assert chosen.escalated != unweighted.escalated
    assert chosen.quality["pooled"]["au_prc"] < unweighted.quality["pooled"]["au_prc"], "rare harm is harder to rank first"
    assert chosen.quality["pooled"]["positives"] == unweighted.quality["pooled"]["positives"]


def test_the_area_under_the_risk_coverage_curve_by_hand():
    curve = risk_coverage(np.array([0.1, 0.4, 0.2, 0.3]), np.array([False, True, True, False]), np.ones(4))
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk.tolist() == [0, 1 / 2, 1 / 3, 1 / 2]
    assert curve.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert curve.e_aurc == pytest.approx(curve.aurc - (0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert curve.augrc == pytest.approx((0 + 1 / 4 + 1 / 4 + 2 / 4) / 4)
    assert curve.thinned(2) == [(0.25, 0.0), (1.0, 0.5)]


def test_reliability_bins_leave_the_unknown_out():
    scores, labels = np.linspace(0, 1, 100), np.repeat([0.0, 1.0], 50)
    labels[0] = np.nan
    means, frequencies = reliability_bins(scores, labels)
    assert len(means) == 10
    assert frequencies[0] == 0
    assert frequencies[-1] == 1
    assert means == sorted(means)


def test_how_much_of_the_labelled_traffic_is_harmful_is_said(worlds):
    dev, test = (replace(w, labels=w.labels.copy()) for w in worlds)
    for w in (dev, test):
        w.labels[np.flatnonzero(~(w.labels == 1).any(axis=1))[::2]] = np.nan
    dev, test = (replace(w, weights=traffic_weights(w.labels, 0.2)) for w in (dev, test))
    result = economics(dev, test, aim=Aim("best-f1"), target=BUDGET, policy=POLICY, prices=None, with_router=False)
    mix = result.record["test"]
    assert mix["harmful"] == pytest.approx(0.2)
    assert mix["harmful_of_labelled"] == pytest.approx(0.2 / (0.2 + 0.8 / 2), abs=0.01)
    student = point(result, "student")
    wrong = mix["harmful_of_labelled"] * student.missed + (1 - mix["harmful_of_labelled"]) * student.false_blocks
    assert wrong == pytest.approx(student.wrong), "the mix that quality is of"
    assert f"harmful: 20.0% of the traffic, {mix['harmful_of_labelled']:.1%} of its labelled texts" in table(result)


def test_texts_of_equal_doubt_have_no_order():
    rng = np.random.default_rng(0)
    doubt, wrong, weights = rng.integers(0, 4, 500) / 4, rng.random(500) < 0.3, rng.choice([0.5, 2.0], 500)
    curve = risk_coverage(doubt, wrong, weights)
    for order in (rng.permutation(500), np.argsort(wrong, kind="stable"), np.argsort(~wrong, kind="stable")):
        other = risk_coverage(doubt[order], wrong[order], weights[order])
        assert (other.aurc, other.e_aurc, other.augrc) == pytest.approx((curve.aurc, curve.e_aurc, curve.augrc), abs=1e-12)
        np.testing.assert_allclose(other.risk, curve.risk)
    first = doubt == 0
    assert curve.risk[0] == pytest.approx(np.average(wrong[first], weights=weights[first]))
    assert curve.risk[-1] == pytest.approx(np.average(wrong, weights=weights))


def test_a_router_wins_where_doubt_is_a_poor_guide():
    """Long texts: the student is sure and wrong there, and the teacher is right. Length tells, doubt doesn't."""
    worlds = [world(1500, seed=seed, student_noise=0.2) for seed in (1, 2)]
    for w in worlds:
        is_long = w.tokens > 270
        w.student[is_long] = 0.001
    result = economics(*worlds, aim=Aim("best-f1"), target=BUDGET, policy=POLICY, prices=None, with_router=True)
    (entry,) = (entry for entry in result.record["router"] if entry["rate"] == 0.1)
    assert entry["wins"]
    assert entry["lead"] > 0.02
    assert entry["interval"][0] <= entry["lead"] <= entry["interval"][1]
    assert entry["router"]["escalated"] == pytest.approx(0.1, abs=0.03)


def test_a_router_learns_from_a_text_as_much_as_the_traffic_that_it_stands_for():
    """A weight of nine is as good as being there nine times."""
    dev = world(1200, seed=3, base=-4.0)
    heavy = np.arange(len(dev)) % 8 == 0
    dev.teacher[heavy] = 1 - dev.student[heavy]
    choice = choose(dev, Aim("best-f1"), BUDGET, "unsure")
    weighted = fit_router(replace(dev, weights=np.where(heavy, 9.0, 1.0)), choice, RATES)
    repeated = fit_router(dev.take(np.repeat(np.arange(len(dev)), np.where(heavy, 9, 1))), choice, RATES)
    plain = fit_router(dev, choice, RATES)
    ours, theirs, others = (router.model.predict_proba(features(dev, choice))[:, 1] for router in (weighted, repeated, plain))
    assert np.abs(ours - theirs).max() < 0.02
    assert np.abs(ours - others).max() > 0.1
    for rate in RATES:
        np.testing.assert_array_equal(weighted.categories[rate], repeated.categories[rate])
    assert any((weighted.categories[rate] != plain.categories[rate]).any() for rate in RATES)


def test_without_mistakes_to_learn_from_there_is_no_router():
    dev = world(100, student_noise=0.0, teacher_noise=0.0)
    assert fit_router(dev, choose(dev, Aim("best-f1"), BUDGET, "unsure"), RATES) is None


def test_equal_scores_have_no_lead():
    dev = world(300)
    assert bootstrap_lead(dev.student, dev.student, dev.labels, seed=0) == (0, 0, 0)


def test_record_table_and_pictures(result, worlds, tmp_path):
    save(result, worlds[1], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "cascade.json").read_text()) == json.loads(json.dumps(result.record))
    for name in ("quality", "risk_coverage", "reliability"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    lines = table(result).splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:]
    assert names == [
        "student",
        *(f"cascade@{r:g}" for r in RATES),
        "chosen",
        "both",
        "teacher",
        "oracle",
        *(f"router@{r:g}" for r in RATES),
    ]
    assert lines[-1].startswith("closed gap at 10% escalated: pooled ")
