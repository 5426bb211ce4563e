"""Labelled texts in, verdicts out: a server is asked in small arrays, patiently, and every answer is checked."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from loadtest.command import Unusable
from loadtest.scenario.exchange import CHECK_PATH, Exchange
from loadtest.scenario.judge import Reply, judge
from loadtest.verdicts.labelled import LabelledText

ARRAY_TEXTS = 8
_NOT_NOW = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE)
_NEVER = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED)


@dataclass(frozen=True, slots=True)
class Served:
    """What answered."""

    artifact_version: str
    artifact_hash: str
    artifact_precision: str
    policy_id: str
    policy_version: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A verdict. ``escalation`` is what came of asking the teacher, None where it wasn't wanted."""

    verdict: str
    decided_by: str
    categories: tuple[str, ...]
    scores: dict[str, float]
    escalation: str | None
    served: Served


@dataclass(frozen=True, slots=True)
class NotChecked:
    """No verdict. ``reason`` is the server's error code, or what was wrong in words of ours."""

    reason: str


Outcome = Checked | NotChecked


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request is sent in all, and how long to wait in between: as long as the server says (Retry-After); where it
    doesn't say, ``wait_s``, and each time twice as long. Never longer than ``max_wait_s``."""

    tries: int = 7
    wait_s: float = 1.0
    max_wait_s: float = 60.0

    def wait_after(self, tried: int, told: str = "") -> float:
        """Seconds. ``told`` is the value of Retry-After."""
        return min(float(told) if told.isdecimal() else self.wait_s * 2 ** (tried - 1), self.max_wait_s)


@dataclass(frozen=True, slots=True)
class _Failure:
    """``may_pass``: the same request may be answered later, after the seconds that are ``told``. ``is_silent``: nobody answered
    at all."""

    reason: str
    may_pass: bool = False
    told: str = ""
    is_silent: bool = False


class Asker:
    """Gets a verdict for every text that the server has one for."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        policy: str | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Args:
            client: knows the server's address, and the API key.
            policy: None for the server's own choice.
            sleep: how to wait, in seconds.
        """
        self._client = client
        self._policy = {} if policy is None else {"policy": policy}
        self._patience = patience or Patience()
        self._sleep = sleep
        self._gone: NotChecked | None = None

    async def ask_all(
        self, texts: Sequence[LabelledText], *, concurrency: int, on_done: Callable[[Sequence[Outcome]], None]
    ) -> list[Outcome]:
        """One outcome per text, in order; ``on_done`` is told of each array's. At most ``concurrency`` requests at a time. Once
        nobody answered a request, with all patience, no more are sent.

        Raises:
            Unusable: the API key, the policy or the address is wrong.
        """
        outcomes: list[Outcome] = [NotChecked("not asked")] * len(texts)
        firsts = iter(range(0, len(texts), ARRAY_TEXTS))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._ask_some(texts, firsts, outcomes, on_done))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return outcomes

    async def ask(self, texts: Sequence[LabelledText]) -> list[Outcome]:
        """One outcome per text, of one request. If that fails for what may be one text's fault, each is asked about alone.

        Raises:
            Unusable: as above.
        """
        answered = await self._ask_patiently(texts)
        if not isinstance(answered, _Failure):
            return answered
        not_checked = NotChecked(answered.reason)
        if answered.is_silent:
            self._gone = not_checked
        if len(texts) == 1 or answered.may_pass:
            return [not_checked] * len(texts)
        return [outcome for text in texts for outcome in await self.ask([text])]

    async def _ask_some(
        self,
        texts: Sequence[LabelledText],
        firsts: Iterator[int],
        outcomes: list[Outcome],
        on_done: Callable[[Sequence[Outcome]], None],
    ) -> None:
        for first in firsts:
            asked = texts[first : first + ARRAY_TEXTS]
            found = [self._gone] * len(asked) if self._gone else await self.ask(asked)
            outcomes[first : first + len(found)] = found
            on_done(found)

    async def _ask_patiently(self, texts: Sequence[LabelledText]) -> list[Outcome] | _Failure:
        for tried in range(1, self._patience.tries):
            answered = await self._ask_once(texts)
            if not isinstance(answered, _Failure) or not answered.may_pass:
                return answered
            await self._sleep(self._patience.wait_after(tried, answered.told))
        return await self._ask_once(texts)

    async def _ask_once(self, texts: Sequence[LabelledText]) -> list[Outcome] | _Failure:
        request_id = uuid.uuid4().hex
        body = {"texts": [{"text": text.text, "role": text.role} for text in texts]} | self._policy
        headers = {"content-type": "application/json", "x-request-id": request_id}
        try:
            reply = await self._client.post(CHECK_PATH, content=json.dumps(body).encode(), headers=headers)
        except httpx.RequestError as error:
            return _Failure(type(error).__name__, may_pass=True, is_silent=True)
        if reply.status_code != httpx.codes.OK:
            return _read_error(reply)
        asked = Exchange("check", "POST", CHECK_PATH, None, tuple(len(text.text) for text in texts))
        judged = judge(asked, Reply(reply.status_code, reply.headers, reply.content), request_id)
        return _Failure(judged.complaint) if judged.complaint else _read_answer(judged.answer)


def _read_error(reply: httpx.Response) -> _Failure:
    """Raises Unusable: asking again, or asking something else, is of no use."""
    status, (code, message) = reply.status_code, _read_envelope(reply)
    if status in _NEVER or code == "unknown_policy" or reply.is_redirect:
        what = ": ".join(filter(None, (code, message))) or reply.reason_phrase
        raise Unusable(f"POST {reply.request.url} is refused with {status}: {what}")
    return _Failure(code or f"status {status}", may_pass=status in _NOT_NOW, told=reply.headers.get("retry-after", ""))


def _read_envelope(reply: httpx.Response) -> tuple[str | None, str | None]:
    """An error's code and message, if it has any: what stands before the server has envelopes of its own."""
    try:
        error = reply.json()["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return None, None


def _read_answer(answer: Any) -> list[Outcome]:
    """An answer that was judged to be right."""
    artifact, policy = answer["artifact"], answer["policy"]
    served = Served(artifact["version"], artifact["hash"], artifact["precision"], policy["id"], policy["version"])
    return [
        Checked(
            verdict=result["verdict"],
            decided_by=result["decided_by"],
            categories=tuple(result["categories"]),
            scores=result["scores"],
            escalation=result["escalation"] and result["escalation"]["outcome"],
            served=served,
        )
        for result in answer["results"]
    ]
