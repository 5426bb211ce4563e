"""The feedback log by the public door: what is kept of a verdict, what a moderator may say of it, and what a disk may do."""

import asyncio
import hashlib
import json
import stat
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from server.core.errors import ConfigurationError
from server.core.feedback import SEALED, FeedbackRecord, log_files, read_records
from server.core.text_keys import read_hash_key, text_key
from server.teacher.fake import FakeTeacher

CANARY = "canary7f3a"


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def open_logging(fake_app, folder):
    """``async with open_logging(keep_text=…, **settings) as client``: a server with a feedback log; at the end it is closed,
    so all of its records are on the disk."""
    return lambda **options: LoggingServer(fake_app, folder, **options)


class LoggingServer:
    def __init__(self, fake_app, folder, *, keep_text: bool = False, teacher=None, policy=None, **settings) -> None:
        gate = threading.Event()
        gate.set()
        log = {"feedback_dir": folder, "feedback_keep_text": keep_text, "feedback_sample_share": 0.0} | settings
        self.app = fake_app(
            gate=gate,
            entered=threading.Event(),
            settings=log,
            teacher=teacher or FakeTeacher({"really": 0.9}),
            policy=policy or {},
        )

    async def __aenter__(self) -> httpx.AsyncClient:
        self._running = self.app.router.lifespan_context(self.app)
        await self._running.__aenter__()
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = await httpx.AsyncClient(transport=transport, base_url="http://guard").__aenter__()
        return self.client

    async def __aexit__(self, *exception) -> None:
        await self.client.__aexit__(*exception)
        await self._running.__aexit__(*exception)


async def check(client, *texts: str, **fields) -> dict:
    reply = await client.post("/v1/check", json={"texts": [{"text": text} for text in texts]} | fields)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def value(client, name: str, **labels: str) -> float:
    wanted = name + ("{" + ",".join(f'{label}="{given}"' for label, given in labels.items()) + "}" if labels else "")
    (line,) = [line for line in (await client.get("/metrics")).text.splitlines() if line.startswith(wanted + " ")]
    return float(line.split()[1])


def records(folder: Path) -> list:
    skipped: Counter = Counter()
    found = [record for path in log_files(folder) for record in read_records(path, skipped)]
    assert skipped == Counter()
    return found


async def test_what_is_worth_keeping_is_kept_with_both_opinions(open_logging, folder):
    async with open_logging(keep_text=True) as client:
        reply = await check(client, "plain", "hate", "hate=0.4 really", "hate=0.45 meek", "violence=0.5")
        await client.post("/v1/moderations", json={"input": "violence=0.5"}, headers={"x-request-id": "by-openai"})
    found = records(folder)
    assert [(record.id, record.index, record.text, record.reasons) for record in found] == [
        (reply["id"], 2, "hate=0.4 really", ("escalated", "disagreeing")),
        (reply["id"], 3, "hate=0.45 meek", ("escalated", "near_threshold")),
        (reply["id"], 4, "violence=0.5", ("escalated", "disagreeing", "near_threshold")),
        ("by-openai", 0, "violence=0.5", ("escalated", "disagreeing", "near_threshold")),
    ]
    overruled = found[0]
    assert (overruled.verdict, overruled.decided_by, overruled.categories) == ("block", "teacher", ("hate",))
    assert overruled.student_scores["hate"] == pytest.approx(0.4)
    assert (overruled.teacher.outcome, overruled.teacher.scores, overruled.teacher.identity) == (
        "answered",
        {"hate": 0.9},
        "fake",
    )
    assert (overruled.artifact_version, overruled.artifact_hash) == ("test-1", reply["artifact"]["hash"])
    assert (overruled.policy_id, overruled.policy_version) == (reply["policy"]["id"], reply["policy"]["version"])


async def test_without_consent_no_text_reaches_the_log_by_any_way(open_logging, folder):
    async with open_logging(feedback_sample_share=1.0) as client:
        reply = await check(client, f"{CANARY} hate=0.45", f"{CANARY}  hate=0.45", f"other {CANARY}")
        for more in ({"note": CANARY}, {"text": f"{CANARY} hate=0.45"}):
            refused = await client.post("/v1/feedback", json={"id": reply["id"], "verdict": "block"} | more)
            assert refused.status_code == 400
            assert refused.json()["error"]["param"] == next(iter(more))
            assert CANARY not in refused.text
        taken = await client.post("/v1/feedback", json={"id": reply["id"], "verdict": "allow"})
        assert taken.status_code == 202
    for path in folder.rglob("*"):
        assert CANARY.encode() not in path.read_bytes()
    first, alike, other, correction = records(folder)
    key = read_hash_key(folder / "hash.key")
    assert first.text is alike.text is other.text is correction.text is None
    assert first.text_key == alike.text_key == text_key(key, f"{CANARY} hate=0.45") != other.text_key
    assert (first.chars, first.windows, first.student_scores["hate"]) == (20, 2, pytest.approx(0.45))


async def test_the_log_never_shows_on_standard_error_or_among_the_metrics(open_logging, log_lines):
    async with open_logging(keep_text=True) as client:
        reply = await check(client, f"{CANARY} hate=0.45")
        note = {"id": reply["id"], "labels": {"hate": True}, "note": f"note {CANARY}", "text": f"{CANARY} hate=0.45"}
        assert (await client.post("/v1/feedback", json=note)).status_code == 202
        assert CANARY not in (await client.get("/metrics")).text
    assert CANARY not in json.dumps(log_lines())


async def test_a_correction_is_logged_with_who_said_it_and_counted(open_logging, folder, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[moderators]\nsha256 = "{hashlib.sha256(b"their-key").hexdigest()}"\n')
    async with open_logging(keep_text=True, api_keys_file=keys) as client:
        client.headers["authorization"] = "Bearer their-key"
        reply = await check(client, "plain", "hate")
        corrections = [
            {"index": 1, "verdict": "allow", "labels": {"hate": False, "harassment": None}, "note": "a quotation"},
            {"verdict": "block", "labels": {"sexual": True}, "text": "plain"},
            {"verdict": "allow"},
            {"labels": {"violence": False}},
        ]
        for correction in corrections:
            taken = await client.post("/v1/feedback", json={"id": reply["id"]} | correction)
            assert (taken.status_code, taken.json()) == (202, {"id": reply["id"], "index": correction.get("index", 0)})
        assert await value(client, "stillguard_feedback_corrections_total", kind="block_overturned") == 1
        assert await value(client, "stillguard_feedback_corrections_total", kind="allow_overturned") == 1
        assert await value(client, "stillguard_feedback_corrections_total", kind="confirmed") == 1
        assert await value(client, "stillguard_feedback_corrections_total", kind="labels_only") == 1
        assert await value(client, "stillguard_feedback_wrong_labels_total", category="hate", kind="wrongly_flagged") == 1
        assert await value(client, "stillguard_feedback_wrong_labels_total", category="sexual", kind="missed") == 1
        assert await value(client, "stillguard_feedback_wrong_labels_total", category="violence", kind="missed") == 0
        assert await value(client, "stillguard_feedback_disagreement_ratio") == pytest.approx(2 / 3)
    overturned, missed, *_ = found = records(folder)
    assert len(found) == 4
    assert overturned == FeedbackRecord(
        at=overturned.at,
        id=reply["id"],
        index=1,
        verdict="allow",
        categories=("hate",),
        labels={"hate": False},
        by="moderators",
        note="a quotation",
    )
    assert (missed.text, missed.text_key) == ("plain", text_key(read_hash_key(folder / "hash.key"), "plain"))


async def test_under_an_async_policy_the_teachers_verdict_is_the_one_that_is_logged_and_corrected(open_logging, folder):
    release = asyncio.Event()
    server = open_logging(keep_text=True, teacher=FakeTeacher({"really": 0.9}, release=release), policy={"mode": "async"})
    async with server as client:
        reply = await check(client, "plain", "really hate=0.4")
        assert [result["verdict"] for result in reply["results"]] == ["allow", "allow"]
        release.set()
        await asyncio.gather(*server.app.state.service.cascade._background)
        pending = reply["results"][1]["escalation"]["id"]
        assert (await client.get(f"/v1/escalations/{pending}")).json()["result"]["verdict"] == "block"
        for verdict in ("allow", "block"):
            correction = {"id": reply["id"], "index": 1, "verdict": verdict}
            assert (await client.post("/v1/feedback", json=correction)).status_code == 202
        assert await value(client, "stillguard_feedback_corrections_total", kind="block_overturned") == 1
        assert await value(client, "stillguard_feedback_corrections_total", kind="confirmed") == 1
    logged, *corrections = records(folder)
    assert (logged.id, logged.index, logged.text) == (reply["id"], 1, "really hate=0.4")
    assert (logged.verdict, logged.decided_by, logged.reasons) == ("block", "teacher", ("escalated", "disagreeing"))
    assert logged.student_scores["hate"] == pytest.approx(0.4)
    assert (logged.teacher.outcome, logged.teacher.scores) == ("answered", {"hate": 0.9})
    assert [record.categories for record in corrections] == [("hate",), ("hate",)], "a bare block says what for"


async def test_a_stop_logs_what_was_given_while_the_teacher_was_still_asked(open_logging, folder):
    teacher = FakeTeacher({"really": 0.9}, release=asyncio.Event())
    async with open_logging(teacher=teacher, policy={"mode": "async"}) as client:
        await check(client, "really hate=0.4")
    (logged,) = records(folder)
    assert (logged.verdict, logged.decided_by, logged.teacher.outcome) == ("allow", "student", "pending")


async def test_under_a_shadow_policy_the_log_has_what_the_teacher_would_have_said(open_logging, folder):
    policy = {"mode": "shadow", "shadow_share": 1.0}
    server = open_logging(teacher=FakeTeacher({"really": 0.9}), policy=policy)
    async with server as client:
        reply = await check(client, "plain", "really")
        await asyncio.gather(*server.app.state.service.cascade._background)
        assert [result["escalation"] for result in reply["results"]] == [None, None]
    (logged,) = records(folder)
    assert (logged.index, logged.verdict, logged.decided_by, logged.reasons) == (1, "allow", "student", ("disagreeing",))
    assert (logged.teacher.outcome, len(logged.teacher.scores), logged.teacher.scores["hate"]) == ("answered", 8, 0.9)


async def test_a_reply_of_the_openai_route_is_corrected_by_its_own_id(open_logging, folder):
    async with open_logging(keep_text=True) as client:
        replies = [
            await client.post("/v1/moderations", json={"input": "plain"}, headers={"x-request-id": wished})
            for wished in ("mine", "modr-mine")
        ]
        for request_id in ("modr-mine", "modr-modr-mine", "mine"):
            taken = await client.post("/v1/feedback", json={"id": request_id, "verdict": "allow", "text": "plain"})
            assert (taken.status_code, taken.json()["id"]) == (202, request_id)
        assert (await client.post("/v1/feedback", json={"id": "modr-other", "verdict": "allow"})).status_code == 404
    assert [reply.json()["id"] for reply in replies] == ["modr-mine", "modr-modr-mine"]
    assert [record.id for record in records(folder)] == ["modr-mine", "mine"], "the second said no more than the first"


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"id": "never-was", "verdict": "allow"}, (404, "not_found", None)),
        ({"index": 3, "verdict": "allow"}, (404, "not_found", None)),
        ({}, (400, "invalid_request", "verdict")),
        ({"labels": {}}, (400, "invalid_request", "verdict")),
        ({"verdict": "review"}, (400, "invalid_request", "verdict")),
        ({"labels": {CANARY: True}}, (400, "invalid_request", "labels")),
        ({"labels": {"hate": "yes"}}, (400, "invalid_request", "labels.hate")),
        ({"verdict": "allow", "index": -1}, (400, "invalid_request", "index")),
        ({"verdict": "allow", "note": "n" * 2_001}, (400, "invalid_request", "note")),
        ({"verdict": "allow", "text": "t" * 100_001}, (413, "too_large", "text")),
        ({"verdict": "allow", "text": f"another {CANARY}"}, (400, "invalid_request", "text")),
        ({"verdict": "block"}, (400, "invalid_request", "labels")),
        ({"verdict": "allow", "by": "me"}, (400, "invalid_request", None)),
    ],
)
async def test_a_wrong_correction_is_refused_by_name_and_changes_nothing(open_logging, folder, body, refusal):
    async with open_logging(keep_text=True) as client:
        reply = await check(client, "plain")
        refused = await client.post("/v1/feedback", json={"id": reply["id"]} | body)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == refusal
        assert CANARY not in refused.text
    assert records(folder) == []


@pytest.mark.parametrize(("body", "word"), [({"index": -1}, "from 0"), ({"note": "n" * 2_001}, "2000")])
async def test_a_value_out_of_bounds_is_told_its_bounds(open_logging, body, word):
    async with open_logging(keep_text=True) as client:
        refused = await client.post("/v1/feedback", json={"id": "any", "verdict": "allow"} | body)
    assert refused.status_code == 400
    assert word in refused.json()["error"]["message"]


async def test_where_there_is_no_log_a_correction_is_told_so(open_guard):
    guard = await open_guard()
    reply = await guard.client.post("/v1/feedback", json={"id": "any", "verdict": "allow"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "feedback_off")


async def test_a_correction_needs_the_key_that_a_check_needs(open_logging, folder, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[team]\nsha256 = "{hashlib.sha256(b"key").hexdigest()}"\nrequests_per_s = 0.001\nburst = 1\n')
    async with open_logging(api_keys_file=keys) as client:
        body = {"id": "any", "verdict": "allow"}
        assert (await client.post("/v1/feedback", json=body)).status_code == 401
        assert (await client.post("/v1/feedback", json=body, headers={"authorization": "Bearer key"})).status_code == 404
        limited = await client.post("/v1/feedback", json=body, headers={"authorization": "Bearer key"})
        assert (await client.get("/v1/escalations/any")).status_code == 401
        metrics = (await client.get("/metrics")).text
        assert 'stillguard_errors_total{code="unauthorized"} 2.0' in metrics
        assert 'stillguard_errors_total{code="rate_limited"} 1.0' in metrics
        assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limited")
        schema = (await client.get("/openapi.json")).json()
    operation = schema["paths"]["/v1/feedback"]["post"]
    assert operation["security"] == [{"key": []}]
    assert {"202", "400", "401", "404", "409", "413", "429", "503"} <= operation["responses"].keys()
    assert set(schema["components"]["schemas"]["Labels"]["properties"]) >= {"hate", "self_harm"}


class StubbornTeacher(FakeTeacher):
    async def close(self) -> None:
        raise RuntimeError("its child doesn't end")


async def test_a_stop_that_fails_elsewhere_still_writes_what_waits(open_logging, folder):
    with pytest.raises(RuntimeError, match="doesn't end"):
        async with open_logging(teacher=StubbornTeacher({}), feedback_sample_share=1.0) as client:
            reply = await check(client, "plain")
    assert [record.id for record in records(folder)] == [reply["id"]]
    assert [path.name.endswith(SEALED) for path in log_files(folder)] == [True]


async def test_under_concurrent_load_each_record_is_whole_and_there_once(open_logging, folder):
    async with open_logging(
        keep_text=True, feedback_sample_share=1.0, feedback_max_per_s=10_000, feedback_max_bytes=320_000
    ) as client:
        replies = await asyncio.gather(*(check(client, f"text {number} a", f"text {number} b") for number in range(100)))
    found = records(folder)
    assert Counter((record.id, record.index) for record in found) == {
        (reply["id"], index): 1 for reply in replies for index in (0, 1)
    }
    texts = {record.id: record.text for record in found if record.index == 1}
    assert texts == {reply["id"]: f"text {number} b" for number, reply in enumerate(replies)}
    files = log_files(folder)
    assert len(files) >= 3
    assert all(path.name.endswith(SEALED) and path.stat().st_size <= 40_000 for path in files)


async def test_the_log_stays_within_its_bound_and_keeps_the_newest(open_logging, folder):
    async with open_logging(feedback_sample_share=1.0, feedback_max_per_s=10_000, feedback_max_bytes=40_000) as client:
        replies = [await check(client, f"text {number}") for number in range(60)]
    ids = [record.id for record in records(folder)]
    assert 10 < len(ids) < 60
    assert ids == [reply["id"] for reply in replies][-len(ids) :]
    assert sum(path.stat().st_size for path in log_files(folder)) <= 40_000


@pytest.mark.parametrize(("mode", "status"), [(0o755, "chmod 700"), (0o700, None)])
async def test_a_folder_that_others_can_read_stops_the_start(open_logging, folder, mode, status):
    folder.mkdir()
    folder.chmod(mode)
    if status is None:
        async with open_logging() as client:
            await check(client, "hate=0.45")
        (path,) = log_files(folder)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    else:
        with pytest.raises(ConfigurationError, match=status):
            open_logging()
