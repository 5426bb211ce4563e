"""What a server has, seen from outside."""

from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from loadtest.command import Unusable
from loadtest.scenario.exchange import CHECK_PATH, MODERATIONS_PATH

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Offered:
    """What a server has: its paths, and whether it asks for keys."""

    paths: tuple[str, ...]
    needs_key: bool


def look_at(url: str) -> Offered:
    """What the OpenAPI description says; a server without one is taken to have both formats, and no keys.

    Raises:
        Unusable: not an HTTP URL, nobody answers, or it is another server.
    """
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, say
        is_http = False
    if not is_http:
        raise Unusable(f"{url} is no http:// or https:// URL")
    try:
        reply = httpx.get(f"{url}/openapi.json", trust_env=False, timeout=_TIMEOUT_S)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Unusable(f"{url} doesn't answer: {type(error).__name__}") from None
    if reply.status_code != httpx.codes.OK:
        return Offered((CHECK_PATH, MODERATIONS_PATH), needs_key=False)
    try:
        paths = reply.json()["paths"]
        check = paths[CHECK_PATH]["post"]
    except (ValueError, KeyError, TypeError):
        raise Unusable(f"{url} has no POST {CHECK_PATH}") from None
    return Offered(tuple(paths), needs_key="security" in check)
