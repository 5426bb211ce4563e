"""Which candidates are taken: failures first, balanced over categories and polarity, within the bound."""

from collections import Counter

import numpy as np

from distill.mining.choose import FEW, choose
from tests.unit.distill.mining_world import candidate, unknown, values

HARMLESS = np.zeros(8, dtype=np.float32)


def test_failures_come_first_whatever_their_number():
    reasons = ["sampled", "near_threshold", "escalated", "disagreeing", "failed", "overturned"]
    candidates = [candidate(f"{reason} {i}", reason=reason) for i in range(2) for reason in reasons]
    chosen = choose(candidates, 5, Counter())
    assert [candidates[i].reason for i in chosen] == ["overturned", "overturned", "failed", "failed", "disagreeing"]


def test_a_flood_of_one_kind_does_not_drown_the_rest():
    flood = [candidate(f"false alarm {i}", labels=HARMLESS) for i in range(100)]
    few = [candidate(f"threat {i}", labels=values(violence=1)) for i in range(3)]
    other = [candidate(f"insult {i}", labels=values(toxicity=1)) for i in range(50)]
    candidates = flood + few + other
    taken = Counter(candidates[i].text.split()[0] for i in choose(candidates, 23, Counter()))
    assert taken == {"threat": 3, "false": 10, "insult": 10}


def test_balance_counts_what_stronger_reasons_took():
    strong = [candidate(f"strong {i}", labels=values(hate=1)) for i in range(4)]
    weak = [candidate(f"weak hate {i}", labels=values(hate=1), reason="sampled") for i in range(4)]
    weak += [candidate(f"weak sexual {i}", labels=values(sexual=1), reason="sampled") for i in range(4)]
    candidates = strong + weak
    taken = [candidates[i].text.rsplit(" ", 1)[0] for i in choose(candidates, 8, Counter())]
    assert taken == ["strong"] * 4 + ["weak sexual"] * 4


def test_a_text_counts_for_its_rarest_category():
    common = [candidate(f"common {i}", labels=values(toxicity=1)) for i in range(9)]
    both = candidate("both", labels=values(toxicity=1, self_harm=1))
    candidates = [*common, both]
    assert "both" in [candidates[i].text for i in choose(candidates, 2, Counter())]


def test_within_the_bound_everything_is_taken_once():
    candidates = [candidate(f"t{i}", source="nobody", labels=unknown(), scores=unknown(), reason="sampled") for i in range(7)]
    assert sorted(choose(candidates, 100, Counter())) == list(range(7))
    assert choose(candidates, 0, Counter()) == []


def test_a_lopsided_set_is_cut_though_there_is_room():
    flood = [candidate(f"false alarm {i}", labels=HARMLESS) for i in range(3_000)]
    few = [candidate(f"threat {i}", labels=values(violence=1)) for i in range(300)]
    other = [candidate(f"insult {i}", labels=values(toxicity=1)) for i in range(100)]
    left_out = Counter()
    candidates = flood + few + other
    chosen = choose(candidates, 3_300, left_out)
    assert Counter(candidates[i].text.split()[0] for i in chosen) == {"false": 600, "threat": 300, "insult": 100}
    assert +left_out == {"over_balance": 2_400}
    left_out = Counter()
    assert len(choose(candidates, 900, left_out)) == 900
    assert left_out == {"over_balance": 2_400, "over_rows": 100}


def test_the_cut_spares_the_stronger_reasons():
    weak = [candidate(f"weak {i}", labels=HARMLESS, reason="sampled") for i in range(400)]
    strong = [candidate(f"strong {i}", labels=HARMLESS) for i in range(150)]
    candidates = [*weak, *strong, candidate("threat", labels=values(violence=1))]
    taken = Counter(candidates[i].text.split()[0] for i in choose(candidates, 4_000, Counter()))
    assert taken == {"strong": 150, "weak": FEW - 150, "threat": 1}


def test_what_nobody_judged_is_no_side_of_the_balance():
    unjudged = [candidate(f"t{i}", source="nobody", labels=unknown(), reason="sampled") for i in range(700)]
    judged = [candidate("false alarm", labels=HARMLESS), candidate("threat", labels=values(violence=1))]
    assert len(choose(unjudged + judged, 4_000, Counter())) == 702


def test_what_is_all_of_one_kind_is_kept():
    assert len(choose([candidate(f"false alarm {i}", labels=HARMLESS) for i in range(700)], 4_000, Counter())) == 700
