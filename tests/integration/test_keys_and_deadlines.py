"""Who may ask, how often, and by when: the headers that every door heeds."""

import asyncio
import hashlib

import pytest

NATIVE, OPENAI = "/v1/check", "/v1/moderations"
BODIES = {NATIVE: {"texts": [{"text": "hate"}]}, OPENAI: {"input": "hate"}}
ROUTES = {NATIVE: "native", OPENAI: "openai"}


@pytest.fixture
def keys_file(tmp_path):
    """Two keys: ``swift`` without a limit, ``steady`` with one request an hour."""
    path = tmp_path / "keys.toml"
    swift, steady = (hashlib.sha256(key).hexdigest() for key in (b"swift-key", b"steady-key"))
    path.write_text(f'[swift]\nsha256 = "{swift}"\n[steady]\nsha256 = "{steady}"\nrequests_per_s = 0.00028\n')
    return path


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [(NATIVE, "authentication_error", "unauthorized"), (OPENAI, "invalid_request_error", "invalid_api_key")],
)
async def test_without_a_known_key_nothing_is_read(open_guard, keys_file, path, kind, code):
    guard = await open_guard(settings={"api_keys_file": keys_file})
    for headers in ({}, bearer("canary7f3a")):
        reply = await guard.client.post(path, content=b"not even JSON", headers=headers)
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert reply.json() == {
            "error": {
                "message": "a valid API key is needed: Authorization: Bearer <key>",
                "type": kind,
                "code": code,
                "param": None,
            },
            "id": reply.headers["x-request-id"],
        }
    assert await guard.metric("stillguard_requests_total", route=ROUTES[path], outcome="unauthorized") == 2
    assert await guard.metric("stillguard_errors_total", code="unauthorized") == 2
    assert (await guard.client.post(path, json=BODIES[path], headers=bearer("swift-key"))).status_code == 200


@pytest.mark.parametrize(
    ("path", "kind", "code"), [(NATIVE, "rate_limit_error", "rate_limited"), (OPENAI, "requests", "rate_limit_exceeded")]
)
async def test_a_key_over_its_rate_waits_and_its_neighbour_does_not(open_guard, keys_file, path, kind, code):
    guard = await open_guard(settings={"api_keys_file": keys_file})

    async def ask(key: str):
        return await guard.client.post(path, json=BODIES[path], headers=bearer(key))

    assert (await ask("steady-key")).status_code == 200
    limited = await ask("steady-key")
    assert (limited.status_code, limited.json()["error"]["type"], limited.json()["error"]["code"]) == (429, kind, code)
    assert 3500 < int(limited.headers["retry-after"]) <= 3600
    assert [(await ask("swift-key")).status_code for _ in range(3)] == [200] * 3
    assert await guard.metric("stillguard_requests_total", route=ROUTES[path], outcome="limited") == 1
    assert await guard.metric("stillguard_requests_total", route=ROUTES[path], outcome="ok") == 4


async def test_probes_and_metrics_need_no_key(open_guard, keys_file):
    guard = await open_guard(settings={"api_keys_file": keys_file})
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
        assert (await guard.client.get(path)).status_code == 200
    assert (await guard.client.get("/v1/escalations/unknown")).status_code == 401
    assert (await guard.client.get("/v1/escalations/unknown", headers=bearer("swift-key"))).status_code == 404


async def test_openapi_says_whether_a_key_is_needed(open_guard, keys_file):
    guarded, open_to_all = await open_guard(settings={"api_keys_file": keys_file}), await open_guard()
    schema = (await guarded.client.get("/openapi.json")).json()
    assert schema["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert [schema["paths"][path]["post"]["security"] for path in (NATIVE, OPENAI)] == [[{"key": []}]] * 2
    assert "security" not in (await open_to_all.client.get("/openapi.json")).json()["paths"][NATIVE]["post"]


@pytest.mark.parametrize("path", [NATIVE, OPENAI])
async def test_a_request_ends_by_the_deadline_that_it_brings_and_leaves_nothing_running(open_guard, path):
    guard = await open_guard(is_gated=True)
    reply = await guard.client.post(path, json=BODIES[path], headers={"X-Request-Timeout-S": "0.05"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert await guard.metric("stillguard_requests_total", route=ROUTES[path], outcome="expired") == 1
    assert await guard.metric("stillguard_dropped_items_total", reason="expired") == 1
    assert await guard.metric("stillguard_queue_items") == 0


async def unfinished():
    yield b'{"texts":'
    await asyncio.Event().wait()


@pytest.mark.parametrize(("body", "status"), [(lambda: b'{"texts": [{"text": "hate"}]}', 504), (unfinished, 408)])
async def test_the_knob_bounds_what_a_request_may_ask_for(open_guard, body, status):
    guard = await open_guard(is_gated=True, settings={"request_timeout_s": 0.05})
    async with asyncio.timeout(60):
        reply = await guard.client.post(NATIVE, content=body(), headers={"X-Request-Timeout-S": "3600"})
    assert reply.status_code == status


async def test_a_deadline_that_is_far_enough_changes_nothing(open_guard):
    guard = await open_guard()
    for timeout in ("30", "59.5", "1e9", "inf"):
        reply = await guard.client.post(NATIVE, json=BODIES[NATIVE], headers={"X-Request-Timeout-S": timeout})
        assert reply.status_code == 200


@pytest.mark.parametrize("asked", ["soon", "0", "-1", "nan", "", "1s", "1,5"])
async def test_a_deadline_that_is_none_is_refused(open_guard, asked):
    guard = await open_guard()
    reply = await guard.client.post(NATIVE, json=BODIES[NATIVE], headers={"X-Request-Timeout-S": asked})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_request", "X-Request-Timeout-S")
    assert error["message"] == "must be a number of seconds above 0"


async def test_a_deadline_ends_the_wait_for_a_body_too(open_guard):
    guard = await open_guard()
    reply = await guard.client.post(NATIVE, content=unfinished(), headers={"X-Request-Timeout-S": "0.05"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (408, "body_too_slow")
    assert await guard.metric("stillguard_requests_total", route="native", outcome="invalid") == 1, "no failure of the server's"


async def test_a_text_of_too_many_windows_is_refused_whole(open_guard):
    guard = await open_guard(settings={"max_windows": 3})
    fits, over = "plain " * 80, "plain " * 81  # 32 words in a window, of which 8 are shared
    assert (await guard.result(fits))["windows"] == 3
    reply = await guard.check(fits, over)
    assert reply.status_code == 413
    assert reply.json()["error"] == {
        "message": "the text needs more than 3 windows of the model, over both views",
        "type": "invalid_request_error",
        "code": "too_large",
        "param": "texts[1].text",
    }
    assert await guard.metric("stillguard_requests_total", route="native", outcome="invalid") == 1


async def test_a_text_that_grows_too_long_under_nfkc_is_refused(open_guard):
    """U+FDFA becomes 18 characters; of 1,000 characters a request may become 2,000."""
    guard = await open_guard(settings={"max_text_chars": 1_000, "max_request_chars": 1_000})
    assert (await guard.result("\ufdfa" * 50))["verdict"] == "allow"
    reply = await guard.check("plain", "\ufdfa" * 200)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (413, "too_large", "texts[1].text")
    assert error["message"] == "the texts have more than 2000 characters in Unicode's form NFKC"


@pytest.mark.parametrize("path", [NATIVE, OPENAI])
async def test_an_answer_names_its_request_its_artefact_and_its_policy(open_guard, path):
    guard = await open_guard()
    reply = await guard.client.post(path, json=BODIES[path], headers={"x-request-id": "abc-1"})
    body = reply.json()
    made_by = body if path == NATIVE else body["stillguard"]
    assert reply.headers["x-request-id"] == "abc-1"
    assert body["id"].endswith("abc-1")
    assert made_by["artifact"]["version"] == "test-1"
    assert len(made_by["artifact"]["hash"]) == 64
    assert made_by["policy"] == {"id": "default", "version": "1"}
