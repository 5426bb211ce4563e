"""The order of the categories is part of the artefact's contract."""

from typing import get_args

from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX, ROLES, Category


def test_the_order_is_frozen():
    assert CATEGORIES == ("harassment", "hate", "illicit", "jailbreak", "self_harm", "sexual", "toxicity", "violence")
    assert get_args(Category) == CATEGORIES


def test_an_index_is_the_column():
    assert [CATEGORY_INDEX[name] for name in CATEGORIES] == list(range(8))


def test_roles():
    assert ROLES == ("user", "assistant")
