"""A cascade that leads to a given teacher, unbounded unless a test says otherwise, and what it counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.cascade import Cascade
from server.deferred import DeferredResults
from server.teacher.budget import Budget, BudgetLimits
from server.teacher.route import CacheLimits, TeacherRoute
from server.teacher.teacher import Teacher
from tests.unit.teacher.counting import Counting
from tests.unit.teacher.joined import joined


@dataclass
class CascadeCounting(Counting):
    """A :class:`~server.cascade.CascadeObserver` too."""

    withheld: int = 0
    ended: list[str] = field(default_factory=list)
    shadows: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    def escalation_withheld(self) -> None:
        self.withheld += 1

    def escalation_done(self, outcome: str) -> None:
        self.ended.append(outcome)

    def shadow_done(self, outcome: str, disagreements: Mapping[str, str]) -> None:
        self.shadows.append((outcome, disagreements))


def cascade_to(
    teacher: Teacher,
    *,
    counting: CascadeCounting | None = None,
    total: BudgetLimits | None = None,
    per_key: BudgetLimits | None = None,
    timeout_s: float = 60.0,
    deferred: DeferredResults | None = None,
    draw=lambda: 0.0,
) -> Cascade:
    counting = counting or CascadeCounting()
    route = TeacherRoute(
        joined(teacher, observer=counting),
        budget=Budget(total=total or BudgetLimits(), per_key=per_key or BudgetLimits()),
        cache=CacheLimits(max_items=100, ttl_s=3600),
        flight_timeout_s=timeout_s,
        observer=counting,
    )
    deferred = deferred or DeferredResults(max_items=10, ttl_s=3600)
    return Cascade(route, deferred=deferred, teacher_timeout_s=timeout_s, observer=counting, draw=draw)
