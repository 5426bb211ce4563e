"""The mix: how often what is asked. Seeded, so that every process and every tool plays the same."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from loadtest.scenario.bad_input import bad_inputs
from loadtest.scenario.exchange import (
    BAD_INPUT,
    CHECK_PATH,
    ESCALATION,
    ESCALATION_PATH,
    FEEDBACK,
    FEEDBACK_PATH,
    MODERATIONS_PATH,
    Exchange,
)

MIX = {
    "check": 0.60,
    "check array": 0.10,
    "moderations": 0.17,
    "moderations array": 0.04,
    "moderations parts": 0.03,
    BAD_INPUT: 0.02,
    ESCALATION: 0.02,
    FEEDBACK: 0.02,
}
"""Kind → its share of the requests. ``check`` and ``moderations`` take one text, and their rows are split by its length."""

NEEDS = {
    **dict.fromkeys(("moderations", "moderations array", "moderations parts"), MODERATIONS_PATH),
    ESCALATION: ESCALATION_PATH,
    FEEDBACK: FEEDBACK_PATH,
}
"""Kind → the path that a server must have for it."""

SHARE_ASSISTANT = 0.3
"""Of the texts that have a role."""
SHARE_NEW_CONNECTIONS = 0.05
"""Requests after which the connection is closed, so that the next one opens another."""
SHORT_CHARS, LONG_CHARS = 60, 1_000
ARRAY_TEXTS, PARTS = (2, 32), (2, 4)


def compose(texts: Sequence[str], count: int, *, paths: Sequence[str], needs_key: bool, seed: int) -> list[Exchange]:
    """``count`` exchanges over ``texts``, which go round in their order.

    Args:
        paths: what the server has (its OpenAPI description's); kinds that need another are left out.
        needs_key: it asks for API keys.
    """
    rng = random.Random(seed)
    mix = {kind: share for kind, share in MIX.items() if NEEDS.get(kind, CHECK_PATH) in paths}
    refusals = bad_inputs(needs_key=needs_key)
    source = _around(texts)
    exchanges = []
    for kind in rng.choices(list(mix), list(mix.values()), k=count):
        exchange = rng.choice(refusals) if kind == BAD_INPUT else _write(kind, source, rng)
        if rng.random() < SHARE_NEW_CONNECTIONS:
            exchange = replace(exchange, headers=exchange.headers | {"Connection": "close"})
        exchanges.append(exchange)
    return exchanges


def length_class(chars: int) -> str:
    return "short" if chars < SHORT_CHARS else "long" if chars >= LONG_CHARS else "medium"


def _write(kind: str, source: Iterator[str], rng: random.Random) -> Exchange:
    if kind == ESCALATION:
        return Exchange(kind, "GET", ESCALATION_PATH)
    if kind == FEEDBACK:
        return Exchange(kind, "POST", FEEDBACK_PATH, status=202)
    bounds = {"check array": ARRAY_TEXTS, "moderations array": ARRAY_TEXTS, "moderations parts": PARTS}.get(kind, (1, 1))
    texts = [next(source) for _ in range(rng.randint(*bounds))]
    if bounds == (1, 1):
        kind = f"{kind} {length_class(len(texts[0]))}"
    if kind.startswith("check"):
        return _check(kind, texts, rng)
    if kind == "moderations parts":
        return _moderations(kind, [{"type": "text", "text": text} for text in texts], ["\n".join(texts)])
    return _moderations(kind, texts[0] if bounds == (1, 1) else texts, texts)


def _check(kind: str, texts: list[str], rng: random.Random) -> Exchange:
    items = [{"text": text} | ({"role": "assistant"} if rng.random() < SHARE_ASSISTANT else {}) for text in texts]
    return Exchange(kind, "POST", CHECK_PATH, json.dumps({"texts": items}), tuple(map(len, texts)))


def _moderations(kind: str, given: object, read: list[str]) -> Exchange:
    return Exchange(kind, "POST", MODERATIONS_PATH, json.dumps({"input": given}), tuple(map(len, read)))


def _around(texts: Sequence[str]) -> Iterator[str]:
    while True:
        yield from texts
