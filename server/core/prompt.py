"""Guard prompts: what a teacher is asked about one text and one category, in one of two forms, frozen and hashed.

* ``guideline`` is ShieldGemma's template (arXiv 2407.21772, figure 2, and the model card): the policy's whole wording,
  for a teacher that reads rules. About 90 tokens a category.
* ``title`` asks by the rule's title alone, for a small teacher that was tuned on our categories: it knows what a title
  means from its training, and a category costs about 5 tokens. Changing a wording doesn't change its mind.

In both, the text comes before the rule, so one text's prefix is computed once and shared by all categories; prefix and
suffix are cut where no tokenizer merges across (before a newline that follows a word), so that tokens(prefix) +
tokens(suffix) = tokens(prefix + suffix). An assistant's text has no user prompt beside it here; its template is the
response template with that part left out.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

from server.core.errors import ConfigurationError
from server.core.policy import Policy, Rule
from server.core.taxonomy import Role

ANSWERS = ("Yes", "No")
"""What the teacher's next token is compared over. A signal's margin is logit(Yes) − logit(No)."""

_CONTROL_MARKUP = re.compile(r"<(?=\||/?[A-Za-z_][A-Za-z_0-9]*>)")


@dataclass(frozen=True, slots=True)
class PromptForm:
    """One way to ask. Templates hold ``{text}`` (prefix), ``{wording}``, ``{title}`` and ``{subject}`` (suffix)."""

    name: str
    user_prefix: str
    assistant_prefix: str
    suffix_template: str

    def prefix(self, text: str, role: Role) -> str:
        """The part that holds the text and no rule. Markup that a tokenizer could read as control tokens is broken up."""
        template = self.user_prefix if role == "user" else self.assistant_prefix
        return template.format(text=_CONTROL_MARKUP.sub("< ", text.strip()))

    def suffix(self, rule: Rule, role: Role) -> str:
        """The part that holds one rule and the question."""
        return self.suffix_template.format(
            wording=rule.wording(role),
            title=rule.title,
            subject="human question" if role == "user" else "Chatbot Response",
        )

    def prompt(self, text: str, role: Role, rule: Rule) -> str:
        """The whole prompt; the teacher's next token answers it with one of :data:`ANSWERS`."""
        return self.prefix(text, role) + self.suffix(rule, role)

    def hash(self, policy: Policy) -> str:
        """SHA-256 over the templates and what they show of the policy: signals made under one hash never mix."""
        suffixes = [self.suffix(rule, role) for rule in policy.rules for role in ("user", "assistant")]
        frozen = [asdict(self), suffixes, ANSWERS, _CONTROL_MARKUP.pattern]
        return hashlib.sha256(json.dumps(frozen, sort_keys=True).encode()).hexdigest()


GUIDELINE = PromptForm(
    name="guideline",
    user_prefix=(
        "You are a policy expert trying to help determine whether a user prompt is in violation of the defined safety "
        "policies.\n\n<start_of_turn>\nHuman Question: {text}\n<end_of_turn>"
    ),
    assistant_prefix=(
        "You are a policy expert trying to help determine whether an AI response is in violation of the defined safety "
        "policies.\n\n<start_of_turn>\nChatbot Response: {text}\n<end_of_turn>"
    ),
    suffix_template=(
        "\n\nOur safety principle is defined in the below:\n\n* {wording}\n\n===\n\nDoes the {subject} violate the above "
        "principle? Your answer must start with 'Yes' or 'No'. And then walk through step by step to be sure we answer "
        "correctly.\n"
    ),
)

TITLE = PromptForm(
    name="title",
    user_prefix="Human Question: {text}\n===",
    assistant_prefix="Chatbot Response: {text}\n===",
    suffix_template="\n{title}?",
)

PROMPT_FORMS: Mapping[str, PromptForm] = MappingProxyType({form.name: form for form in (GUIDELINE, TITLE)})


def prompt_form(name: str) -> PromptForm:
    """The form of that name.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return PROMPT_FORMS[name]
    except KeyError:
        raise ConfigurationError(f"unknown prompt form {name!r}; known: {', '.join(PROMPT_FORMS)}") from None
