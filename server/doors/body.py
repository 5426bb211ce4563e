"""One request's body, bounded in bytes and in time, alone and together with all others."""

import asyncio

from starlette.types import Receive

from server.core.errors import QueueFull, TextTooLarge
from server.core.shared_bound import SharedBound
from server.doors.errors import BodyTooSlow
from server.doors.exchange import ClientGone


async def read_body(
    receive: Receive, *, announced: bytes | None, max_bytes: int, timeout_s: float, half_sent: SharedBound
) -> bytes:
    """The whole body.

    Args:
        announced: the content length that the client gave.
        half_sent: bounds the bytes of all bodies of a port that aren't whole; one that comes in one piece takes nothing.

    Raises:
        TextTooLarge: over ``max_bytes``, as announced or as it comes in; the rest is left unread.
        QueueFull: there is no room for it beside the others; the rest is left unread.
        BodyTooSlow: not all there within ``timeout_s``.
        ClientGone: the client hung up half-way.
    """
    if announced is not None and announced.isdigit() and (len(announced) > 18 or int(announced) > max_bytes):
        raise TextTooLarge(f"the body is over {max_bytes} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                if len(body) + len(chunk) > max_bytes:
                    raise TextTooLarge(f"the body is over {max_bytes} bytes")
                if not message.get("more_body", False):
                    return b"".join((body, chunk)) if body else chunk
                if not half_sent.take(len(chunk), held=len(body)):
                    raise QueueFull("too much is being read")
                body += chunk
    except TimeoutError:
        raise BodyTooSlow("the body was not there in time") from None
    finally:
        if body:
            half_sent.give_back(len(body))
