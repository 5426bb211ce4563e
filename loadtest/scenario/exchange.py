"""One request and what must come back, as plain data that goes to other processes and into a file for k6."""

from dataclasses import asdict, dataclass, field
from typing import Any

ESCALATION = "escalation"
FEEDBACK = "feedback"
BAD_INPUT = "bad input"

CHECK_PATH = "/v1/check"
MODERATIONS_PATH = "/v1/moderations"
FEEDBACK_PATH = "/v1/feedback"
ESCALATION_PATH = "/v1/escalations/{escalation_id}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and the answer that is right for it.

    Attributes:
        kind: its row in the report. :data:`ESCALATION` and :data:`FEEDBACK` are about an earlier answer, and are written by
            whoever has one (:class:`loadtest.scenario.memory.Memory`).
        text_chars: the length of each text, for requests that check some; empty for all others.
        status, code: the status that is right, and the code in the error's envelope; None for no error.
        headers: beyond the content type, the request's id and the API key.
        has_key: False for a request that must be sent without the API key.
    """

    kind: str
    method: str
    path: str
    body: str | None = None
    text_chars: tuple[int, ...] = ()
    status: int = 200
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    has_key: bool = True

    @property
    def is_check(self) -> bool:
        """It asks for texts to be checked, and should get verdicts."""
        return bool(self.text_chars)

    def to_record(self) -> dict[str, Any]:
        """JSON's kinds alone."""
        return asdict(self)


def read_exchange(record: dict[str, Any]) -> Exchange:
    """The inverse of :meth:`Exchange.to_record`."""
    return Exchange(**record | {"text_chars": tuple(record["text_chars"])})
