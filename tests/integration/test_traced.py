"""A traced server: its spans, and that nobody's text or key gets into any output."""

import json
import subprocess
import sys
import threading
from contextlib import asynccontextmanager

import httpx
import pytest

from server.inference.fake import FakeEncoder
from server.teacher.fake import FakeTeacher
from tests.otlp import attributes, otlp_receiver

CANARY = "canary7f3a"
POISON = {"poison": "raise"}
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class QuotingEncoder(FakeEncoder):
    """Fails on some texts, and quotes them."""

    def encode(self, text, checkpoint=None):
        if "quote" in text:
            raise ValueError(f"can't read {text}")
        return super().encode(text, checkpoint)


@pytest.fixture
def collector():
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
def traced_client(fake_app, collector):
    """``async with traced_client(**GuardOptions) as client``: a traced server, stopped and its spans sent after it."""

    @asynccontextmanager
    async def serve(**options):
        gate, entered = threading.Event(), threading.Event()
        gate.set()
        app = fake_app(gate=gate, entered=entered, settings={"otlp_endpoint": collector.url}, **options)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://guard") as client:
            yield client

    return serve


async def test_a_request_is_traced_with_what_became_of_it(traced_client, collector):
    async with traced_client(teacher=FakeTeacher({"knife": 0.9})) as client:
        reply = await client.post(
            "/v1/check",
            json={"texts": [{"text": "knife violence=0.5"}, {"text": "fine"}]},
            headers={"traceparent": CALLER, "x-request-id": "r1"},
        )
        assert reply.status_code == 200
        await client.get("/readyz")
    assert sorted(span.name for span in collector.spans) == ["POST /v1/check", "encode", "infer", "queue", "teacher"]
    (request,) = collector.named("POST /v1/check")
    told = attributes(request)
    assert (told["stillguard.request_id"], told["stillguard.texts"], told["stillguard.blocked"]) == ("r1", 2, 1)
    assert {span.trace_id.hex() for span in collector.spans} == {CALLER.split("-")[1]}


async def test_no_text_and_no_key_gets_into_spans_errors_logs_or_metrics(traced_client, collector, log_lines):
    headers = {"authorization": f"Bearer {CANARY}", "user-agent": CANARY, "traceparent": CALLER}
    options = {"teacher": FakeTeacher(fails_with="error"), "encoder": QuotingEncoder(), "classifier": {"failures": POISON}}
    async with traced_client(**options) as client:
        replies = [
            await client.post("/v1/check", json={"texts": [{"text": f"{CANARY} {word}"}]}, headers=headers)
            for word in ("plain", "poison", "quote", "violence=0.6")
        ]
        replies.append(await client.post(f"/v1/check?{CANARY}", json={CANARY: CANARY}, headers=headers))
        replies.append(await client.post("/v1/moderations", json={"input": [CANARY]}, headers=headers))
        scrape = (await client.get("/metrics")).text
    assert [reply.status_code for reply in replies] == [200, 500, 500, 200, 400, 200]
    assert len(collector.named("POST /v1/check")) == 5
    for output in (str(collector.requests), scrape, json.dumps(log_lines()), *(reply.text for reply in replies)):
        assert CANARY not in output
    (unforeseen,) = [line for line in log_lines() if line.get("error") == "ValueError"]
    assert unforeseen["request_id"] == replies[2].headers["x-request-id"]
    assert unforeseen["trace_id"] == CALLER.split("-")[1]


async def test_errors_are_counted_by_the_code_replied(open_guard):
    guard = await open_guard(classifier={"failures": {"poison": "raise"}})
    for body in ({"texts": []}, {"texts": [{"text": "poison"}]}, {"texts": [{"text": "fine"}], "policy": "none"}):
        reply = await guard.client.post("/v1/check", json=body)
        assert await guard.metric("stillguard_errors_total", code=reply.json()["error"]["code"]) == 1


async def test_limits_stand_beside_what_they_bound(open_guard):
    guard = await open_guard(settings={"queue_max_items": 7, "queue_max_tokens": 300, "queue_max_wait_s": 0.5})
    assert await guard.metric("stillguard_queue_max_items") == 7
    assert await guard.metric("stillguard_queue_max_tokens") == 300
    assert await guard.metric("stillguard_queue_max_wait_seconds") == 0.5
    assert await guard.metric("stillguard_request_timeout_seconds") == 60


def test_an_untraced_server_does_not_even_import_the_exporter():
    code = "import json, sys, server.app; print(json.dumps([name for name in sys.modules if 'opentelemetry' in name]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [name for name in json.loads(done.stdout) if ".sdk" in name or ".exporter" in name] == []
