"""``POST /v1/check``: Stillguard's own format, with everything that is known about a verdict."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from server.core.taxonomy import CATEGORIES, Category, Role
from server.core.types import ArtifactId, Basis, CheckAnswer, DecidedBy, EscalationOutcome, Text, TextResult, Verdict
from server.doors.door import Asked, DoorLimits, RequestHeaders, check_count, check_texts
from server.doors.errors import ErrorReply
from server.observability.metrics import Route

PATH = "/v1/check"


class TextToCheck(Struct, forbid_unknown_fields=True):
    """One text and who wrote it."""

    text: Annotated[str, Meta(min_length=1)]
    role: Annotated[Role, Meta(description="Who wrote it; a policy words its rules for each.")] = "user"


class CheckRequest(Struct, forbid_unknown_fields=True):
    """One request; all of its texts are checked, or none."""

    texts: Annotated[list[TextToCheck], Meta(min_length=1)]
    policy: Annotated[str | None, Meta(description="Id of the policy; left out, the server's default.")] = None


class ArtifactReply(Struct):
    """Which artefact answered."""

    version: str
    hash: Annotated[str, Meta(description="SHA-256 of the manifest, and through it of the whole artefact.")]
    precision: str


class PolicyReply(Struct):
    id: str
    version: str


class EscalationReply(Struct):
    outcome: EscalationOutcome
    latency_s: float
    scores: Annotated[dict[Category, float], Meta(description="The teacher's, for the categories it was asked about.")]
    student_scores: Annotated[dict[Category, float], Meta(description="What the student had said of those.")]
    basis: Annotated[
        Basis | None,
        Meta(description="What the teacher's scores rest on; `answer` is a bare Yes or No, whose degree says nothing."),
    ]
    id: Annotated[
        str | None, Meta(description="While the outcome is `pending`: GET /v1/escalations/{id} has the answer later.")
    ]


class ResultReply(Struct):
    verdict: Verdict
    decided_by: DecidedBy
    categories: Annotated[tuple[Category, ...], Meta(description="Those violated.")]
    scores: Annotated[dict[Category, float], Meta(description="Calibrated probabilities, unrounded.")]
    windows: Annotated[int, Meta(description="Token spans that the model read, over both views of the text.")]
    scanned_chars: int
    escalation: Annotated[EscalationReply | None, Meta(description="Present when the student was unsure.")]


class TimingsReply(Struct):
    encode_s: float
    queue_s: float
    infer_s: float
    teacher_s: float
    total_s: float


class CheckReply(Struct):
    """One result per text, in the order sent."""

    id: str
    artifact: ArtifactReply
    policy: PolicyReply
    results: list[ResultReply]
    timings: TimingsReply


def field_schemas(limits: DoorLimits) -> dict[str, dict[str, Any]]:
    """The bounds that :meth:`NativeDialect.read` holds a request to, and which scores there are, for OpenAPI."""
    return {
        "CheckRequest": {
            "texts": {
                "maxItems": limits.max_texts,
                "description": f"Of at most {limits.max_request_chars} characters in all.",
            }
        },
        "TextToCheck": {"text": {"maxLength": limits.max_text_chars}},
        "ResultReply": {
            "scores": {"properties": {category: {"type": "number"} for category in CATEGORIES}, "required": list(CATEGORIES)},
        },
    }


class NativeDialect:
    route: ClassVar[Route] = "native"
    form: ClassVar[type[Struct]] = CheckRequest
    hints: ClassVar[Mapping[str, str]] = {"role": "must be user or assistant"}

    def __init__(self, limits: DoorLimits) -> None:
        self._limits = limits

    def read(self, body: CheckRequest, headers: RequestHeaders) -> Asked:
        check_count(body.texts, self._limits, param="texts")
        texts = [Text(item.text, item.role) for item in body.texts]
        text_param = "texts[{}].text".format
        check_texts(texts, self._limits, list_param="texts", text_param=text_param)
        return Asked(texts, body.policy, text_param)

    def write(self, answer: CheckAnswer, request_id: str) -> CheckReply:
        timings = answer.timings
        return CheckReply(
            id=request_id,
            artifact=write_artifact(answer.artifact),
            policy=PolicyReply(answer.policy_id, answer.policy_version),
            results=[write_result(result) for result in answer.results],
            timings=TimingsReply(
                encode_s=timings.encode_s,
                queue_s=timings.queue_s,
                infer_s=timings.infer_s,
                teacher_s=timings.teacher_s,
                total_s=timings.total_s,
            ),
        )

    def write_error(self, error: ErrorReply) -> ErrorReply:
        return error


def write_artifact(artifact: ArtifactId) -> ArtifactReply:
    return ArtifactReply(version=artifact.version, hash=artifact.hash, precision=artifact.precision)


def write_result(result: TextResult) -> ResultReply:
    escalation = result.escalation
    return ResultReply(
        verdict=result.verdict,
        decided_by=result.decided_by,
        categories=result.categories,
        scores=result.scores,
        windows=result.windows,
        scanned_chars=result.scanned_chars,
        escalation=None
        if escalation is None
        else EscalationReply(
            outcome=escalation.outcome,
            latency_s=escalation.latency_s,
            scores=escalation.scores,
            student_scores=escalation.student_scores,
            basis=escalation.basis,
            id=escalation.id,
        ),
    )
