"""The shadow student: what it compares, and that it never is in anybody's way."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from server import shadow as shadow_module
from server.batching.batcher import Batcher
from server.cascade import Opinion
from server.check import Checked, check_row
from server.core.artifact import Manifest
from server.core.calibration import IDENTITY, Platt
from server.core.errors import ArtifactError, ConfigurationError, ReloadInProgress, ShuttingDown
from server.core.policy import PolicySet
from server.core.taxonomy import CATEGORIES
from server.core.types import ArtifactId, CheckAnswer, Text, Timings
from server.inference.fake import FakeClassifier, FakeEncoder
from server.inference.reading import ReadingLimits
from server.shadow import ShadowStudent, disagreements
from server.student import Student, StudentParts
from tests.steady import steady_policy

POLICY = steady_policy()
MANIFEST = Manifest("v1", "fp32", CATEGORIES, 12, IDENTITY, None, "p", {}, {}, {})
READING = ReadingLimits(max_windows=3, max_request_windows=3, max_chars=10_000)
FOLDER = Path("/models/next")


class Noted:
    """The observer; ``await next()`` gives one text's outcome."""

    def __init__(self) -> None:
        self.done: asyncio.Queue = asyncio.Queue()
        self.described: list[ArtifactId | None] = []
        self.has_changed = asyncio.Event()

    def text_done(self, outcome, disagreements=None) -> None:
        self.done.put_nowait((outcome, disagreements))

    def describe(self, artifact) -> None:
        self.described.append(artifact)
        self.has_changed.set()

    async def next(self):
        async with asyncio.timeout(60):
            return await self.done.get()


class Stage:
    """A shadow, what it loads, and whether live traffic leaves it room."""

    def __init__(self, **options) -> None:
        self.noted = Noted()
        self.is_live_idle = True
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.fault: Exception | None = None
        self.calibration = options.pop("calibration", IDENTITY)
        self.asked: list[Path] = []
        self.batchers: list[Batcher] = []
        wiring = {"share": 1.0, "reading": READING, "timeout_s": 60.0, "draw": lambda: 0.0}
        self.shadow = ShadowStudent(
            load=self.load,
            make=self.make,
            is_live_idle=lambda: self.is_live_idle,
            observer=self.noted,
            **wiring | options,
        )

    def load(self, folder: Path) -> StudentParts:
        self.asked.append(folder)
        if self.fault is not None:
            raise self.fault
        manifest = replace(MANIFEST, version=folder.name, calibration=self.calibration)
        encoder = FakeEncoder(max_tokens=12, overlap_tokens=2)
        return StudentParts(manifest, PolicySet([POLICY]), encoder, [self.classifier(), self.classifier()], self.classifier)

    def classifier(self) -> FakeClassifier:
        return FakeClassifier(gate=self.gate, entered=self.entered, failures={"fail": "raise", "mortal": "die"})

    def make(self, parts: StudentParts) -> Student:
        cost = lambda window: window.tokens  # noqa: E731
        batcher = Batcher(parts.classifiers, rebuild=parts.rebuild, cost=cost, check_row=check_row, restart_after_s=0.001)
        self.batchers.append(batcher)
        return Student(manifest=parts.manifest, policies=parts.policies, encoder=parts.encoder, batcher=batcher)

    def check(self, *texts: str, score: float = 0.0) -> None:
        """A request in which the student gave every text this score in every category."""
        opinions = [Opinion("user", dict.fromkeys(CATEGORIES, score), 1, len(text), False, lambda _: "") for text in texts]
        results = tuple(opinion.decide(POLICY, None) for opinion in opinions)
        answer = CheckAnswer(results, "default", "1", Timings(0, 0, 0, 0, 0), ArtifactId("live", "0", "fp32"))
        texts = [Text(text) for text in texts]
        self.shadow.checked(Checked(request_id=None, key=None, policy=POLICY, texts=texts, opinions=opinions, answer=answer))


@pytest.fixture
async def make_stage():
    stages = []

    def make(**options) -> Stage:
        stages.append(Stage(**options))
        stages[-1].shadow.start(None)
        return stages[-1]

    yield make
    for stage in stages:
        stage.gate.set()
        await stage.shadow.close()


@pytest.fixture
async def stage(make_stage):
    """With an artefact."""
    stage = make_stage()
    await stage.shadow.load(FOLDER)
    return stage


async def test_both_directions_are_told_by_category(stage):
    stage.check("hate", "plain")
    assert await stage.noted.next() == ("compared", {"hate": "only_shadow_blocks"})
    assert await stage.noted.next() == ("compared", {})
    stage.check("hate", score=0.9)
    others = {category: "only_student_blocks" for category in CATEGORIES if category != "hate"}
    assert await stage.noted.next() == ("compared", others)


async def test_its_scores_are_by_its_own_calibration_and_the_thresholds_by_the_policy(make_stage):
    stage = make_stage(calibration=IDENTITY | {"hate": Platt(scale=1.0, shift=-3.0)})
    await stage.shadow.load(FOLDER)
    stage.check("hate=0.9 sexual=0.9")
    assert await stage.noted.next() == ("compared", {"sexual": "only_shadow_blocks"})


def test_a_score_at_the_threshold_blocks():
    low, at = dict.fromkeys(CATEGORIES, 0.49), dict.fromkeys(CATEGORIES, 0.5)
    assert disagreements(POLICY, at, at) == {}
    assert set(disagreements(POLICY, at, low).values()) == {"only_student_blocks"}
    assert set(disagreements(POLICY, low, at).values()) == {"only_shadow_blocks"}


async def test_it_has_one_session_whatever_the_student_has(stage):
    (batcher,) = stage.batchers
    assert batcher.sessions == 1
    assert (stage.shadow.is_ready, stage.shadow.artifact.version) == (True, "next")


async def test_only_the_drawn_share_is_compared(make_stage):
    draws = iter([0.3, 0.2, 0.31, 0.1])
    stage = make_stage(share=0.3, draw=lambda: next(draws))
    await stage.shadow.load(FOLDER)
    stage.check("w1", "hate", "w3", "sexual")
    found = [await stage.noted.next() for _ in range(2)]
    assert found == [("compared", {"hate": "only_shadow_blocks"}), ("compared", {"sexual": "only_shadow_blocks"})]
    assert stage.noted.done.empty()


async def test_it_begins_nothing_while_live_traffic_takes_every_session(stage):
    stage.is_live_idle = False
    stage.check("hate")
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stage.entered.is_set()
    assert stage.noted.done.empty()
    stage.is_live_idle = True
    stage.check("sexual")
    found = [await stage.noted.next() for _ in range(2)]
    assert found == [("compared", {"hate": "only_shadow_blocks"}), ("compared", {"sexual": "only_shadow_blocks"})]


async def test_it_stops_between_two_texts_when_live_traffic_comes(stage):
    stage.gate.clear()
    stage.check("hate", "sexual")
    async with asyncio.timeout(60):
        await asyncio.to_thread(stage.entered.wait)
    stage.is_live_idle = False
    stage.gate.set()
    assert await stage.noted.next() == ("compared", {"hate": "only_shadow_blocks"})
    for _ in range(10):
        await asyncio.sleep(0)
    assert stage.noted.done.empty()


@pytest.mark.parametrize(
    ("texts", "dropped"),
    [
        (["short"] * (shadow_module.MAX_WAITING_TEXTS + 2), 2),
        (["x" * (shadow_module.MAX_WAITING_CHARS // 2), "y" * (shadow_module.MAX_WAITING_CHARS // 2), "z"], 1),
    ],
)
async def test_what_waits_is_bounded_in_texts_and_in_characters(stage, texts, dropped):
    stage.is_live_idle = False
    stage.check(*texts)
    assert [stage.noted.done.get_nowait() for _ in range(stage.noted.done.qsize())] == [("dropped", None)] * dropped


@pytest.mark.parametrize("text", ["fail", "w " * 100])
async def test_a_text_that_it_can_not_score_is_counted_and_the_next_one_is_compared(stage, text):
    """The model fails on it, or it needs more windows than a text may."""
    stage.check(text, "hate")
    assert await stage.noted.next() == ("failed", None)
    assert await stage.noted.next() == ("compared", {"hate": "only_shadow_blocks"})


async def test_a_dead_session_fails_its_text_and_comes_back(stage):
    stage.check("mortal", "hate")
    assert (await stage.noted.next())[0] == "failed"
    assert await stage.noted.next() == ("compared", {"hate": "only_shadow_blocks"})


async def test_without_an_artefact_it_does_nothing(make_stage):
    stage = make_stage()
    stage.check("hate")
    await asyncio.sleep(0)
    assert stage.noted.done.empty()
    assert (stage.shadow.is_ready, stage.shadow.artifact) == (False, None)


async def test_another_artefact_takes_its_place_and_the_old_sessions_end(stage):
    now = await stage.shadow.load(Path("/models/later"))
    assert (now.version, stage.shadow.artifact) == ("later", now)
    assert [artifact and artifact.version for artifact in stage.noted.described] == ["next", "later"]
    assert [batcher.is_alive for batcher in stage.batchers] == [False, True]
    stage.check("hate")
    assert await stage.noted.next() == ("compared", {"hate": "only_shadow_blocks"})


async def test_taken_away_it_drops_what_waits(stage):
    stage.is_live_idle = False
    stage.check("hate", "sexual")
    assert await stage.shadow.load(None) is None
    assert [await stage.noted.next() for _ in range(2)] == [("dropped", None)] * 2
    assert not stage.shadow.is_ready
    assert stage.noted.described[-1] is None
    assert stage.asked == [FOLDER]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (ArtifactError("artifact /models/bad: model.onnx is corrupt"), "artifact /models/bad: model.onnx is corrupt"),
        (KeyError("some words"), "the shadow student can't be loaded: KeyError; the log says where"),
    ],
)
async def test_one_that_can_not_be_loaded_leaves_the_old_one(stage, fault, why):
    stage.fault = fault
    with pytest.raises(ConfigurationError, match=f"^{why}$"):
        await stage.shadow.load(Path("/models/bad"))
    assert stage.shadow.artifact.version == "next"
    stage.check("hate")
    assert (await stage.noted.next())[0] == "compared"


async def test_one_at_a_time_is_loaded(make_stage):
    stage = make_stage()
    first = asyncio.create_task(stage.shadow.load(FOLDER))
    await asyncio.sleep(0)
    with pytest.raises(ReloadInProgress):
        await stage.shadow.load(Path("/models/later"))
    assert (await first).version == "next"


async def test_before_the_start_nothing_is_loaded_and_the_configured_one_comes_with_it():
    stage = Stage()
    with pytest.raises(ShuttingDown):
        await stage.shadow.load(Path("/models/early"))
    stage.shadow.start(FOLDER)
    async with asyncio.timeout(60):
        await stage.noted.has_changed.wait()
    assert stage.shadow.is_ready
    assert (stage.asked, stage.shadow.artifact.version) == ([FOLDER], "next")
    await stage.shadow.close()


async def test_closed_while_another_takes_its_place_both_end(stage):
    stage.gate.clear()
    stage.check("hate")
    async with asyncio.timeout(60):
        await asyncio.to_thread(stage.entered.wait)
        stage.noted.has_changed.clear()
        loading = asyncio.create_task(stage.shadow.load(Path("/models/later")))
        await stage.noted.has_changed.wait()
        await stage.shadow.close()
    await asyncio.gather(loading, return_exceptions=True)
    assert [batcher.is_alive for batcher in stage.batchers] == [False, False]


async def test_closed_in_the_middle_of_a_text_it_ends(make_stage):
    stage = make_stage(timeout_s=0.2)
    await stage.shadow.load(FOLDER)
    stage.gate.clear()
    stage.check("hate", "sexual")
    async with asyncio.timeout(60):
        await asyncio.to_thread(stage.entered.wait)
        await stage.shadow.close()
    assert not stage.shadow.is_ready
    with pytest.raises(ShuttingDown):
        await stage.shadow.load(FOLDER)
