"""OpenAPI is true of answers: each status of each route is provoked, and held against what the document says of it."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from server.app import create_private_app
from server.core.errors import ArtifactError
from server.doors import native, openai
from server.doors.feedback import PATH as FEEDBACK
from server.teacher.fake import FakeTeacher
from tests.integration.conftest import GuardOptions, build_app

ESCALATIONS, RELOAD = "/v1/escalations/{escalation_id}", "/admin/reload"
BODIES = {
    native.PATH: {"texts": [{"text": "hate"}]},
    openai.PATH: {"input": "hate"},
    FEEDBACK: {"id": "r1", "verdict": "allow"},
}
LONG = {
    native.PATH: {"texts": [{"text": "plain " * 9}]},
    openai.PATH: {"input": "plain " * 9},
    FEEDBACK: BODIES[FEEDBACK] | {"text": "plain " * 9},
}
BROKEN = {native.PATH: {"texts": [{"text": "poison"}]}, openai.PATH: {"input": "poison"}}
KEY = {"authorization": "Bearer steady-key"}
HEADERS_OF = {401: {"www-authenticate"}, 429: {"retry-after"}}

NEVER_PROVOKED = {
    ("private", "post", RELOAD, 408),
    ("private", "post", RELOAD, 500),
    ("public", "post", FEEDBACK, 500),
    ("public", "get", ESCALATIONS, 500),
}
"""A body on the private port has ten seconds to come in; and on a route that is no door nothing fails as far as we know."""


@dataclass
class Server:
    app: FastAPI
    public: httpx.AsyncClient
    private: httpx.AsyncClient
    documents: dict[str, Any]

    def client(self, port: str) -> httpx.AsyncClient:
        return self.public if port == "public" else self.private


Provocation = Callable[[Server, str], Awaitable[httpx.Response]]


@pytest.fixture
async def serve(tmp_path) -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    """``await serve(**GuardOptions)``: a started server, and a client to each of its ports."""
    async with AsyncExitStack() as stack:

        async def start(*, is_gated: bool = False, **options: Any) -> Server:
            gate = threading.Event()
            stack.callback(gate.set)
            if not is_gated:
                gate.set()
            app = build_app(GuardOptions(**options), gate, threading.Event())
            await stack.enter_async_context(app.router.lifespan_context(app))
            private = create_private_app(app.state.service, app.state.metrics)
            clients = []
            for one in (app, private):
                transport = httpx.ASGITransport(one, raise_app_exceptions=False)
                clients.append(await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://guard")))
            return Server(app, *clients, {"public": app.openapi(), "private": private.openapi()})

        yield start


def keys_file(folder: Path) -> Path:
    path = folder / "keys.toml"
    path.write_text(f'[steady]\nsha256 = "{hashlib.sha256(b"steady-key").hexdigest()}"\nrequests_per_s = 0.001\n')
    return path


def asked(method: str = "post", **more: Any) -> Provocation:
    async def ask(server: Server, path: str) -> httpx.Response:
        fields = {} if method == "get" or more.keys() & {"json", "content"} else {"json": BODIES[path]}
        return await server.public.request(method, path, **fields | more)

    return ask


async def asked_twice(server: Server, path: str) -> httpx.Response:
    fields = {} if path == ESCALATIONS else {"json": BODIES[path]}
    ask = server.public.get if path == ESCALATIONS else server.public.post
    await ask(path, headers=KEY, **fields)
    return await ask(path, headers=KEY, **fields)


async def beside_a_half_sent_body(server: Server, path: str) -> httpx.Response:
    """The other one holds what budget there is."""
    held = asyncio.Event()

    async def half():
        yield b"{"
        held.set()
        await asyncio.Event().wait()

    async def pieces():
        yield b"{"
        yield b"}"

    client = server.private if path == RELOAD else server.public
    other = asyncio.create_task(client.post(path, content=half()))
    await held.wait()
    reply = await client.post(path, content=pieces())
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    return reply


async def half_sent(server: Server, path: str) -> httpx.Response:
    async def half():
        yield b"{"
        await asyncio.Event().wait()

    return await server.public.post(path, content=half())


async def corrected(server: Server, path: str) -> httpx.Response:
    await server.public.post(native.PATH, json=BODIES[native.PATH], headers={"x-request-id": "r1"})
    return await server.public.post(path, json=BODIES[path])


async def polled(server: Server, _path: str) -> httpx.Response:
    reply = await server.public.post(native.PATH, json={"texts": [{"text": "violence=0.4"}]})
    return await server.public.get(f"/v1/escalations/{reply.json()['results'][0]['escalation']['id']}")


def reloaded(**more: Any) -> Provocation:
    return lambda server, path: server.private.post(path, **more)


async def reloaded_twice_at_once(server: Server, path: str) -> httpx.Response:
    replies = await asyncio.gather(*(server.private.post(path) for _ in range(2)))
    return max(replies, key=lambda reply: reply.status_code)


async def reloaded_when_stopping(server: Server, path: str) -> httpx.Response:
    await server.app.state.service.drain()
    return await server.private.post(path)


def got(port: str) -> Provocation:
    return lambda server, path: server.client(port).get(path)


def got_when_stopping(port: str) -> Provocation:
    async def get(server: Server, path: str) -> httpx.Response:
        await server.app.state.service.drain()
        return await server.client(port).get(path)

    return get


def fails_with(error: Exception) -> dict[str, Any]:
    def load(_folder, _make_student):
        raise error

    return {"reload": load}


def of_door(path: str) -> dict[tuple[str, str, str, int], tuple[Provocation, dict[str, Any]]]:
    cases = {
        200: (asked(), {}),
        400: (asked(json={}), {}),
        401: (asked(), {"keys": True}),
        413: (asked(json=LONG[path]), {"settings": {"max_text_chars": 9}}),
        415: (asked(content=b"{}", headers={"content-encoding": "gzip"}), {}),
        429: (asked_twice, {"keys": True}),
        500: (asked(json=BROKEN.get(path)), {"classifier": {"failures": {"poison": "raise"}}}),
        503: (beside_a_half_sent_body, {"settings": {"read_max_bytes": 1}}),
        408: (half_sent, {"settings": {"request_timeout_s": 0.02}}),
        504: (asked(headers={"x-request-timeout-s": "1e-9"}), {}),
    }
    return {("public", "post", path, status): case for status, case in cases.items()}


def of_feedback() -> dict[tuple[str, str, str, int], tuple[Provocation, dict[str, Any]]]:
    cases = {key: (provoke, options | {"log": True}) for key, (provoke, options) in of_door(FEEDBACK).items()}
    own = {202: (corrected, {"log": True}), 404: (asked(), {"log": True}), 409: (asked(), {})}
    cases |= {("public", "post", FEEDBACK, status): case for status, case in own.items()}
    return {key: case for key, case in cases.items() if key[3] not in (200, 500, 504)}


ASYNC = {"teacher": FakeTeacher(), "policy": {"mode": "async"}}
CASES: dict[tuple[str, str, str, int], tuple[Provocation, dict[str, Any]]] = {
    **of_door(native.PATH),
    **of_door(openai.PATH),
    **of_feedback(),
    ("public", "get", ESCALATIONS, 200): (polled, ASYNC),
    ("public", "get", ESCALATIONS, 401): (asked("get"), {"keys": True}),
    ("public", "get", ESCALATIONS, 404): (asked("get"), {}),
    ("public", "get", ESCALATIONS, 429): (asked_twice, {"keys": True}),
    ("private", "post", RELOAD, 200): (reloaded(), {}),
    ("private", "post", RELOAD, 400): (reloaded(content=b"[]"), {}),
    ("private", "post", RELOAD, 409): (reloaded_twice_at_once, {}),
    ("private", "post", RELOAD, 413): (reloaded(content=b" " * 100_000), {}),
    ("private", "post", RELOAD, 422): (reloaded(), fails_with(ArtifactError("no such folder"))),
    ("private", "post", RELOAD, 503): (reloaded_when_stopping, {}),
    ("private", "get", "/admin/drift", 200): (got("private"), {}),
}
for port in ("public", "private"):
    CASES |= {(port, "get", path, 200): (got(port), {}) for path in ("/livez", "/readyz", "/metrics")}
    CASES[port, "get", "/readyz", 503] = (got_when_stopping(port), {})


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
async def test_an_answer_is_what_the_document_says(serve, tmp_path, case):
    port, method, path, status = case
    provoke, options = CASES[case]
    options = dict(options)
    settings = options.pop("settings", {})
    if options.pop("keys", False):
        settings = settings | {"api_keys_file": keys_file(tmp_path)}
    if options.pop("log", False):
        settings = settings | {"feedback_dir": tmp_path / "log", "feedback_keep_text": True}
    server = await serve(settings=settings, **options)
    async with asyncio.timeout(60):
        reply = await provoke(server, path)
    assert reply.status_code == status, reply.text
    document = server.documents[port]
    operation = document["paths"][path][method]
    described = operation["responses"][str(status)]
    kind = reply.headers["content-type"].partition(";")[0]
    assert kind in described["content"]
    if kind == "application/json":
        schema = described["content"][kind]["schema"] | {"components": document["components"]}
        Draft202012Validator(schema).validate(reply.json())
    if "error" in (reply.json() if kind == "application/json" else {}):
        assert f"`{reply.json()['error']['code']}`" in described["description"]
    named = {name.lower() for name in described["headers"]}
    assert named >= {"x-request-id", *HEADERS_OF.get(status, ())}
    assert set(reply.headers) - {"content-type", "content-length"} <= named
    if "api_keys_file" in settings:
        assert operation["security"] == [{"key": []}]


async def test_every_answer_that_the_document_shows_is_held_against_one(serve):
    server = await serve()
    shown = {
        (port, method, path, int(status))
        for port, document in server.documents.items()
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for status in operation["responses"]
    }
    assert shown == CASES.keys() | NEVER_PROVOKED


async def test_the_bounds_are_those_of_the_settings(serve):
    bounds = {"max_texts": 7, "max_text_chars": 70, "max_request_chars": 77, "max_body_bytes": 777}
    document = (await serve(settings=bounds)).documents["public"]
    schemas = document["components"]["schemas"]
    assert schemas["CheckRequest"]["properties"]["texts"]["maxItems"] == 7
    assert schemas["TextToCheck"]["properties"]["text"]["maxLength"] == 70
    assert schemas["FeedbackRequest"]["properties"]["text"]["maxLength"] == 70
    string, strings, parts = schemas["ModerationRequest"]["properties"]["input"]["anyOf"]
    assert (string["maxLength"], strings["maxItems"], strings["items"]["maxLength"], parts["maxItems"]) == (70, 7, 70, 7)
    for field in (schemas["CheckRequest"]["properties"]["texts"], schemas["ModerationRequest"]["properties"]["input"]):
        assert "77 characters in all" in field["description"]
    for path in (native.PATH, openai.PATH, FEEDBACK):
        assert "at most 777 bytes" in document["paths"][path]["post"]["requestBody"]["description"]
