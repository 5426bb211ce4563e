"""Near duplicates: folded, unless they teach different things."""

from collections import Counter

import numpy as np

from distill.mining.fold import SIMILAR, NearTexts, fold, near_any, signatures
from tests.unit.distill.mining_world import candidate, unknown, values

LONG = "the man on the corner told everybody in the street that he would come back with his brothers tomorrow"


def test_near_duplicates_are_folded_into_the_best_ranked_and_counted():
    left_out = Counter()
    kept, _ = fold(
        [
            candidate(LONG + "!", reason="sampled"),
            candidate(LONG.upper(), reason="overturned"),
            candidate(LONG + " or so", reason="near_threshold", copies=3),
            candidate("what a lovely morning"),
        ],
        left_out,
    )
    assert [(c.text, c.copies) for c in kept] == [(LONG.upper(), 5), ("what a lovely morning", 1)]
    assert left_out == {"near_duplicate": 2}


def test_what_the_teacher_may_not_clear_stays_so_when_it_is_folded():
    ((kept,), _) = fold([candidate(LONG, reason="overturned"), candidate(LONG + "!", teacher_may_clear=False)], Counter())
    assert not kept.teacher_may_clear


def test_a_minimal_pair_is_kept_and_shares_its_lot():
    left_out = Counter()
    pair = [candidate(LONG), candidate(LONG.replace("brothers", "brother"), labels=values(violence=1))]
    kept, lots = fold([*pair, candidate("something else entirely")], left_out)
    assert len(kept) == 3
    assert left_out == {}
    lot = {c.text: lot for c, lot in zip(kept, lots, strict=True)}
    assert lot[pair[0].text] == lot[pair[1].text] != lot["something else entirely"]
    assert all(0 <= value < 1 for value in lots)


def test_what_links_two_groups_makes_them_one():
    """The two ends are no near duplicates, and the middle, which is one of both, comes last."""
    ends = [candidate("a few men " + LONG[10:]), candidate(LONG[:-9] + " at night")]
    assert len(set(fold(ends, Counter())[1])) == 2, "no near duplicates"
    middle = candidate(LONG, reason="sampled", role="assistant")
    lots = fold([*ends, middle], Counter())[1]
    assert len(set(lots)) == 1
    assert lots[0] == min(fold([one], Counter())[1][0] for one in (*ends, middle))


def test_near_duplicates_are_found_down_to_the_threshold():
    rng = np.random.default_rng(0)
    words = LONG.split()
    firsts, seconds = [], []
    for _ in range(1000):
        first = rng.choice(words, rng.integers(15, 60)).tolist()
        second = [rng.choice(words) if rng.random() < 0.03 else word for word in first]
        firsts.append(" ".join(first))
        seconds.append(" ".join(second))
    index, found = NearTexts(), []
    for place, pair in enumerate(zip(signatures(firsts, doing="1"), signatures(seconds, doing="2"), strict=True)):
        if SIMILAR <= pair[0].jaccard(pair[1]) < SIMILAR + 0.1:
            index.add(place, pair[0])
            found.append(place in index.near(pair[1]))
    assert len(found) > 100
    assert np.mean(found) > 0.98


def test_the_teachers_answer_counts_as_an_opinion():
    teacher = {"source": "teacher", "labels": unknown()}
    yes, no = (candidate(LONG + end, answers=values(toxicity=score), **teacher) for end, score in ((".", 0.9), ("!", 0.2)))
    assert len(fold([yes, no], Counter())[0]) == 2
    assert len(fold([yes, candidate(LONG, answers=values(hate=0.1), **teacher)], Counter())[0]) == 1


def test_of_the_very_same_text_the_better_ranked_opinion_holds():
    left_out = Counter()
    person = candidate("ok", labels=np.nan_to_num(values()))
    teacher = candidate("ok", source="teacher", reason="disagreeing", labels=unknown(), answers=values(toxicity=0.9))
    kept, _ = fold([teacher, person], left_out)
    assert [c.source for c in kept] == ["moderator"]
    assert left_out == {"near_duplicate": 1}


def test_a_person_who_confirmed_the_verdict_outranks_a_teacher_who_disagrees():
    person = candidate("ok", reason="sampled", labels=values(toxicity=1))
    teacher = candidate("ok", source="teacher", reason="disagreeing", labels=unknown(), answers=values(toxicity=0.1))
    ((kept,), _) = fold([teacher, person], Counter())
    assert (kept.source, kept.reason, kept.copies) == ("moderator", "disagreeing", 2)
    np.testing.assert_array_equal(kept.labels, values(toxicity=1))


def test_roles_are_not_mixed():
    assert len(fold([candidate(LONG), candidate(LONG, role="assistant")], Counter())[0]) == 2


def test_lots_do_not_depend_on_the_company():
    alone = fold([candidate(LONG)], Counter())[1]
    assert fold([candidate("first", reason="overturned"), candidate(LONG, reason="sampled")], Counter())[1][1:] == alone


def test_what_is_near_a_held_out_text_is_found():
    held = near_any([candidate("short one"), candidate(LONG), candidate("another")], ["no", LONG[:-3], "another"])
    assert held == {1, 2}
