"""A teacher behind any OpenAI-compatible server: vLLM, llama.cpp, TGI, or a hosted one."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import httpx

from server.core.calibration import Calibration, calibration_to_json
from server.core.policy import Rule
from server.core.prompt import GUIDELINE, PromptForm
from server.core.taxonomy import Category, Role
from server.teacher.answers import Answer, read_answers
from server.teacher.teacher import Judgement, TeacherUnavailable

Api = Literal["completions", "chat"]

MAX_REPLY_BYTES = 1 << 20
"""Far over what eight answers with 20 candidates each take (about 20 KB)."""

HARD_ANSWER_TOKENS = 4
"""Of an answer without log-probabilities, which is read as text: chat models write ``**Yes**``."""

_KEEPALIVE_S = 2.0
"""Under the 5 s after which llama.cpp and uvicorn drop an idle connection: we never send on one being dropped."""

_TAG = "stillguard-"
_REFUSALS_OF_THE_TEXT = frozenset({400, 413, 422})


class HttpTeacher:
    """Asks one server about one text at a time per call.

    ``completions`` sends one request per text to ``POST {base_url}/v1/completions``, with one prompt per asked category.
    All prompts of a text begin with the same tokens, so a server with prefix caching reads them once (vLLM's automatic
    prefix caching; llama.cpp within one slot). ``chat`` sends one request per category to ``/v1/chat/completions``, side by
    side, for servers that offer nothing else; the chat template around the prompt is the server's.

    Each request has an ``X-Request-Id`` of ours. vLLM makes its reply's id of it and many proxies send it back. Of a server
    that has done so once, every reply must: another is meant for someone else and is an error. A server that doesn't is asked
    on a new connection each time, as an answer that comes twice would be read as the next question's. Redirects aren't
    followed, and proxies named by the environment aren't used: texts go to ``base_url`` only.

    Args:
        base_url: scheme, host and port; a trailing ``/v1`` is accepted.
        model: the model's name on that server.
        calibration: margin → score, per category.
        form: how it is asked; ShieldGemma's template unless the teacher was tuned on another.
        api_key: sent as a bearer token; never logged.
        top_logprobs: how many candidates of the first token are asked for; 20 is the bound of vLLM's default and OpenAI's.
            0 leaves the field out, which some servers refuse.
        max_connections: how many requests are under way at once; more wait, within their deadlines.
        extra: fields that the server at hand understands beside OpenAI's; they win over ours.
        transport: replaces the network, for tests.
    """

    is_ready = True

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        calibration: Calibration,
        form: PromptForm = GUIDELINE,
        api: Api = "completions",
        api_key: str | None = None,
        top_logprobs: int = 20,
        max_connections: int = 16,
        extra: Mapping[str, Any] = MappingProxyType({}),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._calibration = calibration
        self.form = form
        self._ask = self._complete if api == "completions" else self._chat
        candidates = {"logprobs": top_logprobs} if api == "completions" else {"logprobs": True, "top_logprobs": top_logprobs}
        answer = {"max_tokens": 1} | candidates if top_logprobs else {"max_tokens": HARD_ANSWER_TOKENS}
        self._fields = {"model": model, "temperature": 0} | answer | dict(extra)
        asked = json.dumps([self._fields, form.name, api, calibration_to_json(calibration)], sort_keys=True)
        self.identity = f"{model}@{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
        limits = httpx.Limits(max_connections=max_connections, keepalive_expiry=_KEEPALIVE_S)
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {}),
            timeout=None,  # each question has its own deadline, over all of it
            transport=transport or httpx.AsyncHTTPTransport(limits=limits),
        )
        self.name = self._client.base_url.netloc.decode()
        self._is_tagged = False
        """The server's replies say which question they answer."""
        self._is_in_step = False
        """And the last one did: its connection may be used again."""
        self._in_flight: set[asyncio.Task[list[Answer]]] = set()
        self._is_closed = False

    async def start(self) -> None:
        """Connections are opened as they are needed."""

    async def judge(self, text: str, role: Role, rules: Mapping[Category, Rule], *, deadline: float) -> Judgement:
        """See :class:`~server.teacher.teacher.Teacher`."""
        if self._is_closed:
            raise TeacherUnavailable("unreachable", "the teacher is closed", is_teachers_fault=False)
        if deadline <= time.monotonic():
            raise TeacherUnavailable("deadline", "the deadline passed before the teacher was asked", is_teachers_fault=False)
        prompts = [self.form.prompt(text, role, rule) for rule in rules.values()]
        question = asyncio.create_task(self._within(deadline, prompts))
        self._in_flight.add(question)
        question.add_done_callback(self._settle)
        try:
            found = await question
        except asyncio.CancelledError:
            # close() cancels the question; our caller cancels us. Only the first is an answer.
            if self._is_closed and not asyncio.current_task().cancelling():
                raise TeacherUnavailable("unreachable", "the teacher was closed", is_teachers_fault=False) from None
            raise
        return Judgement(
            {c: self._calibration[c].score(answer.margin) for c, answer in zip(rules, found, strict=True)},
            "answer" if any(answer.basis == "answer" for answer in found) else "logprobs",
        )

    async def close(self) -> None:
        """See :class:`~server.teacher.teacher.Teacher`."""
        self._is_closed = True
        for question in self._in_flight:
            question.cancel()
        if self._in_flight:
            await asyncio.wait(self._in_flight)
        await self._client.aclose()

    def _settle(self, question: asyncio.Task[list[Answer]]) -> None:
        self._in_flight.discard(question)
        if not question.cancelled():
            question.exception()  # looked at, so that asyncio doesn't log it when our caller was cancelled meanwhile

    async def _within(self, deadline: float, prompts: list[str]) -> list[Answer]:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._ask(prompts)
        except TimeoutError:
            raise TeacherUnavailable("deadline", "the teacher's deadline passed") from None

    async def _complete(self, prompts: list[str]) -> list[Answer]:
        return read_answers(await self._post("/v1/completions", {"prompt": prompts}), count=len(prompts))

    async def _chat(self, prompts: list[str]) -> list[Answer]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._chat_once(prompt)) for prompt in prompts]
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _chat_once(self, prompt: str) -> Answer:
        reply = await self._post("/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}]})
        (answer,) = read_answers(reply, count=1)
        return answer

    async def _post(self, path: str, fields: dict[str, Any]) -> Any:
        """The reply's JSON, if it is an answer to this very question."""
        tag = _TAG + secrets.token_hex(8)
        headers = {"X-Request-Id": tag} | ({} if self._is_in_step else {"Connection": "close"})
        try:
            async with self._client.stream("POST", path, json=self._fields | fields, headers=headers) as response:
                content = await _read_bounded(response)
        except (TeacherUnavailable, TimeoutError):
            raise
        except httpx.TimeoutException:
            raise TeacherUnavailable("deadline", "the teacher's deadline passed") from None
        except httpx.TransportError as error:
            raise TeacherUnavailable("unreachable", f"the teacher can't be reached: {type(error).__name__}") from None
        except Exception as error:  # the protocol's promise; the message may hold the text, so only its type is kept
            raise TeacherUnavailable(
                "error", f"the teacher can't be asked: {type(error).__name__}", is_teachers_fault=False
            ) from None
        try:
            reply = json.loads(content)
        except (ValueError, RecursionError):
            raise TeacherUnavailable("error", "the teacher's answer is not JSON") from None
        echoed = response.headers.get("x-request-id", "") + (str(reply.get("id", "")) if isinstance(reply, dict) else "")
        self._is_in_step = tag in echoed
        if not self._is_in_step and (self._is_tagged or _TAG in echoed):
            raise TeacherUnavailable("error", "the teacher's answer is to another question")
        self._is_tagged = self._is_in_step
        return reply


async def _read_bounded(response: httpx.Response) -> bytes:
    """The body of a 200, read no further than it may go: a huge one is given up, a slow one meets the deadline."""
    if response.status_code != httpx.codes.OK:
        raise TeacherUnavailable(
            "error",
            f"the teacher answered with HTTP status {response.status_code}",
            is_teachers_fault=response.status_code not in _REFUSALS_OF_THE_TEXT,
        )
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TeacherUnavailable("error", "the teacher's answer is compressed, unasked")
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > MAX_REPLY_BYTES:
            raise TeacherUnavailable("error", f"the teacher's answer is over {MAX_REPLY_BYTES} bytes")
    return bytes(content)
