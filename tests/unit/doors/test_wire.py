"""JSON in: what is read, what is refused, and that a refusal names the field and quotes nothing."""

import json
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest
from server.doors.errors import MalformedBody, UnsupportedMediaType
from server.doors.wire import BodyReader


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(min_length=1)]
    role: Literal["user", "assistant"] = "user"


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    texts: Annotated[list[Inner], msgspec.Meta(min_length=1)]
    policy: str | None = None


READER = BodyReader(Outer, hints={"role": "must be user or assistant"})


def read(body: bytes, content_type: bytes | None = None) -> Outer:
    return READER.read(body, content_type)


def test_a_right_body_is_read():
    body = read(b'{"texts": [{"text": "a"}, {"text": "b", "role": "assistant"}], "policy": "p"}')
    assert body == Outer([Inner("a"), Inner("b", "assistant")], "p")


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ("[]", "the body must be a JSON object", None),
        ("{}", "Field required", "texts"),
        ('{"texts": [{"role": "user"}]}', "Field required", "texts[0].text"),
        ('{"texts": []}', "must not be empty", "texts"),
        ('{"texts": [{"text": ""}]}', "must not be empty", "texts[0].text"),
        ('{"texts": "x"}', "must be an array", "texts"),
        ('{"texts": ["x"]}', "must be an object", "texts[0]"),
        ('{"texts": [{"text": "a"}, {"text": 7}]}', "must be a string", "texts[1].text"),
        ('{"texts": [{"text": "a"}], "policy": 7}', "must be a string or null", "policy"),
        ('{"texts": [{"text": "a", "role": "x"}]}', "must be user or assistant", "texts[0].role"),
        ('{"texts": [{"text": "a", "role": "\\ud800"}]}', "must be user or assistant", "texts[0].role"),
        ('{"texts": [{"text": "a"}], "x": 1}', "there is a field here that is not known", None),
        ('{"texts": [{"text": "a", "\\ud800": 1}]}', "there is a field here that is not known", "texts[0]"),
        ('{"texts": [{"text": "a"}], "x` - at `$.secret": 1}', "there is a field here that is not known", None),
        ('{"texts": [{"text": "a", "role": "x` - at `$.secret"}]}', "must be user or assistant", "texts[0].role"),
    ],
)
def test_a_wrong_one_is_refused_by_its_field(body, message, param):
    with pytest.raises(InvalidRequest) as caught:
        read(body.encode())
    assert (str(caught.value), caught.value.param) == (message, param)
    assert type(caught.value) is InvalidRequest


@pytest.mark.parametrize("body", [b"", b"{", b'{"texts": [}', b"\xff", b'{"texts": "\xed\xa0\x80"}', b"[" * 100_000])
def test_what_is_no_json_is_malformed(body):
    with pytest.raises(MalformedBody):
        read(body)


def test_lone_surrogates_are_read_as_what_canonical_text_drops_too():
    (inner,) = read(rb'{"texts": [{"text": "a\ud800b\ud83d\ude00"}]}').texts
    assert inner.text == "a\u200bb😀"


@pytest.mark.parametrize(
    "content_type", [None, b"application/json", b"Application/JSON; charset=utf-8", b"application/vnd.x+json"]
)
def test_json_by_any_of_its_names_is_read(content_type):
    assert read(b'{"texts": [{"text": "a"}]}', content_type).texts == [Inner("a")]


@pytest.mark.parametrize("content_type", [b"text/plain", b"application/x-www-form-urlencoded", b""])
def test_another_content_type_is_refused(content_type):
    with pytest.raises(UnsupportedMediaType):
        read(b'{"texts": [{"text": "a"}]}', content_type)


CANARY = "canary7f3a"
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.just(CANARY)
names = st.sampled_from(["texts", "text", "role", "policy", CANARY, f"{CANARY}` - at `$.{CANARY}"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
inners = st.fixed_dictionaries({"text": st.text(max_size=2) | scalars}, optional={"role": st.just("user") | scalars})
outers = st.fixed_dictionaries({"texts": st.lists(inners | values, max_size=3) | values}, optional={"policy": values})


def refusal(value: object) -> InvalidRequest | None:
    try:
        read(json.dumps(value).encode())
    except InvalidRequest as error:
        return error
    return None


@given(outers | values)
def test_no_refusal_quotes_the_request(value):
    error = refusal(value)
    assert CANARY not in f"{error} {getattr(error, 'param', None)}"
