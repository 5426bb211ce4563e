"""What operators see after known traffic, and what they must never see."""

import json

import httpx

from server.inference.classifier import Checkpoint, Window
from server.teacher.fake import FakeTeacher

CANARY = "canary7f3a"


async def test_metrics_add_up_after_known_traffic(open_guard):
    guard = await open_guard(teacher=FakeTeacher({"knife": 0.9}))
    await guard.check("hate sexual", "plain")
    await guard.check("knife violence=0.5")
    await guard.client.post("/v1/moderations", json={"input": "hate"})
    await guard.client.post("/v1/moderations", json={"input": ""})
    guard.teacher.fails_with = "error"
    await guard.check("violence=0.6")
    values = {
        ("stillguard_requests_total", "native", "ok"): 3,
        ("stillguard_requests_total", "native", "invalid"): 0,
        ("stillguard_requests_total", "openai", "ok"): 1,
        ("stillguard_requests_total", "openai", "invalid"): 1,
    }
    for (name, route, outcome), value in values.items():
        assert await guard.metric(name, route=route, outcome=outcome) == value
    for verdict, decided_by, count in [
        ("block", "student", 2),
        ("allow", "student", 1),
        ("block", "teacher", 1),
        ("block", "student_degraded", 1),
        ("review", "student", 0),
    ]:
        assert await guard.metric("stillguard_verdicts_total", verdict=verdict, decided_by=decided_by) == count
    for category, decided_by, count in [("hate", "student", 2), ("sexual", "student", 1), ("violence", "teacher", 1)]:
        assert await guard.metric("stillguard_flagged_total", category=category, decided_by=decided_by) == count
    assert await guard.metric("stillguard_escalations_total", outcome="answered") == 1
    assert await guard.metric("stillguard_escalations_total", outcome="error") == 1
    for stage, count in {"encode": 4, "queue": 4, "infer": 4, "total": 4, "teacher": 2}.items():
        assert await guard.metric("stillguard_stage_seconds_count", stage=stage) == count
    assert await guard.metric("stillguard_batch_items_sum") == 5
    assert await guard.metric("stillguard_batch_tokens_sum") == 5 * 2 + 2 + 1 + 2 + 1 + 1
    assert await guard.metric("stillguard_queue_tokens") == 0
    assert await guard.metric("stillguard_ready") == 1
    scrape = (await guard.client.get("/metrics")).text
    assert 'policies="default@1,other@7"' in scrape
    assert 'artifact_version="test-1"' in scrape
    assert "process_cpu_seconds_total" in scrape


class QuotingEncoder:
    """An encoder with the worst of manners: fails, and quotes the text."""

    def encode(self, text: str, _checkpoint: Checkpoint | None = None) -> list[Window]:
        raise ValueError(f"can't read {text}")


async def test_an_unforeseen_error_says_nothing_of_the_text(open_guard, log_lines):
    guard = await open_guard(encoder=QuotingEncoder())
    reply = await guard.check(CANARY)
    assert reply.status_code == 500
    assert reply.json() == {
        "error": {
            "message": "unexpected error; the server's log has more under this id",
            "type": "server_error",
            "code": "internal_error",
            "param": None,
        },
        "id": reply.headers["x-request-id"],
    }
    (line,) = [line for line in log_lines() if line["level"] == "error"]
    assert (line["error"], line["request_id"]) == ("ValueError", reply.json()["id"])
    assert "encode" in line["frames"][-1]
    assert CANARY not in json.dumps(log_lines())
    assert await guard.metric("stillguard_requests_total", route="native", outcome="failed") == 1


async def test_an_unforeseen_error_on_a_route_that_is_no_door_is_answered_and_counted_too(open_guard):
    guard = await open_guard()
    guard.app.add_api_route("/fails", lambda: 1 / 0)
    unforeseen = httpx.ASGITransport(guard.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=unforeseen, base_url="http://guard") as client:
        reply = await client.get("/fails")
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert await guard.metric("stillguard_errors_total", code="internal_error") == 1


async def test_no_text_gets_into_logs_errors_or_metrics(open_guard, log_lines):
    guard = await open_guard(
        teacher=FakeTeacher(fails_with="error"),
        classifier={"failures": {"poison": "raise", "hole": "nan", "venom": "die"}},
        settings={"max_text_chars": 1000},
    )
    errors = [
        await guard.check(f"{CANARY} poison"),
        await guard.check(f"{CANARY} hole"),
        await guard.check(f"{CANARY} venom"),
        await guard.check(CANARY, policy=CANARY),
        await guard.check(CANARY, **{CANARY: 1}),
        await guard.check(CANARY * 1000),
        await guard.client.post("/v1/check", json={"texts": [{"text": CANARY, "role": CANARY, CANARY: CANARY}]}),
        await guard.client.post("/v1/check", json={"texts": CANARY}),
        await guard.client.post("/v1/check", content=f'{{"{CANARY}'.encode()),
        await guard.client.post("/v1/check", content=b"{}", headers={"content-type": CANARY}),
        await guard.client.post("/v1/moderations", json={"input": [{"type": CANARY, "text": CANARY}]}),
        await guard.client.post("/v1/moderations", json={"input": CANARY}, headers={"x-stillguard-policy": CANARY}),
        await guard.client.get(f"/{CANARY}"),
    ]
    assert [reply.status_code for reply in errors] == [500] * 3 + [400, 400, 413, 400, 400, 400, 415, 400, 400, 404]
    answered = [
        await guard.check(f"{CANARY} violence=0.6"),
        await guard.client.post("/v1/moderations", json={"input": f"{CANARY} hate"}),
    ]
    assert [reply.status_code for reply in answered] == [200, 200]
    for reply in errors + answered:
        assert CANARY not in reply.text
        assert CANARY not in str(reply.headers)
    assert CANARY not in (await guard.client.get("/metrics")).text
    assert any("died" in line["event"] for line in log_lines())
    assert CANARY not in json.dumps(log_lines())
