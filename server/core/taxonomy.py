"""The eight harm categories, in the one order that every array, file and metric uses.

A category's index in :data:`CATEGORIES` is its column in the student's logits. The order is part of the
artefact's contract: a manifest that lists other categories, or another order, is refused.
"""

from typing import Literal, get_args

Category = Literal["harassment", "hate", "illicit", "jailbreak", "self_harm", "sexual", "toxicity", "violence"]
Role = Literal["user", "assistant"]

CATEGORIES: tuple[Category, ...] = get_args(Category)
ROLES: tuple[Role, ...] = get_args(Role)

CATEGORY_INDEX: dict[str, int] = {name: index for index, name in enumerate(CATEGORIES)}
