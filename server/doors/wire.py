"""JSON in: a body becomes a typed structure, or a refusal that names the field and quotes nothing.

Bodies are read twice at most. msgspec reads what is right, in one pass and microseconds. What it refuses is read again
by the standard library, which lets lone surrogates through (canonical text drops them, so a text may hold them) and tells
what isn't JSON from what is JSON of the wrong form.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from server.core.errors import InvalidRequest
from server.doors.errors import MalformedBody, UnsupportedMediaType

Body = TypeVar("Body", bound=msgspec.Struct)

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_STAND_IN = "\u200b"
"""What takes a lone surrogate's place, since msgspec can't hold one: an invisible that canonical text drops just so."""

_MISSING = re.compile("Object missing required field `(.*)`")
_EXPECTED = re.compile("Expected `([^`]*)`, got ")
_KINDS = {
    "str": "a string",
    "array": "an array",
    "object": "an object",
    "int": "an integer",
    "float": "a number",
    "null": "null",
}


class BodyReader(Generic[Body]):
    """Reads bodies of one form."""

    def __init__(self, form: type[Body], *, hints: Mapping[str, str]) -> None:
        """``hints``: what to say of a field whose value is none of those allowed, by the field's name."""
        self._form = form
        self._hints = hints
        self._decode = msgspec.json.Decoder(form).decode

    def read(self, body: bytes, content_type: bytes | None) -> Body:
        """The body's structure.

        Raises:
            UnsupportedMediaType: the content type is given and isn't JSON.
            MalformedBody: not UTF-8, not JSON, or nested too deeply.
            InvalidRequest: JSON, but not of this form.
        """
        if content_type is not None and content_type != b"application/json":
            require_json(content_type)
        try:
            return self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._read_carefully(body)

    def _read_carefully(self, body: bytes) -> Body:
        try:
            value = _tidy(json.loads(body.decode()))
        except UnicodeDecodeError:
            raise MalformedBody("the body is not UTF-8") from None
        except (ValueError, RecursionError):
            raise MalformedBody("the body is not JSON") from None
        try:
            return msgspec.convert(value, self._form)
        except msgspec.ValidationError as error:
            message, param = explain(error, self._hints)
            raise InvalidRequest(message, param=param) from None


def require_json(content_type: bytes) -> None:
    """Raises UnsupportedMediaType unless this names JSON."""
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type != b"application/json" and not media_type.endswith(b"+json"):
        raise UnsupportedMediaType("the content type must be application/json")


def explain(error: msgspec.ValidationError, hints: Mapping[str, str]) -> tuple[str, str | None]:
    """What is wrong, in our words, and the path of the field (``texts[0].text``) or None for the whole.

    msgspec's own words can quote a value, or the name of a field that we don't know; neither is repeated. Its message
    ends with the path, which can't be forged: :func:`_tidy` leaves no name that could hold one.
    """
    message, _, path = str(error).rpartition(" - at `$")
    message, path = (message, path.removesuffix("`").removeprefix(".")) if message else (path, "")
    if missing := _MISSING.fullmatch(message):
        return "Field required", f"{path}.{missing[1]}".removeprefix(".")
    if message.startswith("Object contains unknown field"):
        return "there is a field here that is not known", path or None
    if message.startswith("Invalid enum value"):
        return hints.get(path.rpartition(".")[2], "this value is not allowed"), path or None
    if " of length >= 1" in message:
        return "must not be empty", path or None
    if not path:
        return "the body must be a JSON object", None
    expected = _EXPECTED.match(message)
    kinds = [_KINDS[kind] for kind in expected[1].split(" | ") if kind in _KINDS] if expected else []
    return f"must be {' or '.join(kinds)}" if kinds else "this value is not allowed", path


def _tidy(value: Any) -> Any:
    """JSON values that msgspec can take in and speak of: without lone surrogates, and with harmless names."""
    if isinstance(value, str):
        return _LONE_SURROGATE.sub(_STAND_IN, value)
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if isinstance(value, dict):
        return {name if name.isidentifier() else "?": _tidy(item) for name, item in value.items()}
    return value
