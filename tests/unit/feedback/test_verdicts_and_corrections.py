"""The log as the event loop sees it: what it hands to the writer, what it remembers, and that it never raises."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from server.cascade import Opinion
from server.check import Checked
from server.core.errors import InvalidRequest, QueueFull
from server.core.feedback import TeacherOpinion
from server.core.taxonomy import CATEGORIES
from server.core.token_bucket import TokenBucket
from server.core.types import ArtifactId, CheckAnswer, Escalation, Text, Timings
from server.feedback.fake import FakeDisk
from server.feedback.intake import Intake
from server.feedback.log import FeedbackLog
from server.feedback.recall import Recall
from server.feedback.rotation import FileLimits, RotatingLog
from server.feedback.sampling import Sampler
from server.feedback.writer import Writer
from tests.steady import steady_policy
from tests.unit.feedback.recording import Recording

POLICY = steady_policy()
NOW = datetime(2026, 11, 22, 14, tzinfo=UTC)
LIMITS = FileLimits(file_max_bytes=10**6, file_max_age_s=60, max_bytes=10**7, max_age_s=1_000)


class World:
    """A log whose writer is not started, so that what was handed to it can be looked at."""

    def __init__(self, *, share: float = 1.0, per_s: float = 1_000, max_items: int = 100) -> None:
        self.recording = Recording()
        self.intake = Intake(max_items=max_items, max_chars=10**6)
        disk = FakeDisk()
        self.writer = Writer(self.intake, disk, RotatingLog(disk, LIMITS), keep_text=True, sync_s=60, observer=self.recording)
        self.log = FeedbackLog(
            sampler=Sampler(share=share, near_log_odds=0.25),
            cap=TokenBucket(per_s, per_s, clock=lambda: 0.0),
            corrections_cap=TokenBucket(per_s, per_s, clock=lambda: 0.0),
            recall=Recall(max_items=10, ttl_s=60, marks_texts=True),
            intake=self.intake,
            writer=self.writer,
            teacher="judge@1",
            keeps_text=True,
            observer=self.recording,
            now=lambda: NOW,
        )

    def drafts(self) -> list:
        found = []
        self.intake.close()
        while draft := self.intake.take(0):
            found.append(draft)
        return found

    def correct(self, request_id="r1", index=0, *, verdict=None, labels=None, text=None) -> bool:
        return self.log.correct(request_id, index, verdict=verdict, labels=labels or {}, by="mod", note="why", text=text)


def opinion(text: Text, **scores: float) -> Opinion:
    every = dict.fromkeys(CATEGORIES, 0.02) | scores
    return Opinion(text.role, every, 2, len(text.text), True, lambda _category: "passage")


def checked(*opinions: Opinion, escalations=None, request_id: str | None = "r1", policy=POLICY, later=None) -> Checked:
    escalations = escalations or [None] * len(opinions)
    results = tuple(each.decide(policy, escalation) for each, escalation in zip(opinions, escalations, strict=True))
    answer = CheckAnswer(results, policy.id, policy.version, Timings(0, 0, 0, 0, 0), ArtifactId("1.2", "cd", "int8"))
    texts = [Text("words " * each.windows, each.role) for each in opinions]
    return Checked(
        request_id=request_id, key="team", policy=policy, texts=texts, opinions=opinions, answer=answer, later=later or {}
    )


def test_a_draft_holds_all_that_is_known_of_a_verdict_but_its_text():
    world = World(share=0.0)
    escalation = Escalation("answered", 0.1, {"hate": 0.9}, {"hate": 0.4}, "logprobs")
    world.log.checked(checked(opinion(Text("a")), opinion(Text("b", "assistant"), hate=0.4), escalations=[None, escalation]))
    (draft,) = world.drafts()
    record = draft.record
    assert draft.text == "words words "
    assert (record.text, record.text_key) == (None, "")
    assert (record.at, record.id, record.index, record.role) == (NOW, "r1", 1, "assistant")
    assert record.reasons == ("escalated", "disagreeing")
    assert (record.chars, record.windows, record.is_disguised) == (1, 2, True)
    assert (record.policy_id, record.policy_version) == ("default", POLICY.version)
    assert (record.artifact_version, record.artifact_hash) == ("1.2", "cd")
    assert (record.verdict, record.decided_by, record.categories) == ("block", "teacher", ("hate",))
    assert record.student_scores["hate"] == 0.4, "the student's, not what the teacher made of it"
    assert record.teacher == TeacherOpinion(outcome="answered", scores={"hate": 0.9}, basis="logprobs", identity="judge@1")


def test_what_is_over_the_rate_or_finds_no_room_is_counted():
    texts = [opinion(Text("a"))] * 10
    capped = World(per_s=4)
    capped.log.checked(checked(*texts))
    assert (len(capped.drafts()), capped.recording.dropped) == (4, {"rate": 6})
    full = World(max_items=3)
    full.log.checked(checked(*texts))
    assert (len(full.drafts()), full.recording.dropped) == (3, {"queue_full": 7})


def test_a_request_without_an_id_is_nobodys():
    world = World()
    world.log.checked(checked(opinion(Text("a")), request_id=None))
    assert world.drafts() == []


def test_a_defect_costs_the_log_and_never_the_verdict(caplog):
    world = World()
    broken = SimpleNamespace(id="broken", rules=None)
    for _ in range(3):
        world.log.checked(
            SimpleNamespace(
                **{name: getattr(checked(opinion(Text("a"))), name) for name in Checked.__slots__} | {"policy": broken}
            )
        )
    assert world.recording.dropped == {"error": 3}
    assert len(caplog.records) == 1


PENDING = Escalation("pending", 0.0, {}, {"hate": 0.4}, id="e1")


class Later:
    """A log that was told of two texts, of which the second's teacher has not answered yet."""

    def __init__(self, **policy) -> None:
        self.world = World(share=0.0)
        self.opinions = [opinion(Text("a")), opinion(Text("b"), hate=0.4)]
        self.task = asyncio.create_task(self._result())
        self.policy = replace(POLICY, **policy)
        self.answered: asyncio.Future[Escalation] = asyncio.get_running_loop().create_future()
        told = checked(*self.opinions, escalations=[None, PENDING], policy=self.policy, later={1: self.task})
        self.world.log.checked(told)

    async def _result(self):
        return self.opinions[1].decide(self.policy, await self.answered)

    async def end(self) -> None:
        await asyncio.wait([self.task])


async def test_what_the_teacher_answers_after_the_reply_is_the_verdict_that_is_logged_and_corrected():
    later = Later(mode="async")
    assert later.world.correct(index=1, verdict="allow")
    later.answered.set_result(Escalation("answered", 3.0, {"hate": 0.9}, {"hate": 0.4}, "logprobs"))
    await later.end()
    assert later.world.correct(index=1, verdict="allow")
    assert later.world.correct(index=1, verdict="block")
    assert later.world.correct(index=0, verdict="allow")
    kinds = [kind for kind, _ in later.world.recording.corrections]
    assert kinds == ["confirmed", "block_overturned", "confirmed", "confirmed"], "the first came before the teacher's answer"
    first, logged, *corrections = [draft.record for draft in later.world.drafts()]
    assert [record.categories for record in (first, *corrections)] == [(), ("hate",), ("hate",), ()]
    assert (logged.index, logged.verdict, logged.decided_by) == (1, "block", "teacher")
    assert (logged.student_scores["hate"], logged.categories) == (0.4, ("hate",))
    assert logged.reasons == ("escalated", "disagreeing")
    assert logged.teacher == TeacherOpinion(outcome="answered", scores={"hate": 0.9}, basis="logprobs", identity="judge@1")


async def test_a_server_that_stops_before_the_teacher_answers_logs_what_it_gave():
    later = Later(mode="async")
    later.task.cancel()
    await later.end()
    (draft,) = later.world.drafts()
    assert (draft.record.verdict, draft.record.decided_by, draft.record.reasons) == ("allow", "student", ("escalated",))
    assert draft.record.teacher.outcome == "pending"


async def test_a_defect_on_the_way_to_a_late_answer_is_counted_and_changes_no_verdict(caplog):
    later = Later(mode="async")
    later.answered.set_exception(RuntimeError("canary"))
    await later.end()
    assert later.world.recording.dropped == {"error": 1}
    assert len(caplog.records) == 1
    assert "canary" not in caplog.text
    assert later.world.correct(index=1, verdict="allow")
    assert later.world.recording.corrections == [("confirmed", {})]


@pytest.mark.parametrize(
    ("hate", "verdict", "kind"),
    [
        (0.97, "block", "confirmed"),
        (0.97, "allow", "block_overturned"),
        (0.02, "block", "allow_overturned"),
        (0.02, "allow", "confirmed"),
        (0.97, None, "labels_only"),
    ],
)
def test_a_correction_is_counted_by_what_became_of_the_verdict(hate, verdict, kind):
    world = World(share=0.0)
    world.log.checked(checked(opinion(Text("a", "assistant"), hate=hate)))
    assert world.correct(verdict=verdict, labels={"hate": False, "sexual": True, "violence": False}, text="words words ")
    missed = {"sexual": "missed"} | ({"hate": "wrongly_flagged"} if hate > 0.5 else {})
    assert world.recording.corrections == [(kind, missed)]
    (draft,) = world.drafts()
    record = draft.record
    assert (record.id, record.index, record.verdict, record.by, record.note) == ("r1", 0, verdict, "mod", "why")
    assert record.categories == (("hate",) if hate > 0.5 else ())
    assert (record.role, record.text, draft.text) == ("assistant", None, "words words ")
    assert record.labels == {"hate": False, "sexual": True, "violence": False}


def test_a_review_is_settled_and_not_overturned():
    world = World(share=0.0)
    reviewing = replace(POLICY, on_no_teacher="review")
    asked = Escalation("deadline", 0.1, {}, {"hate": 0.4})
    world.log.checked(checked(opinion(Text("a"), hate=0.4), escalations=[asked], policy=reviewing))
    assert world.correct(verdict="allow")
    assert world.recording.corrections == [("review_settled", {})]


def test_an_id_or_index_that_never_was_is_not_taken():
    world = World(share=0.0)
    world.log.checked(checked(opinion(Text("a"))))
    assert not world.correct("r2", verdict="allow")
    assert not world.correct("r1", 1, verdict="allow")
    assert (world.recording.corrections, world.drafts()) == ([], [])


def test_a_correction_that_finds_no_way_is_refused_and_not_counted():
    world = World(share=0.0, max_items=1)
    world.log.checked(checked(opinion(Text("a"))))
    world.writer.pausing_s = 7.2
    with pytest.raises(QueueFull) as caught:
        world.correct(verdict="allow")
    assert caught.value.retry_after_s == 8
    world.writer.pausing_s = 0.0
    assert world.correct(verdict="allow")
    with pytest.raises(QueueFull) as caught:
        world.correct(labels={"hate": True})
    assert caught.value.retry_after_s == 1
    assert len(world.recording.corrections) == 1


def test_corrections_are_taken_no_more_often_than_verdicts_are_logged():
    world = World(share=0.0, per_s=2)
    world.log.checked(checked(opinion(Text("a"))))
    assert world.correct(labels={"hate": True})
    assert world.correct(labels={"hate": False})
    with pytest.raises(QueueFull):
        world.correct(labels={"hate": True})
    assert len(world.drafts()) == len(world.recording.corrections) == 2


def test_a_correction_that_comes_again_is_taken_and_neither_written_nor_counted_twice():
    world = World(share=0.0, per_s=3)
    world.log.checked(checked(opinion(Text("a"))))
    for _ in range(9):
        assert world.correct(labels={"hate": True})
    assert world.correct(labels={"hate": True, "sexual": False})
    assert world.correct(labels={"hate": True})
    said = [draft.record.labels for draft in world.drafts()]
    assert said == [{"hate": True}, {"hate": True, "sexual": False}, {"hate": True}]
    assert len(world.recording.corrections) == 3


def test_a_correction_of_another_text_is_refused():
    world = World(share=0.0)
    world.log.checked(checked(opinion(Text("a"))))
    with pytest.raises(InvalidRequest, match="not the text") as caught:
        world.correct(verdict="allow", text="words words")
    assert caught.value.param == "text"
    assert (world.recording.corrections, world.drafts()) == ([], [])


@pytest.mark.parametrize("scores", [{}, {"hate": 0.97}])
def test_a_block_for_nothing_is_refused_for_nobody_could_learn_from_it(scores):
    world = World(share=0.0)
    world.log.checked(checked(opinion(Text("a"), **scores)))
    with pytest.raises(InvalidRequest, match="say which category") as caught:
        world.correct(verdict="block", labels={"hate": False})
    assert caught.value.param == "labels"
    assert world.correct(verdict="block", labels={"hate": False, "sexual": True})
    assert len(world.drafts()) == len(world.recording.corrections) == 1
