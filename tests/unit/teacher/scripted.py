"""A :class:`~server.teacher.teacher.Teacher` that a test drives by hand."""

import asyncio

from server.core.policy import load_policies
from server.core.prompt import GUIDELINE
from server.core.taxonomy import CATEGORIES
from server.teacher.teacher import Judgement, TeacherUnavailable

RULES = dict(zip(CATEGORIES, load_policies()["default"].rules, strict=True))
HATE = {"hate": RULES["hate"]}


class Scripted:
    """Each question waits in ``questions`` for the test to answer it; ``cancelled`` counts those given up."""

    identity = "scripted"
    form = GUIDELINE

    def __init__(self, name: str = "scripted") -> None:
        self.name = name
        self.questions: asyncio.Queue[Question] = asyncio.Queue()
        self.asked = self.cancelled = 0
        self.deadlines: list[float] = []
        self.is_ready = True
        self.is_started = self.is_closed = False

    async def start(self) -> None:
        self.is_started = True

    async def judge(self, text, role, rules, *, deadline) -> Judgement:
        question = Question(rules)
        self.asked += 1
        self.deadlines.append(deadline)
        self.questions.put_nowait(question)
        try:
            return await question.future
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def close(self) -> None:
        self.is_closed = True


class Question:
    def __init__(self, rules) -> None:
        self._rules = rules
        self.future: asyncio.Future[Judgement] = asyncio.get_running_loop().create_future()

    def answer(self, score: float) -> None:
        self.future.set_result(Judgement(dict.fromkeys(self._rules, score), "logprobs"))

    def fail(self, outcome: str, reason: str = "told to fail", **fault) -> None:
        self.future.set_exception(TeacherUnavailable(outcome, reason, **fault))
