"""The guard prompt: ShieldGemma's template, frozen and hashed.

Source: arXiv 2407.21772, figure 2, and the model card. The text comes before the policy, so one text's prefix is
computed once and shared by all categories; ``prefix`` and ``suffix`` are cut where no tokenizer merges across
(``<end_of_turn>`` | newline), so that tokens(prefix) + tokens(suffix) = tokens(prefix + suffix).

An assistant's text has no user prompt beside it here; its template is the response template with that part left out.
"""

import hashlib
import json
import re

from server.core.policy import Policy, Rule
from server.core.taxonomy import Role

ANSWERS = ("Yes", "No")
"""What the teacher's next token is compared over. A signal's margin is logit(Yes) − logit(No)."""

_PREFIX = {
    "user": (
        "You are a policy expert trying to help determine whether a user prompt is in violation of the defined safety "
        "policies.\n\n<start_of_turn>\nHuman Question: {text}\n<end_of_turn>"
    ),
    "assistant": (
        "You are a policy expert trying to help determine whether an AI response is in violation of the defined safety "
        "policies.\n\n<start_of_turn>\nChatbot Response: {text}\n<end_of_turn>"
    ),
}
_SUFFIX = (
    "\n\nOur safety principle is defined in the below:\n\n* {wording}\n\n===\n\nDoes the {subject} violate the above "
    "principle? Your answer must start with 'Yes' or 'No'. And then walk through step by step to be sure we answer "
    "correctly.\n"
)
_SUBJECT = {"user": "human question", "assistant": "Chatbot Response"}

_CONTROL_MARKUP = re.compile(r"<(?=\||/?[A-Za-z_][A-Za-z_0-9]*>)")


def prompt_prefix(text: str, role: Role) -> str:
    """The part that holds the text and no policy. Markup that a tokenizer could read as control tokens is broken up."""
    return _PREFIX[role].format(text=_CONTROL_MARKUP.sub("< ", text.strip()))


def prompt_suffix(rule: Rule, role: Role) -> str:
    """The part that holds one category's wording and the question."""
    return _SUFFIX.format(wording=rule.wording(role), subject=_SUBJECT[role])


def guard_prompt(text: str, role: Role, rule: Rule) -> str:
    """The whole prompt; the teacher's next token answers it with one of :data:`ANSWERS`."""
    return prompt_prefix(text, role) + prompt_suffix(rule, role)


def prompt_hash(policy: Policy) -> str:
    """SHA-256 over the templates and the policy's wording: signals made under one hash never mix with another's."""
    frozen = [_PREFIX, _SUFFIX, _SUBJECT, ANSWERS, _CONTROL_MARKUP.pattern, policy.wording_hash]
    return hashlib.sha256(json.dumps(frozen, sort_keys=True).encode()).hexdigest()
