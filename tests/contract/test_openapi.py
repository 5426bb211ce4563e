"""OpenAPI is true: what it says of a body is what the doors do with one, and what they answer is what it shows."""

import json
import threading
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from server.core.errors import InvalidRequest, TextTooLarge
from server.core.taxonomy import CATEGORIES
from server.doors import native, openai
from server.doors.door import DoorLimits
from server.doors.wire import BodyReader
from tests.integration.conftest import GuardOptions, build_app

LIMITS = DoorLimits(max_body_bytes=10**6, max_texts=100, max_text_chars=10**5, max_request_chars=10**6, request_timeout_s=60.0)
DIALECTS = {native.PATH: native.NativeDialect(LIMITS), openai.PATH: openai.OpenAIDialect(LIMITS)}

strings = st.sampled_from(["", "a", "text", "image_url", "user", "assistant", "system", "😀"])
scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False, allow_infinity=False) | strings
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3))
texts = st.fixed_dictionaries({"text": strings | scalars}, optional={"role": strings | scalars, "note": scalars})
parts = st.fixed_dictionaries({"type": st.just("text") | strings, "text": strings | scalars}, optional={"note": scalars})
BODIES = {
    native.PATH: st.fixed_dictionaries(
        {}, optional={"texts": st.lists(texts, max_size=3) | values, "policy": strings | scalars, "model": scalars}
    ),
    openai.PATH: st.fixed_dictionaries(
        {},
        optional={
            "input": strings | st.lists(strings, max_size=3) | st.lists(parts, max_size=3) | st.lists(parts | strings) | values,
            "model": strings | scalars,
            "user": values,
        },
    ),
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build_app(GuardOptions(), threading.Event(), threading.Event()).openapi()


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema | {"components": document["components"]})


def is_read(path: str, body: Any) -> bool:
    dialect = DIALECTS[path]
    try:
        dialect.read(BodyReader(dialect.form, hints=dialect.hints).read(json.dumps(body).encode(), {}), {})
    except TextTooLarge:
        raise
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("path", DIALECTS)
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_body_is_read_if_and_only_if_its_schema_allows_it(document, path, data):
    body = data.draw(BODIES[path] | values)
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert is_read(path, body) == validator(document, schema).is_valid(body)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (native.PATH, {"texts": [{"text": "violence=0.6"}, {"text": "plain", "role": "assistant"}]}, 200),
        (openai.PATH, {"input": ["violence=0.6", "hate"], "model": "any"}, 200),
        (native.PATH, {}, 400),
        (openai.PATH, {"input": []}, 400),
        (native.PATH, {"texts": [{"text": "a" * 200_000}]}, 413),
    ],
)
async def test_an_answer_is_of_the_form_that_its_schema_shows(document, path, body, status):
    gate = threading.Event()
    gate.set()
    app = build_app(GuardOptions(), gate, threading.Event())
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://guard") as client,
    ):
        reply = await client.post(path, json=body)
    assert reply.status_code == status
    content = document["paths"][path]["post"]["responses"][str(status)]["content"]
    assert list(content) == [reply.headers["content-type"]]
    validator(document, content["application/json"]["schema"]).validate(reply.json())


def test_every_reference_leads_somewhere(document):
    def references(node: Any):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from references(child)

    named = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert {"CheckRequest", "ModerationReply", "ErrorReply", "DeferredReply"} <= named
    assert named <= set(document["components"]["schemas"])


def test_the_document_says_what_a_reader_needs(document):
    role = document["components"]["schemas"]["TextToCheck"]["properties"]["role"]
    assert (role["enum"], role["default"]) == (["assistant", "user"], "user")
    headers = {parameter["name"] for parameter in document["paths"][openai.PATH]["post"]["parameters"]}
    assert headers == {"X-Request-Timeout-S", "X-Request-Id", "X-Stillguard-Policy"}
    scores = document["components"]["schemas"]["ResultReply"]["properties"]["scores"]
    assert (list(scores["properties"]), scores["required"]) == (list(CATEGORIES), list(CATEGORIES))
    named = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert {"check", "create_moderation", "correct_verdict", "find_escalation"} < set(named)
    assert len(named) == len(set(named))
