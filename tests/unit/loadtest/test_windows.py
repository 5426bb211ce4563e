"""The bench cuts texts as the server does: both on the same texts, with the shipped tokenizer."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from loadtest.bench.artifact import Artifact
from loadtest.bench.windows import Windower
from loadtest.command import Unusable
from loadtest.texts import generate_texts
from server.core.artifact import load_manifest
from server.core.canonical import canonicalise
from server.inference.encoder import WindowEncoder
from server.settings import Settings

SHIPPED = Path(__file__).resolve().parents[3] / "server" / "artifacts" / "default"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return generate_texts(2_048)


def test_the_windows_are_those_of_the_server(texts):
    encoder = WindowEncoder(
        SHIPPED / "tokenizer.json",
        max_tokens=load_manifest(SHIPPED).max_tokens,
        overlap_tokens=Settings.model_fields["window_overlap_tokens"].default,
    )
    ours = Windower(Artifact(SHIPPED)).cut(texts)
    assert ours == [[list(window.token_ids) for window in encoder.encode(canonicalise(text).text)] for text in texts]
    assert sum(len(windows) > 1 for windows in ours) >= 8, "long texts are among them"


def test_the_server_reads_each_text_once(texts):
    assert [text for text in texts if canonicalise(text).deobfuscated is not None] == []


def test_the_lengths_are_the_promised_mix(texts):
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    tokenizer.no_truncation()
    tokens = [len(tokenizer.encode(text)) for text in texts]
    assert 22 <= sum(tokens) / len(tokens) <= 27
    assert 11 <= sorted(tokens)[len(tokens) // 2] <= 17, "half of them are short"
    assert 1_900 <= max(tokens) <= 2_100


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(Unusable, match="is no artefact"):
        Artifact(tmp_path).describe()
