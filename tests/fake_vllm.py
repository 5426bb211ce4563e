"""A server that speaks vLLM's JSON on a real socket, and misbehaves when told to.

The reply's form and its id (``cmpl-`` and the asker's ``X-Request-Id``) are those of vLLM's ``/v1/completions``; logprobs of
prompts, fingerprints and usage are there as vLLM sends them, though nobody reads them.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

Manner = Literal[
    "well",
    "bare",
    "silent",
    "drip",
    "http_500",
    "reset",
    "malformed",
    "not_a_number",
    "wrong_count",
    "huge",
    "foreign",
    "twice",
    "refuses",
]


@dataclass
class FakeVllm:
    """``says_yes_to``: a word that makes the answer Yes. ``is_tagged``: replies name the request that they answer.
    ``release``: while not set, answers are held back."""

    url: str = ""
    manner: Manner = "well"
    says_yes_to: str = "knife"
    is_tagged: bool = True
    release: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
                body = json.loads(await reader.readexactly(int(fields["content-length"])))
                self.heads.append(head.decode())
                self.requests.append(body)
                self.asked.set()
                await self.release.wait()
                await self._answer(writer, body, fields["x-request-id"])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: dict[str, Any], request_id: str) -> None:
        if self.manner == "silent":
            await asyncio.Event().wait()
        if self.manner == "reset":
            writer.transport.abort()
            return
        status = {"http_500": "500 Internal Server Error", "refuses": "400 Bad Request"}.get(self.manner, "200 OK")
        content = json.dumps(self._reply(body, request_id)).encode()
        if self.manner == "malformed":
            content = content[: len(content) // 2]
        if self.manner == "huge":
            content += b" " * (4 << 20)
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        writer.write(head.encode())
        if self.manner == "drip":
            writer.write(content[:10])
            await writer.drain()
            await asyncio.Event().wait()
        writer.write(content)
        if self.manner == "twice":
            writer.write(head.encode() + content)
        await writer.drain()

    def _reply(self, body: dict[str, Any], request_id: str) -> dict[str, Any]:
        if self.manner == "foreign":
            request_id = "stillguard-" + "0" * 16
        prompts = body["prompt"][1:] if self.manner == "wrong_count" else body["prompt"]
        return {
            "id": f"cmpl-{request_id}" if self.is_tagged else "cmpl-8f14e45fceea",
            "object": "text_completion",
            "created": 1_790_000_000,
            "model": body["model"],
            "choices": [self._choice(index, prompt) for index, prompt in enumerate(prompts)],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {"prompt_tokens": 200, "total_tokens": 201, "completion_tokens": 1, "prompt_tokens_details": None},
            "kv_transfer_params": None,
        }

    def _choice(self, index: int, prompt: str) -> dict[str, Any]:
        answer, other = ("Yes", "No") if self.says_yes_to in prompt else ("No", "Yes")
        likely = float("nan") if self.manner == "not_a_number" else -0.05
        logprobs = {
            "text_offset": [0],
            "token_logprobs": [likely],
            "tokens": [answer],
            "top_logprobs": [{answer: likely, other: -3.05, f" {other}": -9.0, "\n": -8.5}],
        }
        return {
            "index": index,
            "text": answer,
            "logprobs": None if self.manner == "bare" else logprobs,
            "finish_reason": "length",
            "stop_reason": None,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
        }


@asynccontextmanager
async def fake_vllm(**options: Any) -> AsyncIterator[FakeVllm]:
    """A running server, whose answers aren't held back; gone on exit, with whoever it kept waiting."""
    fake = FakeVllm(**options)
    fake.release.set()
    connections: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        await fake.serve(reader, writer)

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
