"""``POST /v1/moderations``: OpenAI's moderation format, so that its clients work unchanged.

How our eight categories become OpenAI's thirteen:

    harassment, hate, illicit, self-harm, sexual, violence      ours, as they are
    harassment/threatening, hate/threatening, illicit/violent   the smaller of the parent's and violence's score; true when
                                                                both are violated
    self-harm/intent, self-harm/instructions, sexual/minors,    not told apart by our student: score 0, false, and no
    violence/graphic                                            ``category_applied_input_types``

Toxicity and jailbreak have no counterpart there. ``flagged`` covers them all the same: it is true unless the verdict is
``allow`` (a client of this format knows no ``review``). The whole verdict stands beside it, under ``stillguard``.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers

from server.core.artifact import Manifest
from server.core.errors import InvalidRequest
from server.core.taxonomy import Category
from server.core.types import CheckAnswer, Text, TextResult
from server.doors.door import Asked, DoorLimits, check_count, check_texts
from server.doors.native import ResultReply, write_result
from server.observability.metrics import Route

PATH = "/v1/moderations"
POLICY_HEADER = "X-Stillguard-Policy"

SOURCES: dict[str, tuple[Category, ...]] = {
    "harassment": ("harassment",),
    "harassment/threatening": ("harassment", "violence"),
    "hate": ("hate",),
    "hate/threatening": ("hate", "violence"),
    "illicit": ("illicit",),
    "illicit/violent": ("illicit", "violence"),
    "self-harm": ("self_harm",),
    "self-harm/intent": (),
    "self-harm/instructions": (),
    "sexual": ("sexual",),
    "sexual/minors": (),
    "violence": ("violence",),
    "violence/graphic": (),
}
"""OpenAI's category → those of ours that must all hold for it; none where we can't tell."""

_APPLIED_INPUT_TYPES = {name: ["text"] if sources else [] for name, sources in SOURCES.items()}


class InputPart(BaseModel):
    type: str = Field(description="`text`; images are refused.")
    text: str


class ModerationRequest(BaseModel):
    """OpenAI's request. A list of parts is one item; a list of strings is one item each."""

    model_config = ConfigDict(json_schema_extra={"example": {"input": "you are an idiot"}})

    input: str | list[str] | list[InputPart]
    model: str | None = Field(None, description="Accepted and not used: the reply names the artefact that answered.")


class ModerationResult(BaseModel):
    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    stillguard: ResultReply


class ModerationReply(BaseModel):
    """OpenAI's reply, with our own result beside each of its."""

    id: str
    model: str
    results: list[ModerationResult]


class OpenAIDialect:
    route: Route = "openai"

    def __init__(self, manifest: Manifest, *, limits: DoorLimits) -> None:
        self._model = f"stillguard-{manifest.version}"
        self._limits = limits

    def read(self, body: Any, headers: Headers) -> Asked:
        if "input" not in body:
            raise InvalidRequest("Field required", param="input")
        given = body["input"]
        if not isinstance(body.get("model"), str | None):
            raise InvalidRequest("must be a string", param="model")
        if isinstance(given, str):
            texts, text_param = [given], "input".format
        elif isinstance(given, list):
            check_count(given, self._limits, param="input")
            is_parts = bool(given) and all(isinstance(part, dict) for part in given)
            texts = [_join(given)] if is_parts else [_string(item, f"input[{index}]") for index, item in enumerate(given)]
            text_param = "input".format if is_parts else "input[{}]".format
        else:
            raise InvalidRequest("must be a string, a list of strings, or a list of text parts", param="input")
        asked = Asked([Text(text) for text in texts], headers.get(POLICY_HEADER))
        check_texts(asked.texts, self._limits, list_param="input", text_param=text_param)
        return asked

    def write(self, answer: CheckAnswer, request_id: str) -> dict[str, Any]:
        return {
            "id": f"modr-{request_id}",
            "model": self._model,
            "results": [_write_moderation(result) for result in answer.results],
        }


def _write_moderation(result: TextResult) -> dict[str, Any]:
    """A :class:`ModerationResult`, as plain values."""
    violated = set(result.categories)
    return {
        "flagged": result.verdict != "allow",
        "categories": {name: bool(sources) and violated.issuperset(sources) for name, sources in SOURCES.items()},
        "category_scores": {
            name: min((result.scores[source] for source in sources), default=0.0) for name, sources in SOURCES.items()
        },
        "category_applied_input_types": _APPLIED_INPUT_TYPES,
        "stillguard": write_result(result),
    }


def _string(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest("must be a string", param=param)
    return value


def _join(parts: list[dict[str, Any]]) -> str:
    """The text of one item's parts, one a line."""
    lines = []
    for index, part in enumerate(parts):
        if part.get("type") != "text":
            raise InvalidRequest("only parts of type text can be checked; images are not", param=f"input[{index}].type")
        lines.append(_string(part.get("text"), f"input[{index}].text"))
    return "\n".join(lines)
