"""Teachers joined as endpoints behind breakers that stay closed, for tests of what is in front of them."""

from server.teacher.breaker import BreakerLimits
from server.teacher.endpoints import Endpoints
from server.teacher.observer import TeacherObserver
from server.teacher.teacher import Teacher

PATIENT = BreakerLimits(window=10_000, failures=10_000, slow_s=3600.0, open_s=3600.0)


def joined(*teachers: Teacher, observer: TeacherObserver, max_in_flight: int = 1000) -> Endpoints:
    return Endpoints(teachers, breaker=PATIENT, max_in_flight=max_in_flight, observer=observer)
