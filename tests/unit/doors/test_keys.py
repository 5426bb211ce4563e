"""API keys: who is let in, how often, and what is said of a wrong file."""

import hashlib

import pytest

from server.core.errors import ConfigurationError
from server.core.token_bucket import TokenBucket
from server.doors.errors import RateLimited, Unauthorized
from server.doors.keys import Key, KeyRing, load_keys


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + key.encode()}


@pytest.fixture
def ring() -> KeyRing:
    clock = Clock()
    slow = TokenBucket(0.3, 1, clock=clock)
    return KeyRing(
        [
            Key("fast", bytes.fromhex(sha256("open sesame")), None),
            Key("slow", bytes.fromhex(sha256("tick")), slow),
        ]
    )


def test_a_known_key_is_named(ring):
    assert ring.admit(bearer("open sesame")) == "fast"
    assert ring.admit({b"authorization": b"bearer  tick "}) == "slow"


@pytest.mark.parametrize(
    "headers",
    [{}, bearer(""), bearer("open sesamE"), {b"authorization": b"open sesame"}, {b"authorization": b"Basic open sesame"}],
)
def test_nobody_else_is_let_in_or_told_why(ring, headers):
    with pytest.raises(Unauthorized, match=r"^a valid API key is needed: Authorization: Bearer <key>$"):
        ring.admit(headers)


def test_a_digest_that_only_begins_like_a_known_one_is_not_it():
    digest = bytes.fromhex(sha256("open sesame"))
    ring = KeyRing([Key("near", digest[:-1] + bytes([digest[-1] ^ 1]), None)])
    with pytest.raises(Unauthorized):
        ring.admit(bearer("open sesame"))


def test_a_key_over_its_rate_is_told_when_to_come_back_and_its_neighbour_is_not(ring):
    ring.admit(bearer("tick"))
    with pytest.raises(RateLimited) as caught:
        ring.admit(bearer("tick"))
    assert caught.value.retry_after_s == 4
    assert ring.admit(bearer("open sesame")) == "fast"


def test_a_file_is_read(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(f'[a]\nsha256 = "{sha256("x")}"\n[b]\nsha256 = "{sha256("y").upper()}"\nrequests_per_s = 0.5\n')
    ring = load_keys(path)
    assert ring.admit(bearer("x")) == "a"
    assert ring.admit(bearer("y")) == "b"
    with pytest.raises(RateLimited):
        ring.admit(bearer("y"))


RATE_RULE = "requests_per_s: must be from 0.00001 (about one a day) to 1,000,000"
HASH = f'sha256 = "{sha256("secret7f3a")}"'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read: No such file or directory"),
        ("", "holds no key; leave the setting out to serve without keys"),
        ("[a", "is not TOML: end of document"),
        (f"[a]\n{HASH}\n[a]\n", "is not TOML: line 3, column 3"),
        ("[a]\nb = {secret7f3a = 1, secret7f3a = 2}", "is not TOML: line 2, column 36"),
        (b"[a]\nsha256 = '\xff'", "is not UTF-8"),
        ('a = "secret7f3a"', "entry 1 is not a table named by letters, digits, _, . or -"),
        (f'["secret7f3a !"]\n{HASH}', "entry 1 is not a table named by letters, digits, _, . or -"),
        ('[a]\nsha256 = "secret7f3a"', "key a: sha256: must be 64 hexadecimal digits"),
        (f'[a]\nsha256 = "{sha256("")}"', "API key a is the hash of nothing: was the variable with the key not set?"),
        ("[a]\nburst = 1", "key a: sha256: Field required"),
        (f"[a]\n{HASH}\nsecret7f3a = 1", "key a: there is a field here that is not known"),
        (f"[a]\n{HASH}\nrequests_per_s = 0", f"key a: {RATE_RULE}"),
        (f"[a]\n{HASH}\nrequests_per_s = nan", f"key a: {RATE_RULE}"),
        (f"[a]\n{HASH}\nrequests_per_s = 1e-12", f"key a: {RATE_RULE}"),
        (f"[a]\n{HASH}\nrequests_per_s = 1e7", f"key a: {RATE_RULE}"),
        (f"[a]\n{HASH}\nrequests_per_s = 1\nburst = 0", "key a: burst: must be from 1 to 1,000,000"),
        (f"[a]\n{HASH}\nrequests_per_s = 1\nburst = 1.5", "key a: burst: must be an integer or null"),
        (f"[a]\n{HASH}\nburst = 5", "key a: burst needs requests_per_s"),
        (f"[a]\n{HASH}\n[b]\n{HASH}", "API keys a and b are the same key"),
    ],
)
def test_a_wrong_file_stops_the_start_and_no_secret_is_repeated(tmp_path, content, said):
    path = tmp_path / "keys.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as caught:
        load_keys(path)
    assert said in str(caught.value)
    assert "secret7f3a" not in str(caught.value)
    assert "\n" not in str(caught.value)
