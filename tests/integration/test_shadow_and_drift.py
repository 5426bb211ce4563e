"""The shadow student and drift, as operators meet them: by settings, the private port and the metrics."""

import asyncio
import json
import math
from dataclasses import replace

import pytest

from server.app import load_student
from server.core.calibration import Platt
from server.core.errors import ArtifactError, ConfigurationError
from server.core.histograms import BINS, DriftReference, ScoreHistograms, bin_of, histograms_from_json
from server.core.taxonomy import CATEGORIES
from server.drift import MIN_TEXTS
from server.settings import Settings

NEXT = "/models/next"
LENIENT = {"hate": Platt(scale=1.0, shift=-6.0)}


def load(folder, make_student):
    """The configured artefact; under :data:`NEXT` one that is lenient on hate; nothing else can be loaded."""
    parts = make_student()
    if folder is None:
        return parts
    if str(folder) != NEXT:
        raise ArtifactError(f"artifact {folder}: model.onnx is missing")
    manifest = parts.manifest
    return replace(parts, manifest=replace(manifest, version="next", calibration=manifest.calibration | LENIENT))


async def until(probe, wanted: float) -> None:
    """A busy machine fails no test. What the background does is seen by scraping alone."""
    async with asyncio.timeout(60):
        while await probe() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0)


def compared(guard):
    return lambda: guard.metric("stillguard_shadow_student_texts_total", outcome="compared")


def ready(guard):
    return lambda: guard.metric("stillguard_shadow_student_ready")


async def test_a_configured_shadow_is_compared_and_answers_nobody(open_guard):
    guard = await open_guard(reload=load, settings={"shadow_artifact": NEXT, "shadow_artifact_share": 1.0})
    await until(ready(guard), 1)
    answers = [(await guard.check(text)).json() for text in ("hate", "sexual", "plain")]
    await until(compared(guard), 3)
    assert [answer["results"][0]["verdict"] for answer in answers] == ["block", "block", "allow"]
    assert {answer["artifact"]["version"] for answer in answers} == {"test-1"}
    name = "stillguard_shadow_student_disagreements_total"
    assert await guard.metric(name, category="hate", direction="only_student_blocks") == 1
    assert await guard.metric(name, category="hate", direction="only_shadow_blocks") == 0
    assert await guard.metric(name, category="sexual", direction="only_student_blocks") == 0
    assert await guard.metric("stillguard_live_sessions") == 1
    assert await guard.metric("stillguard_batch_items_count") == 3, "the shadow's batches are not among the student's"


async def test_a_shadow_that_can_not_be_loaded_costs_nothing_but_itself(open_guard, log_lines):
    guard = await open_guard(reload=load, settings={"shadow_artifact": "/nowhere"})
    assert (await guard.client.get("/readyz")).status_code == 200
    assert (await guard.check("hate")).json()["results"][0]["verdict"] == "block"

    async def reasons() -> int:
        return sum(line.get("reason") == "artifact /nowhere: model.onnx is missing" for line in log_lines())

    await until(reasons, 1)
    assert await ready(guard)() == 0


async def test_a_shadow_is_exchanged_promoted_and_taken_away_on_the_private_port(open_guard, open_private):
    guard = await open_guard(reload=load, settings={"shadow_artifact_share": 1.0})
    private = open_private(guard)
    reply = await private.post("/admin/reload", json={"shadow": NEXT})
    assert (reply.status_code, set(reply.json()), reply.json()["shadow"]["version"]) == (200, {"shadow"}, "next")
    assert await ready(guard)() == 1
    await guard.check("hate")
    await until(compared(guard), 1)

    reply = await private.post("/admin/reload", json={"artifact": NEXT})
    assert (reply.status_code, set(reply.json()), reply.json()["artifact"]["version"]) == (200, {"artifact"}, "next")
    assert (await guard.check("hate")).json()["results"][0]["verdict"] == "allow"

    reply = await private.post("/admin/reload", json={"shadow": None})
    assert (reply.status_code, reply.json()) == (200, {"shadow": None})
    assert math.isnan(await ready(guard)())
    assert 'stillguard_reloads_total{outcome="ok"} 1.0' in (await private.get("/metrics")).text


async def test_a_shadow_that_can_not_be_exchanged_says_why(open_guard, open_private):
    guard = await open_guard(reload=load)
    reply = await open_private(guard).post("/admin/reload", json={"shadow": "/nowhere"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "reload_failed")
    assert reply.json()["error"]["message"] == "artifact /nowhere: model.onnx is missing"
    await guard.app.state.service.stop()
    reply = await open_private(guard).post("/admin/reload", json={"shadow": NEXT})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shutting_down")


async def test_the_window_is_shown_as_rates_and_as_a_reference_for_later(open_guard, open_private):
    guard = await open_guard()
    assert math.isnan(await guard.metric("stillguard_drift_flagged_ratio", category="hate"))
    await guard.check("hate", "plain", "vio\u200blence=0.4", "sexual")
    assert await guard.metric("stillguard_drift_texts") == 4
    assert await guard.metric("stillguard_drift_flagged_ratio", category="hate") == 0.25
    assert await guard.metric("stillguard_drift_escalated_ratio") == 0.25
    assert await guard.metric("stillguard_drift_canonicalised_ratio") == 0.25
    window = histograms_from_json((await open_private(guard).get("/admin/drift")).json())
    assert (window.texts, window.artifact_hash) == (4, (await guard.check("plain")).json()["artifact"]["hash"])
    assert window.scores["violence"][bin_of(0.4)] == 1


def test_the_shipped_student_has_a_reference_and_a_file_of_its_own_traffic_goes_before_it(tmp_path):
    settings = Settings(sessions=1)
    shipped = load_student(settings, settings.artifact)
    assert shipped.reference == DriftReference(shipped.manifest.reference, "artifact")
    assert shipped.reference.histograms.texts >= MIN_TEXTS
    file = tmp_path / "last-week.json"
    file.write_text(json.dumps(replace(shipped.manifest.reference, artifact_hash=shipped.manifest.hash).to_json()))
    assert load_student(Settings(sessions=1, drift_reference=file), settings.artifact).reference.source == "traffic"
    file.write_text("{}")
    with pytest.raises(ConfigurationError, match="drift reference"):
        load_student(Settings(sessions=1, drift_reference=file), settings.artifact)


@pytest.mark.parametrize(("score", "is_far"), [(0.01, False), (0.99, True)])
async def test_psi_is_against_the_reference_that_came_with_the_student(open_guard, score, is_far):
    counts = [0] * BINS
    counts[bin_of(score)] = 2 * MIN_TEXTS
    reference = DriftReference(ScoreHistograms(2 * MIN_TEXTS, dict.fromkeys(CATEGORIES, tuple(counts)), "x"), "traffic")
    guard = await open_guard(reload=lambda _, make_student: replace(make_student(), reference=reference))
    await guard.app.state.service.reload()
    assert await guard.metric("stillguard_drift_reference_texts", source="traffic") == 2 * MIN_TEXTS
    assert math.isnan(await guard.metric("stillguard_drift_psi", category="hate"))
    for _ in range(MIN_TEXTS // 250):
        await guard.check(*["plain=0.01 hate=0.01"] * 250)
    assert (await guard.metric("stillguard_drift_psi", category="hate") > 0.25) is is_far
