"""JSON in: what is read, what is refused, and that a refusal names the field and quotes nothing."""

import json
import re
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
    return READER.read(body, {} if content_type is None else {b"content-type": content_type})


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
        ('{"texts": [{"text": "a"}], "x` - at `$.texts[0].secret": 1}', "there is a field here that is not known", None),
        ('{"texts": [{"text": "a", "role": "x` - at `$.secret"}]}', "must be user or assistant", "texts[0].role"),
    ],
)
def test_a_wrong_one_is_refused_by_its_field(body, message, param):
    with pytest.raises(InvalidRequest) as caught:
        read(body.encode())
    assert (str(caught.value), caught.value.param) == (message, param)
    assert type(caught.value) is InvalidRequest


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b'{"texts": [}', "the body is not JSON"),
        (b'{"texts": [{"text": "a"}], "policy": NaN}', "the body is not JSON"),
        (b'{"texts": [{"text": "a\\ud8', "the body is not JSON"),
        (b"\xff", "the body is not UTF-8"),
        (b'{"texts": [{"text": "\xed\xa0\x80"}]}', "the body is not UTF-8"),
        ('{"texts": [{"text": "a"}]}'.encode("utf-16"), "the body is not UTF-8"),
    ],
)
def test_what_is_no_json_is_malformed(body, message):
    with pytest.raises(MalformedBody, match=f"^{message}$"):
        read(body)


def test_what_is_nested_too_deeply_is_malformed():
    class Lenient(msgspec.Struct):
        text: str

    with pytest.raises(MalformedBody):
        BodyReader(Lenient, hints={}).read(b'{"text": "a", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {})


@pytest.mark.parametrize("wrong", [b"{}", b"[]", b"0"])
def test_the_first_fault_is_the_answer_and_what_follows_it_is_not_read(wrong):
    with pytest.raises(InvalidRequest) as caught:
        read(b'{"texts": [{"text": "a"}, ' + wrong + b", \xff no JSON at all")
    assert type(caught.value) is InvalidRequest
    assert caught.value.param in ("texts[1]", "texts[1].text")


def test_a_byte_order_mark_is_passed_over():
    assert read('{"texts": [{"text": "é"}]}'.encode("utf-8-sig")).texts == [Inner("é")]


units = st.sampled_from(
    ["\\\\", "\\n", '\\"', "\\u0041", "\\uD800", "\\ud83d", "\\uDE00", "\\udFfF", "u", "d800", "ud800", "é"]
)


@given(st.lists(units, max_size=8).map("".join))
def test_what_is_read_is_what_the_standard_library_reads_but_for_lone_surrogates(written):
    body = f'{{"texts": [{{"text": "a{written}"}}]}}'
    expected = json.loads(body)["texts"][0]["text"]
    assert read(body.encode()).texts[0].text == re.sub("[\ud800-\udfff]", "\u200b", expected)


def test_lone_surrogates_are_read_as_what_canonical_text_drops_too():
    (inner,) = read(rb'{"texts": [{"text": "a\ud800b\ud83d\ude00"}]}').texts
    assert inner.text == "a\u200bb😀"


@pytest.mark.parametrize(
    "content_type", [None, b"application/json", b"Application/JSON; charset=utf-8", b"application/vnd.x+json"]
)
def test_json_by_any_of_its_names_is_read(content_type):
    assert read(b'{"texts": [{"text": "a"}]}', content_type).texts == [Inner("a")]


@pytest.mark.parametrize("coding", [b"gzip", b"identity, br", b"GZIP"])
def test_a_compressed_body_is_refused_as_such(coding):
    with pytest.raises(UnsupportedMediaType, match="must not be compressed"):
        READER.read(b"\x1f\x8b", {b"content-encoding": coding})
    assert READER.read(b'{"texts": [{"text": "a"}]}', {b"content-encoding": b"Identity"}).texts == [Inner("a")]


@pytest.mark.parametrize("content_type", [b"text/plain", b"application/x-www-form-urlencoded", b""])
def test_another_content_type_is_refused(content_type):
    with pytest.raises(UnsupportedMediaType):
        read(b'{"texts": [{"text": "a"}]}', content_type)


CANARY = "canary7f3a"
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.just(CANARY)
forged = [f"{CANARY}` - at `$.{CANARY}", f"{CANARY}` - at `$.texts[0].{CANARY}"]
names = st.sampled_from(["texts", "text", "role", "policy", CANARY, *forged])
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
