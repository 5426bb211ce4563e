"""``POST /v1/check``: Stillguard's own format, with everything that is known about a verdict."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema
from starlette.datastructures import Headers

from server.core.artifact import Manifest
from server.core.errors import InvalidRequest
from server.core.taxonomy import Category, Role
from server.core.types import CheckAnswer, DecidedBy, EscalationOutcome, Text, TextResult, Verdict
from server.doors.door import Asked, DoorLimits, check_count, check_texts
from server.observability.metrics import Route

PATH = "/v1/check"


def _string(value: Any) -> str:
    """Any ``str``: pydantic's own check refuses lone surrogates, which we read like any other text."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


AnyString = Annotated[str, PlainValidator(_string), WithJsonSchema({"type": "string", "minLength": 1})]


class TextToCheck(BaseModel):
    """One text and who wrote it."""

    model_config = ConfigDict(extra="forbid")

    text: AnyString
    role: Role = Field("user", description="Who wrote it; a policy words its rules for each.")


class CheckRequest(BaseModel):
    """One request; all of its texts are checked, or none."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"texts": [{"text": "you are an idiot"}]}})

    texts: list[TextToCheck] = Field(min_length=1)
    policy: str | None = Field(None, description="Id of the policy; left out, the server's default.")


class ArtifactReply(BaseModel):
    version: str
    hash: str = Field(description="SHA-256 of the manifest, and through it of the whole artefact.")
    precision: str


class PolicyReply(BaseModel):
    id: str
    version: str


class EscalationReply(BaseModel):
    outcome: EscalationOutcome
    latency_s: float
    scores: dict[Category, float] = Field(description="The teacher's, for the categories it was asked about.")
    student_scores: dict[Category, float] = Field(description="What the student had said of those.")


class ResultReply(BaseModel):
    verdict: Verdict
    decided_by: DecidedBy
    categories: list[Category] = Field(description="Those violated.")
    scores: dict[Category, float] = Field(description="Calibrated probabilities, unrounded.")
    windows: int = Field(description="Token spans that the model read, over both views of the text.")
    scanned_chars: int
    escalation: EscalationReply | None = Field(description="Present when the student was unsure.")


class TimingsReply(BaseModel):
    encode_s: float
    queue_s: float
    infer_s: float
    teacher_s: float
    total_s: float


class CheckReply(BaseModel):
    """One result per text, in the order sent."""

    id: str
    artifact: ArtifactReply
    policy: PolicyReply
    results: list[ResultReply]
    timings: TimingsReply


class NativeDialect:
    route: Route = "native"

    def __init__(self, manifest: Manifest, *, limits: DoorLimits) -> None:
        self._artifact = {"version": manifest.version, "hash": manifest.hash, "precision": manifest.precision}
        self._limits = limits

    def read(self, body: Any, headers: Headers) -> Asked:
        if isinstance(body.get("texts"), list):
            check_count(body["texts"], self._limits, param="texts")
        try:
            request = CheckRequest.model_validate(body, strict=True)
        except ValidationError as error:
            raise _invalid(error) from None
        texts = [Text(item.text, item.role) for item in request.texts]
        check_texts(texts, self._limits, list_param="texts", text_param=lambda index: f"texts[{index}].text")
        return Asked(texts, request.policy)

    def write(self, answer: CheckAnswer, request_id: str) -> dict[str, Any]:
        timings = answer.timings
        return {
            "id": request_id,
            "artifact": self._artifact,
            "policy": {"id": answer.policy_id, "version": answer.policy_version},
            "results": [write_result(result) for result in answer.results],
            "timings": {
                "encode_s": timings.encode_s,
                "queue_s": timings.queue_s,
                "infer_s": timings.infer_s,
                "teacher_s": timings.teacher_s,
                "total_s": timings.total_s,
            },
        }


def write_result(result: TextResult) -> dict[str, Any]:
    """A :class:`ResultReply`, as plain values."""
    escalation = result.escalation
    return {
        "verdict": result.verdict,
        "decided_by": result.decided_by,
        "categories": result.categories,
        "scores": result.scores,
        "windows": result.windows,
        "scanned_chars": result.scanned_chars,
        "escalation": escalation
        and {
            "outcome": escalation.outcome,
            "latency_s": escalation.latency_s,
            "scores": escalation.scores,
            "student_scores": escalation.student_scores,
        },
    }


def _invalid(error: ValidationError) -> InvalidRequest:
    """The first complaint, by the path of its field. A field that we don't know is not named: its name is the client's."""
    detail = error.errors(include_url=False, include_input=False, include_context=False)[0]
    location, message = detail["loc"], detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        location, message = location[:-1], "there is a field here that is not known"
    return InvalidRequest(message, param=_path(location) or None)


def _path(location: tuple[int | str, ...]) -> str:
    """``("texts", 0, "text")`` → ``texts[0].text``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")
