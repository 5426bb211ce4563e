"""``POST /v1/moderations``: OpenAI's moderation format, so that its clients work unchanged.

How our eight categories become OpenAI's thirteen:

    harassment, hate, illicit, self-harm, sexual, violence      ours, as they are
    harassment/threatening, hate/threatening, illicit/violent   the smaller of the parent's and violence's score; true when
                                                                both are violated
    self-harm/intent, self-harm/instructions, sexual/minors,    not told apart by our student: score 0, false, and no
    violence/graphic                                            ``category_applied_input_types``

Toxicity and jailbreak have no counterpart there. ``flagged`` covers them all the same: it is true unless the verdict is
``allow`` (a client of this format knows no ``review``). The whole verdict stands beside it, under ``stillguard``; the
artefact and the policy that made it stand under ``stillguard`` of the whole reply. Errors about keys and rates have the
names that OpenAI gives them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from server.core.errors import InvalidRequest, UnknownPolicy
from server.core.taxonomy import Category
from server.core.types import CheckAnswer, Text, TextResult
from server.doors.door import Asked, DoorLimits, RequestHeaders, check_count, check_texts
from server.doors.errors import ErrorReply, RateLimited, Unauthorized
from server.doors.native import ArtifactReply, PolicyReply, ResultReply, write_artifact, write_result
from server.observability.metrics import Route

PATH = "/v1/moderations"
POLICY_HEADER = "X-Stillguard-Policy"
_POLICY_HEADER = POLICY_HEADER.lower().encode("ascii")

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

_INPUT_TYPES: dict[str, tuple[str, ...]] = {name: ("text",) if sources else () for name, sources in SOURCES.items()}
_NONE_VIOLATED = dict.fromkeys(SOURCES, False)

_ERROR_NAMES: dict[str, tuple[str, str]] = {
    Unauthorized.code: ("invalid_request_error", "invalid_api_key"),
    RateLimited.code: ("requests", "rate_limit_exceeded"),
}
"""Our code → OpenAI's type and code."""

ID_PREFIX = "modr-"
"""Before the request's id, as in OpenAI's replies."""

ERROR_CODES = {ours: theirs for ours, (_, theirs) in _ERROR_NAMES.items()}


class InputPart(Struct):
    type: Annotated[Literal["text"], Meta(description="Images are refused.")]
    text: Annotated[str, Meta(min_length=1)]


def field_schemas(limits: DoorLimits) -> dict[str, dict[str, Any]]:
    """What the request's types don't say and :meth:`OpenAIDialect.read` holds it to, for OpenAPI: bounds, and that no list
    mixes strings and parts."""
    string = {"type": "string", "minLength": 1, "maxLength": limits.max_text_chars}
    some = {"type": "array", "minItems": 1, "maxItems": limits.max_texts}
    parts = some | {"items": {"$ref": "#/components/schemas/InputPart"}}
    described = (
        f"A list of parts is one item; a list of strings is one item each. Of at most {limits.max_text_chars} characters an "
        f"item, and {limits.max_request_chars} characters in all."
    )
    return {
        "ModerationRequest": {"input": {"description": described, "anyOf": [string, some | {"items": string}, parts]}},
        "ModerationResult": {
            field: {"properties": dict.fromkeys(SOURCES, kind), "required": list(SOURCES)}
            for field, kind in (("categories", {"type": "boolean"}), ("category_scores", {"type": "number"}))
        },
    }


Item = Annotated[str, Meta(min_length=1)] | InputPart


class ModerationRequest(Struct):
    """OpenAI's request; fields of it that are not named here are ignored."""

    input: Annotated[str, Meta(min_length=1)] | Annotated[list[Item], Meta(min_length=1)]
    model: Annotated[str | None, Meta(description="Accepted and not used: the reply names the artefact that answered.")] = None


class ModerationResult(Struct):
    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, tuple[str, ...]]
    stillguard: ResultReply


class VersionsReply(Struct):
    """What answered."""

    artifact: ArtifactReply
    policy: PolicyReply


class ModerationReply(Struct):
    """OpenAI's reply, with our own result beside each of its."""

    id: str
    model: str
    results: list[ModerationResult]
    stillguard: VersionsReply


class OpenAIDialect:
    route: ClassVar[Route] = "openai"
    form: ClassVar[type[Struct]] = ModerationRequest
    hints: ClassVar[Mapping[str, str]] = {"type": "only parts of type text can be checked; images are not"}

    def __init__(self, limits: DoorLimits) -> None:
        self._limits = limits

    def read(self, body: ModerationRequest, headers: RequestHeaders) -> Asked:
        given, text_param = body.input, "input[{}]".format
        if isinstance(given, str):
            given, text_param = [given], "input".format
        else:
            check_count(given, self._limits, param="input")
            parts = [item for item in given if isinstance(item, InputPart)]
            if len(parts) == len(given):
                given, text_param = [_join(parts)], "input".format
        texts = [Text(_string(item, index)) for index, item in enumerate(given)]
        check_texts(texts, self._limits, list_param="input", text_param=text_param)
        policy_id = headers.get(_POLICY_HEADER)
        return Asked(texts, None if policy_id is None else policy_id.decode("latin-1"), text_param)

    def write(self, answer: CheckAnswer, request_id: str) -> ModerationReply:
        return ModerationReply(
            id=ID_PREFIX + request_id,
            model=f"stillguard-{answer.artifact.version}",
            results=[_write_moderation(result) for result in answer.results],
            stillguard=VersionsReply(write_artifact(answer.artifact), PolicyReply(answer.policy_id, answer.policy_version)),
        )

    def write_error(self, error: ErrorReply) -> ErrorReply:
        said = error.error
        if said.code == UnknownPolicy.code:
            said = replace(said, param=POLICY_HEADER)
        elif names := _ERROR_NAMES.get(said.code):
            said = replace(said, type=names[0], code=names[1])
        return replace(error, error=said)


def _write_moderation(result: TextResult) -> ModerationResult:
    violated, scores = result.categories, result.scores
    return ModerationResult(
        flagged=result.verdict != "allow",
        categories={name: bool(sources) and set(violated).issuperset(sources) for name, sources in SOURCES.items()}
        if violated
        else _NONE_VIOLATED,
        category_scores={name: min((scores[source] for source in sources), default=0.0) for name, sources in SOURCES.items()},
        category_applied_input_types=_INPUT_TYPES,
        stillguard=write_result(result),
    )


def _string(item: str | InputPart, index: int) -> str:
    if not isinstance(item, str):
        raise InvalidRequest("must be a string, as its neighbours are", param=f"input[{index}]")
    return item


def _join(parts: list[InputPart]) -> str:
    """The text of one item's parts, one a line."""
    return "\n".join(part.text for part in parts)
