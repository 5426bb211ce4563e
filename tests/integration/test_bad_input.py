"""Every way to ask wrongly has its own clear answer, and costs nobody else theirs."""

import asyncio
import gzip
import json

import msgspec
import pytest

from server.doors.errors import ErrorReply

NATIVE, OPENAI = "/v1/check", "/v1/moderations"


def texts(*given: str) -> bytes:
    return json.dumps({"texts": [{"text": text} for text in given]}).encode()


# Each: path, body, then the status, code and param of the refusal.
BAD_BODIES = {
    "broken JSON": (NATIVE, b'{"texts": [', 400, "malformed_body", None),
    "empty body": (NATIVE, b"", 400, "malformed_body", None),
    "not UTF-8": (NATIVE, b'{"texts": [{"text": "\xff\xfe"}]}', 400, "malformed_body", None),
    "a raw surrogate in UTF-8": (NATIVE, b'{"texts": [{"text": "\xed\xa0\x80"}]}', 400, "malformed_body", None),
    "nested too deeply": (OPENAI, b'{"input": "a", "user": ' + b"[" * 100_000, 400, "malformed_body", None),
    "a number with 10,000 digits": (NATIVE, b'{"texts": ' + b"9" * 10_000 + b"}", 400, "invalid_request", "texts"),
    "a list": (NATIVE, b"[]", 400, "invalid_request", None),
    "no texts": (NATIVE, b"{}", 400, "invalid_request", "texts"),
    "zero texts": (NATIVE, texts(), 400, "invalid_request", "texts"),
    "texts is a string": (NATIVE, b'{"texts": "hello"}', 400, "invalid_request", "texts"),
    "a text is a string": (NATIVE, b'{"texts": ["hello"]}', 400, "invalid_request", "texts[0]"),
    "a text is a number": (NATIVE, b'{"texts": [{"text": "a"}, {"text": 7}]}', 400, "invalid_request", "texts[1].text"),
    "empty text": (NATIVE, texts(""), 400, "invalid_request", "texts[0].text"),
    "unknown role": (NATIVE, b'{"texts": [{"text": "a", "role": "admin"}]}', 400, "invalid_request", "texts[0].role"),
    "misspelt field": (NATIVE, b'{"texts": [{"text": "a"}], "polcy": "x"}', 400, "invalid_request", None),
    "misspelt field in a text": (NATIVE, b'{"texts": [{"text": "a", "rol": 1}]}', 400, "invalid_request", "texts[0]"),
    "a lone surrogate as a field": (NATIVE, b'{"texts": [{"text": "a", "\\ud800": 1}]}', 400, "invalid_request", "texts[0]"),
    "unknown policy": (NATIVE, b'{"texts": [{"text": "a"}], "policy": "nope"}', 400, "unknown_policy", "policy"),
    "policy is a lone surrogate": (
        NATIVE,
        b'{"texts": [{"text": "a"}], "policy": "\\ud800"}',
        400,
        "unknown_policy",
        "policy",
    ),
    "10,000 texts": (NATIVE, texts(*["a"] * 10_000), 413, "too_large", "texts"),
    "one text of 1 MB": (NATIVE, texts("a", "b" * 1_000_000), 413, "too_large", "texts[1].text"),
    "too much in all": (NATIVE, texts("a" * 90_000, "b" * 90_000, "c" * 90_000), 413, "too_large", "texts"),
    "more windows than a text may need": (NATIVE, texts("a", "ab " * 33_000), 413, "too_large", "texts[1].text"),
    "more windows than can ever wait": (NATIVE, texts(*["ab " * 12_000] * 3), 413, "too_large", None),
    "body over 2 MiB": (NATIVE, texts("a" * 3_000_000), 413, "too_large", None),
    "no input": (OPENAI, b"{}", 400, "invalid_request", "input"),
    "input is a number": (OPENAI, b'{"input": 7}', 400, "invalid_request", "input"),
    "input is empty": (OPENAI, b'{"input": ""}', 400, "invalid_request", "input"),
    "an input is empty": (OPENAI, b'{"input": ["a", ""]}', 400, "invalid_request", "input[1]"),
    "no inputs": (OPENAI, b'{"input": []}', 400, "invalid_request", "input"),
    "mixed input": (OPENAI, b'{"input": ["a", {"type": "text", "text": "b"}]}', 400, "invalid_request", "input[1]"),
    "an image": (
        OPENAI,
        b'{"input": [{"type": "image_url", "image_url": {"url": "u"}}]}',
        400,
        "invalid_request",
        "input[0].type",
    ),
    "a part without text": (OPENAI, b'{"input": [{"type": "text"}]}', 400, "invalid_request", "input[0].text"),
    "model is a number": (OPENAI, b'{"input": "a", "model": 7}', 400, "invalid_request", "model"),
    "10,000 inputs": (OPENAI, json.dumps({"input": ["a"] * 10_000}).encode(), 413, "too_large", "input"),
    "more windows than an input may need": (
        OPENAI,
        json.dumps({"input": ["a", "ab " * 33_000]}).encode(),
        413,
        "too_large",
        "input[1]",
    ),
    "an input of 1 MB": (OPENAI, json.dumps({"input": "a" * 1_000_000}).encode(), 413, "too_large", "input"),
    "broken JSON for OpenAI": (OPENAI, b"{", 400, "malformed_body", None),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_bad_body_is_refused_clearly_and_its_neighbour_is_answered(open_guard, name):
    guard = await open_guard()
    path, body, status, code, param = BAD_BODIES[name]
    bad, good = await asyncio.gather(
        guard.client.post(path, content=body, headers={"content-type": "application/json"}), guard.check("hate")
    )
    assert (bad.status_code, bad.headers["content-type"]) == (status, "application/json")
    reply = msgspec.json.decode(bad.content, type=ErrorReply)
    assert (reply.error.code, reply.error.param, reply.error.type) == (code, param, "invalid_request_error")
    assert reply.id == bad.headers["x-request-id"]
    assert good.json()["results"][0]["verdict"] == "block"
    route = "native" if path == NATIVE else "openai"
    assert await guard.metric("stillguard_requests_total", route=route, outcome="invalid") == 1


async def test_another_content_type_is_refused(open_guard):
    guard = await open_guard()
    reply = await guard.client.post(NATIVE, data={"text": "a"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_media_type")


async def test_a_compressed_body_is_refused_as_such(open_guard):
    guard = await open_guard()
    for path in (NATIVE, OPENAI):
        reply = await guard.client.post(path, content=gzip.compress(texts("hate")), headers={"content-encoding": "gzip"})
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (415, "unsupported_media_type")
        assert error["message"] == "the body must not be compressed: no Content-Encoding is read"


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"])
async def test_json_by_any_of_its_names_is_read(open_guard, content_type):
    guard = await open_guard()
    reply = await guard.client.post(NATIVE, content=texts("hate"), headers={"content-type": content_type})
    assert reply.json()["results"][0]["verdict"] == "block"


async def test_a_streamed_body_over_the_bound_is_refused_as_it_comes(open_guard):
    guard = await open_guard(settings={"max_body_bytes": 1000})
    sent = []

    async def endless():
        while True:
            sent.append(400)
            yield b" " * 400

    reply = await guard.client.post(NATIVE, content=endless())
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")
    assert sum(sent) <= 1600


async def test_odd_strings_are_checked_like_any_other(open_guard):
    guard = await open_guard()
    odd = [r"\ud800", r"h\u0000a\u0000te", r"h\u200bate \udfff", " ", r"\ufffd", "\U0001f600"]
    body = '{"texts": [' + ", ".join(f'{{"text": "{text}"}}' for text in odd) + "]}"
    reply = await guard.client.post(NATIVE, content=body.encode(), headers={"content-type": "application/json"})
    assert reply.status_code == 200, reply.text
    results = reply.json()["results"]
    assert [result["verdict"] for result in results] == ["allow", "block", "block", "allow", "allow", "allow"]
    assert [result["scanned_chars"] for result in results] == [1, 6, 7, 1, 1, 1]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", NATIVE, 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
    ],
)
async def test_the_routers_refusals_wear_the_same_envelope(open_guard, method, path, status, code):
    guard = await open_guard()
    reply = await guard.client.request(method, path)
    error = msgspec.json.decode(reply.content, type=ErrorReply).error
    assert (reply.status_code, error.code, error.type) == (status, code, "invalid_request_error")


async def test_the_error_table_is_what_openapi_says(open_guard):
    guard = await open_guard()
    paths = (await guard.client.get("/openapi.json")).json()["paths"]
    for path in (NATIVE, OPENAI):
        operation = paths[path]["post"]
        assert set(operation["responses"]) == {"200", "400", "401", "408", "413", "415", "429", "500", "503", "504"}
        assert "`queue_full`" in operation["responses"]["503"]["description"]
        for refusal in set(operation["responses"]) - {"200"}:
            content = operation["responses"][refusal]["content"]
            assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorReply"}}}
