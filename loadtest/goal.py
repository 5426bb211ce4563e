"""Something measured, held against a limit; and tables for people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate


@dataclass(frozen=True, slots=True)
class Goal:
    """``value`` None means that this run didn't measure it. ``unit`` is for people; the values are plain ratios, seconds or
    bytes."""

    name: str
    value: float | None
    limit: float
    is_floor: bool
    unit: str = "×"

    @property
    def is_met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.is_floor else self.value <= self.limit

    def to_record(self) -> dict[str, Any]:
        """For a report: JSON's kinds alone."""
        return {
            "name": self.name,
            "value": self.value,
            "limit": self.limit,
            "is_floor": self.is_floor,
            "is_met": self.is_met,
        }


def is_passed(goals: Iterable[Goal]) -> bool:
    """What couldn't be measured doesn't pass."""
    return all(goal.is_met is True for goal in goals)


def render_goals(goals: Sequence[Goal]) -> str:
    """A table with a line per goal, for people."""
    rows = [
        (
            {True: "met", False: "MISSED", None: "not measured"}[goal.is_met],
            goal.name,
            "" if goal.value is None else f"{goal.value:.4g}",
            f"{'≥' if goal.is_floor else '≤'} {goal.limit:.4g}",
            goal.unit,
        )
        for goal in goals
    ]
    return titled("Targets", ("", "target", "measured", "wanted", "unit"), rows)


def titled(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with its name above it; numbers as they are written."""
    return f"{title}\n{tabulate(list(rows), headers=header, disable_numparse=True, tablefmt='simple')}"
