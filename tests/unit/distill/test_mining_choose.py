"""Which candidates are taken: failures first, balanced over categories and polarity, within the bound."""

from collections import Counter

import numpy as np

from distill.mining.choose import choose
from tests.unit.distill.mining_world import candidate, unknown, values

HARMLESS = np.zeros(8, dtype=np.float32)


def test_failures_come_first_whatever_their_number():
    reasons = ["sampled", "near_threshold", "escalated", "disagreeing", "failed", "overturned"]
    candidates = [candidate(f"{reason} {i}", reason=reason) for i in range(2) for reason in reasons]
    chosen = choose(candidates, 5)
    assert [candidates[i].reason for i in chosen] == ["overturned", "overturned", "failed", "failed", "disagreeing"]


def test_a_flood_of_one_kind_does_not_drown_the_rest():
    flood = [candidate(f"false alarm {i}", labels=HARMLESS) for i in range(100)]
    few = [candidate(f"threat {i}", labels=values(violence=1)) for i in range(3)]
    other = [candidate(f"insult {i}", labels=values(toxicity=1)) for i in range(50)]
    candidates = flood + few + other
    taken = Counter(candidates[i].text.split()[0] for i in choose(candidates, 23))
    assert taken == {"threat": 3, "false": 10, "insult": 10}


def test_balance_counts_what_stronger_reasons_took():
    strong = [candidate(f"strong {i}", labels=values(hate=1)) for i in range(4)]
    weak = [candidate(f"weak hate {i}", labels=values(hate=1), reason="sampled") for i in range(4)]
    weak += [candidate(f"weak sexual {i}", labels=values(sexual=1), reason="sampled") for i in range(4)]
    candidates = strong + weak
    taken = [candidates[i].text.rsplit(" ", 1)[0] for i in choose(candidates, 8)]
    assert taken == ["strong"] * 4 + ["weak sexual"] * 4


def test_a_text_counts_for_its_rarest_category():
    common = [candidate(f"common {i}", labels=values(toxicity=1)) for i in range(9)]
    both = candidate("both", labels=values(toxicity=1, self_harm=1))
    candidates = [*common, both]
    assert candidates[choose(candidates, 2)[0]].text == "both" or candidates[choose(candidates, 2)[1]].text == "both"


def test_within_the_bound_everything_is_taken_once():
    candidates = [candidate(f"t{i}", source="nobody", labels=unknown(), scores=unknown(), reason="sampled") for i in range(7)]
    assert sorted(choose(candidates, 100)) == list(range(7))
    assert choose(candidates, 0) == []
