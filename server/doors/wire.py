"""JSON in: a body becomes a typed structure, or a refusal that names the field and quotes nothing.

msgspec reads what is right, in one pass and microseconds, and stops at the first thing that is wrong: a body of any size
costs no more than its right beginning. What it can't take in though it may be JSON, a byte order mark and lone surrogates
(canonical text drops them, so a text may hold them), is mended in bytes and read once more.
"""

import codecs
import re
from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from server.core.errors import InvalidRequest
from server.doors.errors import MalformedBody, UnsupportedMediaType

Body = TypeVar("Body", bound=msgspec.Struct)

_UNIT = rb"[0-9a-fA-F]{2}"
_HIGH, _LOW = rb"[89abAB]" + _UNIT, rb"[c-fC-F]" + _UNIT
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:%b(?!\\u[dD]%b)|%b(?<!\\u[dD]%b\\u[dD]%b))" % (_HIGH, _LOW, _LOW, _HIGH, _LOW),
)
_STAND_IN = rb"\\u200b"
"""What takes a lone surrogate's place, since msgspec can't hold one: an invisible that canonical text drops just so."""

_MISSING = re.compile("Object missing required field `(.*)`")
_INDEX = re.compile(r"\[\d+\]")
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
        """``hints`` are :class:`Explainer`'s."""
        self._decode = msgspec.json.Decoder(form).decode
        self._explain = Explainer(form, hints)

    def read(self, body: bytes, headers: Mapping[bytes, bytes]) -> Body:
        """The body's structure.

        Args:
            headers: by lower-case name.

        Raises:
            UnsupportedMediaType: the content type is given and isn't JSON, or the body is compressed.
            MalformedBody: not UTF-8, not JSON, or nested too deeply.
            InvalidRequest: not of this form; what follows its first fault may be anything.
        """
        content_type = headers.get(b"content-type")
        if content_type is not None and content_type != b"application/json":
            require_json(content_type)
        if b"content-encoding" in headers:
            require_identity(headers[b"content-encoding"])
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise self._refusal(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._read_mended(body)

    def _read_mended(self, body: bytes) -> Body:
        try:
            body.decode()
        except UnicodeDecodeError:
            raise MalformedBody("the body is not UTF-8") from None
        try:
            return self._decode(_mend(body))
        except msgspec.ValidationError as error:
            raise self._refusal(error) from None
        except (msgspec.DecodeError, RecursionError):
            raise MalformedBody("the body is not JSON") from None

    def _refusal(self, error: msgspec.ValidationError) -> InvalidRequest:
        message, param = self._explain(error)
        return InvalidRequest(message, param=param)


def require_json(content_type: bytes) -> None:
    """Raises UnsupportedMediaType unless this names JSON."""
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type != b"application/json" and not media_type.endswith(b"+json"):
        raise UnsupportedMediaType("the content type must be application/json")


def require_identity(content_encoding: bytes) -> None:
    """Raises UnsupportedMediaType if this names a compression."""
    if content_encoding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMediaType("the body must not be compressed: no Content-Encoding is read")


class Explainer:
    """Says in our words what is wrong with a value that is not of a form.

    msgspec's own words can quote a value, or the name of a field that we don't know; neither is repeated.
    """

    def __init__(self, form: type[msgspec.Struct], hints: Mapping[str, str]) -> None:
        """``hints``: what to say of a field whose value is not allowed, by the field's name."""
        _, schemas = msgspec.json.schema_components([form])
        self._fields = frozenset(field for schema in schemas.values() for field in schema.get("properties", ()))
        self._hints = hints

    def __call__(self, error: msgspec.ValidationError) -> tuple[str, str | None]:
        """What is wrong, and the path of the field (``texts[0].text``) or None for the whole."""
        message, path = self._split(str(error))
        if missing := _MISSING.fullmatch(message):
            return "Field required", f"{path}.{missing[1]}".removeprefix(".")
        if message.startswith("Object contains unknown field"):
            return "there is a field here that is not known", path or None
        hint = self._hints.get(path.rpartition(".")[2], "this value is not allowed")
        if message.startswith("Invalid enum value"):
            return hint, path or None
        if " of length >= 1" in message:
            return "must not be empty", path or None
        if not path:
            return "the body must be a JSON object", None
        expected = _EXPECTED.match(message)
        kinds = [_KINDS[kind] for kind in expected[1].split(" | ") if kind in _KINDS] if expected else []
        return f"must be {' or '.join(kinds)}" if kinds else hint, path

    def _split(self, said: str) -> tuple[str, str]:
        """msgspec's message, and the path that it ends with. One that an unknown field's name pretends to be is none."""
        message, _, path = said.rpartition(" - at `$")
        path = path.removesuffix("`").removeprefix(".")
        if message and self._fields.issuperset(_INDEX.sub("", path).split(".")):
            return message, path
        return said, ""


def _mend(body: bytes) -> bytes:
    """The same JSON without a byte order mark, and without lone surrogates."""
    # With each escaped backslash spelt otherwise, every backslash that is left begins an escape.
    spelt = body.removeprefix(codecs.BOM_UTF8).replace(rb"\\", rb"\u005c")
    return _LONE_SURROGATE.sub(_STAND_IN, spelt)
