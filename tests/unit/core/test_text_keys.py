"""The hashes that stand for texts."""

import pytest

from server.core.errors import ConfigurationError
from server.core.text_keys import read_hash_key, text_key


def test_texts_that_read_alike_have_one_key_and_another_secret_another():
    key = b"k" * 32
    assert text_key(key, "you  are\u200b here") == text_key(key, "you are here")
    assert text_key(key, "you are here") != text_key(key, "you are there")
    assert text_key(key, "you are here") != text_key(b"l" * 32, "you are here")
    assert len(text_key(key, "\ud800 lone")) == 64


def test_a_hash_key_is_its_file_without_white_space_and_never_short(tmp_path):
    path = tmp_path / "hash.key"
    path.write_bytes(b"k" * 32 + b"\n")
    assert read_hash_key(path) == b"k" * 32
    path.write_bytes(b"short\n")
    with pytest.raises(ConfigurationError, match="holds 5 bytes; at least 32"):
        read_hash_key(path)
