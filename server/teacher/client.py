"""A teacher behind any OpenAI-compatible server: vLLM, llama.cpp, or a hosted one."""

import asyncio
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import httpx

from server.core.calibration import Calibration
from server.core.policy import Rule
from server.core.prompt import guard_prompt
from server.core.taxonomy import Category, Role
from server.core.types import Scores
from server.teacher.answers import margins
from server.teacher.teacher import TeacherUnavailable

_KEEPALIVE_S = 2.0
"""Under the 5 s after which llama.cpp and uvicorn drop an idle connection: we never send on one being dropped."""


class HttpTeacher:
    """Asks ``POST {base_url}/v1/completions``: one request per text, with one prompt per asked category.

    All prompts of a text begin with the same tokens, so a server with prefix caching reads them once (vLLM's automatic
    prefix caching; llama.cpp within one slot). Proxies named by the environment are not used: texts go to ``base_url``
    only.

    Args:
        base_url: scheme, host and port; a trailing ``/v1`` is accepted.
        model: the model's name on that server.
        calibration: margin → score, per category.
        api_key: sent as a bearer token; never logged.
        top_logprobs: how many candidates of the first token are asked for; vLLM's default bound is 20.
        max_connections: how many texts are asked about at once; more wait, within their deadlines.
        extra: fields that the server at hand understands beside OpenAI's; they win over ours.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        calibration: Calibration,
        api_key: str | None = None,
        top_logprobs: int = 20,
        max_connections: int = 16,
        extra: Mapping[str, Any] = MappingProxyType({}),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._calibration = calibration
        self._fields = {"model": model, "max_tokens": 1, "temperature": 0, "logprobs": top_logprobs} | dict(extra)
        limits = httpx.Limits(max_connections=max_connections, keepalive_expiry=_KEEPALIVE_S)
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            timeout=None,  # each question has its own deadline, over all of it
            transport=transport or httpx.AsyncHTTPTransport(limits=limits),
        )
        self._in_flight: set[asyncio.Task[list[float]]] = set()
        self._is_closed = False

    async def judge(self, text: str, role: Role, rules: Mapping[Category, Rule], *, deadline: float) -> Scores:
        """See :class:`~server.teacher.teacher.Teacher`."""
        if self._is_closed:
            raise TeacherUnavailable("unreachable", "the teacher is closed")
        if deadline <= time.monotonic():
            raise TeacherUnavailable("deadline", "the teacher's deadline passed before it was asked")
        prompts = [guard_prompt(text, role, rule) for rule in rules.values()]
        question = asyncio.create_task(self._ask(prompts, deadline))
        self._in_flight.add(question)
        question.add_done_callback(self._settle)
        try:
            found = await question
        except asyncio.CancelledError:
            # close() cancels the question; our caller cancels us. Only the first is an answer.
            if self._is_closed and not asyncio.current_task().cancelling():
                raise TeacherUnavailable("unreachable", "the teacher was closed") from None
            raise
        return {category: self._calibration[category].score(margin) for category, margin in zip(rules, found, strict=True)}

    async def close(self) -> None:
        """See :class:`~server.teacher.teacher.Teacher`."""
        self._is_closed = True
        for question in self._in_flight:
            question.cancel()
        if self._in_flight:
            await asyncio.wait(self._in_flight)
        await self._client.aclose()

    def _settle(self, question: asyncio.Task[list[float]]) -> None:
        self._in_flight.discard(question)
        if not question.cancelled():
            question.exception()  # looked at, so that asyncio doesn't log it when our caller was cancelled meanwhile

    async def _ask(self, prompts: list[str], deadline: float) -> list[float]:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                response = await self._client.post("/v1/completions", json=self._fields | {"prompt": prompts})
        except (TimeoutError, httpx.TimeoutException):
            raise TeacherUnavailable("deadline", "the teacher's deadline passed") from None
        except httpx.TransportError as error:
            raise TeacherUnavailable("unreachable", f"the teacher can't be reached: {type(error).__name__}") from None
        except Exception as error:  # the protocol's promise; the message may hold the text, so only its type is kept
            raise TeacherUnavailable("error", f"the teacher can't be asked: {type(error).__name__}") from None
        if response.status_code != httpx.codes.OK:
            raise TeacherUnavailable("error", f"the teacher answered with HTTP status {response.status_code}")
        try:
            reply = response.json()
        except (ValueError, RecursionError):
            raise TeacherUnavailable("error", "the teacher's answer is not JSON") from None
        return margins(reply, count=len(prompts))
