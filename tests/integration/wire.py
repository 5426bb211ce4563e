"""One connection as bytes, for tests of what no HTTP client would send."""

import asyncio
import json
from dataclasses import dataclass

BODY = b'{"texts": [{"text": "hate"}]}'
HEAD = b"POST /v1/check HTTP/1.1\r\nHost: guard\r\n"


def post(body: bytes = BODY, *, more: bytes = b"") -> bytes:
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


@dataclass
class Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next reply."""
        async with asyncio.timeout(60):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            return int(first.split()[1]), headers, await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def is_closed(self) -> bool:
        """Waits for the end; False if more came first."""
        async with asyncio.timeout(60):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True

    async def is_closed_within(self, wait_s: float) -> bool:
        """Whether the end, and nothing else, comes within this time."""
        ended = asyncio.create_task(self.is_closed())
        await asyncio.wait([ended], timeout=wait_s)
        if ended.done():
            return ended.result()
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)
        return False


def code_of(body: bytes) -> str:
    return json.loads(body)["error"]["code"]
