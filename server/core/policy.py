"""Policies: what each category means, when to block, and when not to trust the student alone.

A policy file is TOML. Each top-level table is one policy; its name is the policy's id::

    [default]
    version = "1"
    on_no_teacher = "student"            # student | allow | block | review: may raise its verdict, never lowers it
    mode = "inline"                      # inline | async | shadow; may be left out
    shadow_share = 0.05                  # of the texts, under mode "shadow" only
    teacher_may_clear = false            # true: the teacher may lower a verdict too, not only raise it; may be left out
    ask_about = "unsure"                 # unsure | all: the unsure categories, or all that have a band; may be left out
    teacher_weight = 1.0                 # of the teacher's score in the answer, in (0, 1]; may be left out

    [default.categories.hate]
    title = "No Hate Speech"
    user = "The prompt shall not contain or seek generation of content that …"
    assistant = "The chatbot shall not generate content that …"
    block_at = 0.5                       # a score at or above this blocks
    unsure = [0.3, 0.7]                  # scores inside this band go to the teacher; equal ends: never, it is the student's

The wording follows ShieldGemma's guideline form (arXiv 2407.21772, figure 2): one sentence for a user's text, one for an
assistant's. The teacher reads the wording; the numbers are the student's.

Modes: ``inline`` holds an unsure text's answer until the teacher has spoken, ``async`` answers with the student's verdict
and keeps the teacher's for whoever comes back for it, ``shadow`` leaves every answer to the student and asks the teacher
about a sample, to count where they differ.

A text that goes to the teacher is answered by both: in each category that was asked about, the score is the student's and
the teacher's pooled (:mod:`server.core.pooling`), with ``teacher_weight`` the teacher's. 1 takes its word alone.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from server.core.errors import PolicyError, UnknownPolicy
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX, Category, Role
from server.core.types import Scores

OnNoTeacher = Literal["student", "allow", "block", "review"]
Mode = Literal["inline", "async", "shadow"]
AskAbout = Literal["unsure", "all"]

DEFAULT_POLICY_FILE = Path(__file__).resolve().parent.parent / "policies" / "default.toml"


@dataclass(frozen=True, slots=True)
class Rule:
    """One category's part of a policy. Scores are calibrated probabilities in [0, 1]."""

    title: str
    user: str
    assistant: str
    block_at: float
    unsure: tuple[float, float]

    def wording(self, role: Role) -> str:
        """The guideline as the teacher reads it, for a text of this role."""
        return f'"{self.title}": {self.user if role == "user" else self.assistant}'

    def is_violated(self, score: float) -> bool:
        return score >= self.block_at

    def is_unsure(self, score: float) -> bool:
        """Inside the unsure band, both ends included."""
        low, high = self.unsure
        return self.has_band and low <= score <= high

    @property
    def has_band(self) -> bool:
        """Whether a score can be unsure at all; a band whose ends are equal holds nothing."""
        low, high = self.unsure
        return low < high


@dataclass(frozen=True, slots=True)
class Policy:
    """Named, versioned, immutable. ``rules`` has one rule per category, in taxonomy order.

    ``shadow_share`` is the share of texts that the teacher is asked about under mode ``shadow``; 0 under the others.
    Without ``teacher_may_clear`` a teacher's No never lifts a block of the student's, and ``on_no_teacher`` never does.
    ``teacher_weight`` is in (0, 1].
    """

    id: str
    version: str
    on_no_teacher: OnNoTeacher
    rules: tuple[Rule, ...]
    mode: Mode = "inline"
    shadow_share: float = 0.0
    teacher_may_clear: bool = False
    ask_about: AskAbout = "unsure"
    teacher_weight: float = 1.0

    def violated(self, scores: Scores) -> tuple[Category, ...]:
        """The categories whose score blocks, in taxonomy order."""
        return tuple(c for c, rule in zip(CATEGORIES, self.rules, strict=True) if rule.is_violated(scores[c]))

    def unsure(self, scores: Scores) -> tuple[Category, ...]:
        """The categories in their unsure band, in taxonomy order; none if another is violated beyond doubt."""
        unsure = []
        for category, rule in zip(CATEGORIES, self.rules, strict=True):
            if rule.is_unsure(scores[category]):
                unsure.append(category)
            elif rule.is_violated(scores[category]):
                return ()
        return tuple(unsure)

    def questions(self, scores: Scores) -> tuple[Category, ...]:
        """The categories to ask the teacher about, in taxonomy order; none where the student is sure."""
        unsure = self.unsure(scores)
        if not unsure or self.ask_about == "unsure":
            return unsure
        return tuple(c for c, rule in zip(CATEGORIES, self.rules, strict=True) if rule.has_band)

    def suspects_injection(self, scores: Scores) -> bool:
        """The text may be speaking to a model: its jailbreak score is as high as ``block_at`` or the band's lower end."""
        rule = self.rules[CATEGORY_INDEX["jailbreak"]]
        return scores["jailbreak"] >= (min(rule.unsure[0], rule.block_at) if rule.has_band else rule.block_at)

    @property
    def hash(self) -> str:
        """SHA-256 over everything in the policy: two policies with one hash decide alike."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class PolicySet(Mapping[str, Policy]):
    """The policies that a server knows, by id."""

    def __init__(self, policies: list[Policy]) -> None:
        self._by_id = {policy.id: policy for policy in policies}

    def __getitem__(self, policy_id: str) -> Policy:
        try:
            return self._by_id[policy_id]
        except KeyError:
            known = ", ".join(sorted(self._by_id))
            raise UnknownPolicy(f"unknown policy; known policies: {known}", param="policy") from None

    def __contains__(self, policy_id: object) -> bool:
        return policy_id in self._by_id

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)


def load_policies(path: Path = DEFAULT_POLICY_FILE) -> PolicySet:
    """Read a policy file.

    Raises:
        PolicyError: unreadable, not TOML, a category missing or unknown, a key misspelt, or a number out of [0, 1].
            The message names the file and the place.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"policy file {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PolicyError(f"policy file {path}: {error}") from None
    if not tables:
        raise PolicyError(f"policy file {path}: holds no policy")
    return PolicySet([_policy(policy_id, table, f"policy file {path}: [{policy_id}]") for policy_id, table in tables.items()])


def _policy(policy_id: str, table: Any, where: str) -> Policy:
    _check_keys(
        table,
        {"version", "on_no_teacher", "categories"},
        where,
        optional={"mode", "shadow_share", "teacher_may_clear", "ask_about", "teacher_weight"},
    )
    _check_keys(table["categories"], set(CATEGORIES), f"{where} categories")
    mode = _one_of(Mode, table.get("mode", "inline"), f"{where} mode")
    if (mode == "shadow") != ("shadow_share" in table):
        raise PolicyError(f'{where} shadow_share: belongs to mode = "shadow", which needs it')
    may_clear = table.get("teacher_may_clear", False)
    if not isinstance(may_clear, bool):
        raise PolicyError(f"{where} teacher_may_clear: must be true or false")
    weight = _probability(table.get("teacher_weight", 1.0), f"{where} teacher_weight")
    if weight == 0:
        raise PolicyError(f"{where} teacher_weight: must be above 0; who wants no teacher gives no category a band")
    return Policy(
        id=policy_id,
        version=_string(table["version"], f"{where} version"),
        on_no_teacher=_one_of(OnNoTeacher, table["on_no_teacher"], f"{where} on_no_teacher"),
        rules=tuple(_rule(table["categories"][name], f"{where} categories.{name}") for name in CATEGORIES),
        mode=mode,
        shadow_share=_probability(table.get("shadow_share", 0.0), f"{where} shadow_share"),
        teacher_may_clear=may_clear,
        ask_about=_one_of(AskAbout, table.get("ask_about", "unsure"), f"{where} ask_about"),
        teacher_weight=weight,
    )


def _rule(table: Any, where: str) -> Rule:
    _check_keys(table, {"title", "user", "assistant", "block_at", "unsure"}, where)
    band = table["unsure"]
    if not isinstance(band, list) or len(band) != 2:
        raise PolicyError(f"{where} unsure: must be two numbers [low, high]")
    low, high = (_probability(value, f"{where} unsure") for value in band)
    if low > high:
        raise PolicyError(f"{where} unsure: low {low} is above high {high}")
    return Rule(
        title=_string(table["title"], f"{where} title"),
        user=_string(table["user"], f"{where} user"),
        assistant=_string(table["assistant"], f"{where} assistant"),
        block_at=_probability(table["block_at"], f"{where} block_at"),
        unsure=(low, high),
    )


def _check_keys(table: Any, wanted: set[str], where: str, *, optional: Set[str] = frozenset()) -> None:
    if not isinstance(table, dict):
        raise PolicyError(f"{where}: must be a table")
    missing, unknown = sorted(wanted - table.keys()), sorted(table.keys() - wanted - optional)
    if missing or unknown:
        problems = [f"missing {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(unknown)}"] * bool(unknown)
        raise PolicyError(f"{where}: {'; '.join(problems)}")


def _one_of(choices: Any, value: Any, where: str) -> Any:
    if value not in get_args(choices):
        raise PolicyError(f"{where}: {value!r} is not one of {', '.join(get_args(choices))}")
    return value


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise PolicyError(f"{where}: must be a non-empty string")
    return value


def _probability(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise PolicyError(f"{where}: {value!r} is not a number in [0, 1]")
    return float(value)
