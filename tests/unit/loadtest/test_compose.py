"""The mix of requests."""

import json
from collections import Counter

import pytest

from loadtest.scenario.bad_input import bad_inputs
from loadtest.scenario.compose import MIX, SHARE_ASSISTANT, SHARE_NEW_CONNECTIONS, compose, length_class
from loadtest.scenario.exchange import BAD_INPUT, ESCALATION, FEEDBACK, read_exchange
from loadtest.texts import generate_texts

PATHS = ("/v1/check", "/v1/moderations", "/v1/escalations/{escalation_id}", "/v1/feedback")
TEXTS = generate_texts(1_024)


@pytest.fixture(scope="module")
def exchanges():
    return compose(TEXTS, 20_000, paths=PATHS, needs_key=False, seed=1)


def test_the_shares_make_one_whole():
    assert sum(MIX.values()) == pytest.approx(1.0)


def test_kinds_come_as_often_as_the_mix_says(exchanges):
    counts = Counter(exchange.kind for exchange in exchanges)
    singles = {"check", "moderations"}
    for kind, share in MIX.items():
        found = sum(counts[f"{kind} {length}"] for length in ("short", "medium", "long")) if kind in singles else counts[kind]
        assert found / len(exchanges) == pytest.approx(share, rel=0.15), kind
    assert all(counts[f"check {length}"] for length in ("short", "medium", "long"))


def test_bodies_hold_the_texts_whose_lengths_are_told(exchanges):
    for exchange in exchanges[:2_000]:
        if not exchange.is_check:
            continue
        body = json.loads(exchange.body)
        if exchange.kind.startswith("check"):
            texts = [item["text"] for item in body["texts"]]
        else:
            given = body["input"]
            texts = [given] if isinstance(given, str) else given
            if exchange.kind == "moderations parts":
                texts = ["\n".join(part["text"] for part in given)]
        assert tuple(map(len, texts)) == exchange.text_chars
        if len(texts) == 1 and not exchange.kind.endswith("parts"):
            assert exchange.kind.split()[-1] in (length_class(len(texts[0])), "array")


def test_roles_and_connections_are_mixed(exchanges):
    items = [item for e in exchanges if e.kind.startswith("check") for item in json.loads(e.body)["texts"]]
    assert sum(item.get("role") == "assistant" for item in items) / len(items) == pytest.approx(SHARE_ASSISTANT, abs=0.02)
    closing = sum(exchange.headers.get("Connection") == "close" for exchange in exchanges)
    assert closing / len(exchanges) == pytest.approx(SHARE_NEW_CONNECTIONS, abs=0.01)


def test_what_the_server_has_not_is_left_out():
    kinds = {exchange.kind for exchange in compose(TEXTS, 5_000, paths=("/v1/check",), needs_key=False, seed=1)}
    assert kinds == {"check short", "check medium", "check long", "check array", BAD_INPUT}
    assert {ESCALATION, FEEDBACK} <= {e.kind for e in compose(TEXTS, 5_000, paths=PATHS, needs_key=False, seed=1)}


def test_the_same_seed_gives_the_same_requests():
    one, again, other = (compose(TEXTS, 100, paths=PATHS, needs_key=False, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


def test_an_exchange_survives_json(exchanges):
    for exchange in exchanges[:500]:
        assert read_exchange(json.loads(json.dumps(exchange.to_record()))) == exchange


def test_every_bad_input_has_a_due_refusal():
    found = bad_inputs(needs_key=False)
    assert all(exchange.kind == BAD_INPUT and 400 <= exchange.status < 500 and exchange.code for exchange in found)
    assert {exchange.status for exchange in found} == {400, 404, 405, 413, 415}
    assert not any(exchange.is_check for exchange in found)


def test_where_keys_are_asked_for_some_come_without():
    keyless = [exchange for exchange in bad_inputs(needs_key=True) if not exchange.has_key]
    assert [(exchange.status, exchange.code) for exchange in keyless] == [(401, "unauthorized"), (401, "invalid_api_key")]
