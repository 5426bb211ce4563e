"""Too much, too slow, gone, or going down: each ends a request in its own way, and never silently."""

import asyncio

from server.teacher.fake import FakeTeacher


async def wait_for(event) -> None:
    assert await asyncio.to_thread(event.wait, 60), "the model was never called"


async def test_a_full_queue_sheds_at_once_and_says_when_to_come_back(open_guard):
    guard = await open_guard(is_gated=True, settings={"queue_max_items": 1, "queue_max_tokens": 100})
    served = asyncio.create_task(guard.check("hate"))
    await wait_for(guard.entered)
    rivals = {asyncio.create_task(guard.check("hate")) for _ in range(2)}
    (shed,), (queued,) = await asyncio.wait(rivals, return_when=asyncio.FIRST_COMPLETED)
    reply = shed.result()
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["error"] == {
        "message": "the queue is full",
        "type": "overloaded_error",
        "code": "queue_full",
        "param": None,
    }
    assert await guard.metric("stillguard_queue_items") == 1
    guard.gate.set()
    assert [(await task).status_code for task in (served, queued)] == [200, 200]
    assert await guard.metric("stillguard_requests_total", route="native", outcome="shed") == 1
    assert await guard.metric("stillguard_requests_total", route="native", outcome="ok") == 2
    assert await guard.metric("stillguard_queue_items") == 0


async def test_long_requests_beyond_the_bound_are_shed_before_they_are_encoded(open_guard):
    bounds = {"encode_max_chars": 20_000, "max_request_chars": 20_000, "encode_inline_chars": 10}
    guard = await open_guard(is_gated=True, settings=bounds)
    replies = [asyncio.create_task(guard.check("plain " * 2_000)) for _ in range(2)]
    done, _ = await asyncio.wait(replies, return_when=asyncio.FIRST_COMPLETED)
    (shed,) = done
    assert (shed.result().status_code, shed.result().json()["error"]["code"]) == (503, "queue_full")
    guard.gate.set()
    assert sorted([(await reply).status_code for reply in replies]) == [200, 503]


async def test_the_deadline_ends_a_request_while_the_model_is_busy(open_guard):
    guard = await open_guard(is_gated=True, settings={"request_timeout_s": 0.05})
    reply = await guard.check("hate")
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert reply.json()["error"]["type"] == "timeout_error"
    assert await guard.metric("stillguard_requests_total", route="native", outcome="expired") == 1
    assert await guard.metric("stillguard_dropped_items_total", reason="expired") == 1


async def test_a_body_that_never_comes_ends_at_the_deadline(open_guard):
    guard = await open_guard(settings={"request_timeout_s": 0.05})
    never = asyncio.Event()

    async def body():
        yield b'{"texts":'
        await never.wait()

    reply = await guard.client.post("/v1/check", content=body())
    assert (reply.status_code, reply.json()["error"]["code"]) == (408, "body_too_slow")


async def test_a_failing_text_fails_its_own_request_alone(open_guard):
    guard = await open_guard(classifier={"failures": {"poison": "raise", "hole": "nan", "short": "rows"}})
    replies = await asyncio.gather(*(guard.check(text) for text in ("poison", "hate", "hole", "short", "plain")))
    assert [reply.status_code for reply in replies] == [500, 200, 500, 500, 200]
    assert {reply.json()["error"]["code"] for reply in replies if reply.status_code == 500} == {"classifier_failed"}
    assert await guard.metric("stillguard_requests_total", route="native", outcome="failed") == 3


async def test_a_dead_session_makes_the_server_unready(open_guard):
    guard = await open_guard(classifier={"failures": {"venom": "die"}}, settings={"session_restart_s": 3600})
    assert (await guard.check("venom")).status_code == 500
    unready = await guard.client.get("/readyz")
    assert unready.status_code == 503
    assert unready.json() == {"status": "not_ready", "missing": ["0 of 1 sessions are alive"]}
    assert await guard.metric("stillguard_ready") == 0
    assert (await guard.client.get("/livez")).status_code == 200


async def test_a_dead_session_comes_back(open_guard):
    guard = await open_guard(classifier={"failures": {"venom": "die"}}, settings={"session_restart_s": 0.01})
    assert (await guard.check("venom")).status_code == 500
    assert (await guard.check("hate")).status_code == 200
    assert (await guard.client.get("/readyz")).status_code == 200


async def test_a_stuck_session_fails_its_text_and_makes_the_server_unready(open_guard):
    guard = await open_guard(is_gated=True, settings={"session_stuck_s": 0.05, "session_restart_s": 3600})
    reply = await guard.check("hate")
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "classifier_failed")
    unready = await guard.client.get("/readyz")
    assert (unready.status_code, unready.json()["missing"]) == (503, ["0 of 1 sessions are alive"])
    assert await guard.metric("stillguard_live_sessions") == 0
    assert await guard.metric("stillguard_sessions") == 1
    assert await guard.metric("stillguard_lost_sessions_total", reason="stuck") == 1
    assert await guard.metric("stillguard_requests_total", route="native", outcome="failed") == 1
    assert (await guard.client.get("/livez")).status_code == 200


async def test_another_session_takes_the_place_of_a_stuck_one(open_guard):
    guard = await open_guard(is_gated=True, settings={"session_stuck_s": 0.05, "session_restart_s": 0.01})
    assert (await guard.check("hate")).status_code == 500
    guard.gate.set()
    assert (await guard.check("hate")).status_code == 200
    assert (await guard.client.get("/readyz")).status_code == 200
    assert await guard.metric("stillguard_live_sessions") == 1


async def request_by_hand(app, body: bytes, gone: asyncio.Event) -> list:
    """One request whose client goes away when ``gone`` is set; what was sent to it."""
    sent = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/check", "query_string": b"", "headers": headers, "state": {}}
    await app(scope | {"scheme": "http", "server": ("guard", 80), "root_path": "", "http_version": "1.1"}, receive, send)
    return sent


async def test_work_for_a_client_that_went_away_is_cancelled(open_guard):
    guard = await open_guard(is_gated=True)
    served = asyncio.create_task(guard.check("hate"))
    await wait_for(guard.entered)
    gone = asyncio.Event()
    abandoned = asyncio.create_task(request_by_hand(guard.app, b'{"texts": [{"text": "a"}, {"text": "b"}]}', gone))
    gone.set()
    assert await abandoned == []
    assert not abandoned.cancelled()
    assert await guard.metric("stillguard_requests_total", route="native", outcome="cancelled") == 1
    assert await guard.metric("stillguard_dropped_items_total", reason="cancelled") == 2
    assert await guard.metric("stillguard_queue_items") == 0
    guard.gate.set()
    assert (await served).status_code == 200
    assert await guard.metric("stillguard_batch_items_sum") == 1


async def test_a_client_that_stays_is_answered_by_hand_too(open_guard):
    guard = await open_guard()
    start, body = await request_by_hand(guard.app, b'{"texts": [{"text": "hate"}]}', asyncio.Event())
    assert start["status"] == 200
    assert b'"verdict":"block"' in body["body"]


async def test_draining_lets_admitted_work_finish_and_refuses_the_rest(open_guard):
    guard = await open_guard(is_gated=True)
    assert (await guard.client.get("/readyz")).json() == {"status": "ready", "missing": []}
    served = asyncio.create_task(guard.check("hate"))
    await wait_for(guard.entered)
    draining = asyncio.create_task(guard.app.state.service.drain())
    await asyncio.sleep(0)  # lets it begin
    unready = await guard.client.get("/readyz")
    assert (unready.status_code, unready.json()["missing"]) == (503, ["the server is draining"])
    refused = await guard.check("hate")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert (await guard.client.get("/livez")).status_code == 200
    assert not served.done()
    guard.gate.set()
    await draining
    assert (await served).json()["results"][0]["verdict"] == "block"


async def test_what_is_left_after_the_drain_gets_an_error(open_guard):
    guard = await open_guard(is_gated=True, settings={"drain_timeout_s": 0.05})
    stuck = asyncio.create_task(guard.check("hate"))
    await wait_for(guard.entered)
    await guard.app.state.service.drain()
    reply = await stuck
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shutting_down")


async def test_stopping_settles_an_escalation_in_flight(open_guard):
    teacher = FakeTeacher(release=asyncio.Event())
    guard = await open_guard(teacher=teacher)
    escalating = asyncio.create_task(guard.check("violence=0.6"))
    await wait_for(guard.entered)
    await guard.app.state.service.stop()
    (result,) = (await escalating).json()["results"]
    assert (result["decided_by"], result["escalation"]["outcome"]) == ("student_degraded", "unreachable")
    assert teacher.is_closed
