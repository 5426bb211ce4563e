"""What operators do on the private port, and what the public one then no longer shows."""

import asyncio
from dataclasses import replace

import pytest

from server.core.errors import ArtifactError


def reloads_to(version: str, seen: list):
    """A loader of the same student under another version; ``seen`` gets the folders that it was asked for."""

    def load(folder, make_student):
        seen.append(folder)
        parts = make_student()
        return replace(parts, manifest=replace(parts.manifest, version=version))

    return load


async def test_a_reload_swaps_the_artefact_that_answers_name(open_guard, open_private):
    seen = []
    guard = await open_guard(reload=reloads_to("test-2", seen))
    private = open_private(guard)
    before = (await guard.check("hate")).json()["artifact"]
    reply = await private.post("/admin/reload")
    assert reply.status_code == 200
    now = reply.json()["artifact"]
    assert (now["version"], now["precision"]) == ("test-2", "fp32")
    answer = (await guard.check("hate")).json()
    assert answer["artifact"] == now
    assert (before["version"], answer["results"][0]["verdict"]) == ("test-1", "block")
    assert before["hash"] != now["hash"]
    moderation = await guard.client.post("/v1/moderations", json={"input": "hate"})
    assert moderation.json()["model"] == "stillguard-test-2"
    reply = await private.post("/admin/reload", json={"artifact": "/models/next"})
    assert reply.status_code == 200
    assert [str(folder) for folder in seen] == ["None", "/models/next"]
    assert 'stillguard_reloads_total{outcome="ok"} 2.0' in (await private.get("/metrics")).text


async def test_a_reload_that_fails_says_why_and_changes_nothing(open_guard, open_private):
    def load(folder, _make_student):
        raise ArtifactError(f"artifact {folder}: model.onnx is missing")

    guard = await open_guard(reload=load)
    reply = await open_private(guard).post("/admin/reload", json={"artifact": "/nowhere"}, headers={"x-request-id": "r1"})
    assert reply.status_code == 422
    assert reply.json() == {
        "error": {
            "message": "artifact /nowhere: model.onnx is missing",
            "type": "invalid_request_error",
            "code": "reload_failed",
            "param": None,
        },
        "id": "r1",
    }
    assert (await guard.check("hate")).json()["artifact"]["version"] == "test-1"
    assert (await guard.client.get("/readyz")).status_code == 200


async def test_a_mistake_in_loading_is_told_by_its_type_without_its_words(open_guard, open_private):
    def load(_folder, _make_student):
        raise ValueError("secret")

    guard = await open_guard(reload=load)
    reply = await open_private(guard).post("/admin/reload")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (422, "reload_failed")
    assert error["message"] == "the reload failed: ValueError; the log says where"
    assert (await guard.check("hate")).status_code == 200


async def test_one_reload_at_a_time(open_guard, open_private):
    guard = await open_guard(reload=reloads_to("test-2", []))
    private = open_private(guard)
    replies = await asyncio.gather(*(private.post("/admin/reload") for _ in range(3)))
    assert sorted(reply.status_code for reply in replies) == [200, 409, 409]
    assert {reply.json()["error"]["code"] for reply in replies if reply.status_code == 409} == {"reload_in_progress"}
    assert await guard.metric("stillguard_reloads_total", outcome="refused") == 2


@pytest.mark.parametrize(
    "body",
    [
        *("[]", "{", '{"artifact": 1}', '{"artifact": ""}', '{"folder": "/models"}'),
        *('{"shadow": 1}', '{"shadow": ""}', '{"artifact": "/a", "shadow": "/b"}', '{"artifact": null, "shadow": null}'),
    ],
)
async def test_a_misspelt_reload_does_nothing(open_guard, open_private, body):
    guard = await open_guard(reload=reloads_to("test-2", []))
    reply = await open_private(guard).post("/admin/reload", content=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")
    assert (await guard.check("hate")).json()["artifact"]["version"] == "test-1"


async def test_a_web_page_reloads_nothing(open_guard, open_private):
    guard = await open_guard(reload=reloads_to("test-2", []))
    private = open_private(guard)
    headers = {"origin": "https://elsewhere.example", "content-type": "text/plain"}
    reply = await private.post("/admin/reload", headers=headers)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "Origin")
    assert (await guard.check("hate")).json()["artifact"]["version"] == "test-1"
    assert (await private.post("/admin/reload")).status_code == 200


async def test_a_stopping_server_reloads_nothing(open_guard, open_private):
    guard = await open_guard()
    await guard.app.state.service.drain()
    reply = await open_private(guard).post("/admin/reload")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shutting_down")


async def test_metrics_are_on_one_port_only_and_health_on_both(open_guard, open_private):
    guard = await open_guard(settings={"admin_port": 0})
    private = open_private(guard)
    assert (await guard.client.get("/metrics")).status_code == 404
    assert (await guard.client.post("/admin/reload")).status_code == 404
    assert "stillguard_live_sessions 1.0" in (await private.get("/metrics")).text
    for client in (guard.client, private):
        assert (await client.get("/livez")).json() == {"status": "alive"}
        assert (await client.get("/readyz")).json() == {"status": "ready", "missing": []}
    refused = await private.post("/v1/check", json={"texts": [{"text": "hate"}]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")


async def test_the_private_port_documents_itself(open_guard, open_private):
    guard = await open_guard()
    paths = (await open_private(guard).get("/openapi.json")).json()["paths"]
    assert set(paths) == {"/livez", "/readyz", "/metrics", "/admin/reload", "/admin/drift"}
    assert {"200", "400", "409", "422", "503"} <= set(paths["/admin/reload"]["post"]["responses"])
    assert "/admin/reload" not in (await guard.client.get("/openapi.json")).json()["paths"]
