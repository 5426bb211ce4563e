"""Asking for verdicts: patience with a busy server, and never a verdict that nobody gave."""

import httpx
import pytest

from loadtest.command import Unusable
from loadtest.verdicts.ask import ARRAY_TEXTS, Asker, Checked, NotChecked, Patience, Served
from loadtest.verdicts.labelled import LabelledText
from tests.unit.loadtest.verdict_door import VerdictDoor, hang_up, refusal

SERVED = Served("1", "ab", "int8", "default", "1")


class Waits(list):
    """Stands in for a sleep: only notes for how long."""

    async def __call__(self, wait_s: float) -> None:
        self.append(wait_s)


def texts(*said: str) -> list[LabelledText]:
    return [LabelledText(text, is_unsafe=False) for text in said]


async def ask(door, *said, waits=None, concurrency=1, **options):
    done = []
    asker = Asker(door.client, sleep=Waits() if waits is None else waits, **options)
    outcomes = await asker.ask_all(texts(*said), concurrency=concurrency, on_done=done.extend)
    assert len(done) == len(outcomes)
    return outcomes


def verdicts(outcomes):
    return [one.verdict if isinstance(one, Checked) else one.reason for one in outcomes]


async def test_every_text_gets_its_own_verdict_in_small_arrays():
    door = VerdictDoor()
    said = [f"{'hate' if i % 3 == 0 else 'fine'} {i}" for i in range(2 * ARRAY_TEXTS + 3)]
    outcomes = await ask(door, *said, concurrency=3)
    assert verdicts(outcomes) == ["block" if i % 3 == 0 else "allow" for i in range(len(said))]
    assert sorted(map(len, door.texts)) == [3, ARRAY_TEXTS, ARRAY_TEXTS]
    assert outcomes[0] == Checked("block", "student", ("hate",), {"harassment": 0.1, "hate": 0.9}, None, SERVED)


async def test_role_and_policy_are_sent_and_no_policy_leaves_it_to_the_server():
    door = VerdictDoor()
    asker = Asker(door.client, policy="strict")
    await asker.ask([LabelledText("fine", False, "assistant")])
    await Asker(door.client).ask(texts("fine"))
    assert door.bodies == [
        {"texts": [{"text": "fine", "role": "assistant"}], "policy": "strict"},
        {"texts": [{"text": "fine", "role": "user"}]},
    ]


async def test_a_busy_server_is_asked_again_when_it_says_so():
    door = VerdictDoor(refusal(503, "queue_full", retry_after="3"), refusal(429, "rate_limited", retry_after="7"))
    waits = Waits()
    assert verdicts(await ask(door, "hate", "fine", waits=waits)) == ["block", "allow"]
    assert waits == [3.0, 7.0]
    assert door.texts == [["hate", "fine"]] * 3


async def test_without_a_word_waits_double_and_none_is_beyond_the_longest():
    busy = refusal(503, "shutting_down")
    door = VerdictDoor(busy, busy, busy, refusal(503, "queue_full", retry_after="3600"))
    waits = Waits()
    assert verdicts(await ask(door, "fine", waits=waits, patience=Patience(wait_s=0.5, max_wait_s=10.0))) == ["allow"]
    assert waits == [0.5, 1.0, 2.0, 10.0]


async def test_a_text_that_stays_shed_is_not_checked_and_never_allowed():
    door = VerdictDoor(troubles={"fine 0": refusal(503, "queue_full", retry_after="1")})
    said = [f"fine {i}" for i in range(ARRAY_TEXTS + 1)]
    waits = Waits()
    outcomes = await ask(door, *said, waits=waits, patience=Patience(tries=3))
    assert outcomes[:ARRAY_TEXTS] == [NotChecked("queue_full")] * ARRAY_TEXTS
    assert verdicts(outcomes[ARRAY_TEXTS:]) == ["allow"]
    assert waits == [1.0, 1.0]


@pytest.mark.parametrize(("status", "code"), [(413, "too_large"), (500, "classifier_failed"), (504, "deadline_exceeded")])
async def test_one_texts_fault_is_not_its_neighbours(status, code):
    door = VerdictDoor(troubles={"bad": refusal(status, code)})
    assert verdicts(await ask(door, "hate", "bad", "fine")) == ["block", code, "allow"]
    assert door.texts == [["hate", "bad", "fine"], ["hate"], ["bad"], ["fine"]]


async def test_a_wrong_answer_is_no_verdict():
    door = VerdictDoor()
    door.artifact = {"version": "", "hash": "ab", "precision": "int8"}
    assert await ask(door, "fine") == [NotChecked("check: an artefact without a name")]


async def test_an_error_without_an_envelope_goes_by_its_status():
    door = VerdictDoor(troubles={"bad": lambda _request: httpx.Response(500, text="<html>")})
    assert await ask(door, "bad") == [NotChecked("status 500")]


async def test_a_lost_connection_is_tried_again():
    door = VerdictDoor(hang_up)
    assert verdicts(await ask(door, "fine")) == ["allow"]


async def test_a_server_that_is_gone_ends_the_run_and_what_was_not_asked_is_not_checked():
    door = VerdictDoor(*[refusal(429, "rate_limited", retry_after="0")], *[hang_up] * 3)
    said = [f"fine {i}" for i in range(3 * ARRAY_TEXTS)]
    outcomes = await ask(door, *said, patience=Patience(tries=4))
    assert outcomes == [NotChecked("RemoteProtocolError")] * len(said)
    assert len(door.bodies) == 4, "the first array's tries, and none of the others"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (refusal(401, "unauthorized"), "401: unauthorized: a message"),
        (refusal(400, "unknown_policy"), "400: unknown_policy: a message"),
        (lambda _request: httpx.Response(403, text="no"), "403: Forbidden"),
        (lambda _request: httpx.Response(404), "404: Not Found"),
        (lambda _request: httpx.Response(301, headers={"location": "https://guard/"}), "301: Moved Permanently"),
    ],
)
async def test_what_no_request_can_mend_ends_the_run_with_the_servers_words(reply, said):
    door = VerdictDoor(reply)
    with pytest.raises(Unusable) as caught:
        await ask(door, *["fine"] * (3 * ARRAY_TEXTS))
    assert str(caught.value) == f"POST http://guard/v1/check is refused with {said}"
    assert len(door.bodies) == 1
