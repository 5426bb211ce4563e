"""The signal store: nothing lost, nothing doubled, nothing mixed."""

import json
import os

import numpy as np
import pytest

from distill.signals import SignalStore, text_digest
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

C, H = len(CATEGORIES), 5


def open_store(root, **changes):
    return SignalStore(root, **({"teacher": "t", "prompt_hash": "p", "hidden_size": H} | changes))


def records(texts, value=1.0):
    digests = [text_digest(text, "user") for text in texts]
    margins = np.full((len(texts), C), value, np.float32) + np.arange(len(texts), dtype=np.float32)[:, None]
    return digests, margins, np.full((len(texts), C, H), value, np.float16)


def test_what_was_appended_is_there_after_reopening(tmp_path):
    digests, margins, hidden = records(["a", "b"])
    open_store(tmp_path).append(digests, margins, hidden)
    store = open_store(tmp_path)
    assert store.rows([digests[1], text_digest("c", "user"), digests[0]]).tolist() == [1, -1, 0]
    np.testing.assert_array_equal(store.margins(), margins)
    np.testing.assert_array_equal(store.hidden(), hidden)


def test_one_writer_at_a_time_and_a_reader_cuts_nothing(tmp_path):
    writer = open_store(tmp_path)
    writer.append(*records(["a"]))
    with pytest.raises(ConfigurationError, match="another process is writing"):
        open_store(tmp_path)
    with (writer.folder / "hidden.bin").open("ab") as stream:  # the writer is in the middle of its next record
        stream.write(b"half")
    size = (writer.folder / "hidden.bin").stat().st_size
    reader = open_store(tmp_path, hidden_size=None)
    assert len(reader) == 1
    assert (writer.folder / "hidden.bin").stat().st_size == size
    with pytest.raises(ValueError, match="opened to be read"):
        reader.append(*records(["b"]))
    del writer
    assert len(open_store(tmp_path)) == 1, "the lock goes with the writer"


@pytest.mark.parametrize("torn", [("hidden.bin", 7), ("margins.bin", 3), ("digests.bin", 31)])
def test_a_kill_between_or_within_writes_costs_only_the_uncommitted_record(tmp_path, torn):
    """The three files are written in the order hidden, margins, digests; a kill leaves any prefix of that."""
    store = open_store(tmp_path)
    store.append(*records(["a"]))
    folder = store.folder
    del store
    name, extra = torn
    order = ["hidden.bin", "margins.bin", "digests.bin"]
    record_bytes = {"hidden.bin": 2 * C * H, "margins.bin": 4 * C, "digests.bin": 32}
    for earlier in order[: order.index(name)]:
        with (folder / earlier).open("ab") as stream:
            stream.write(b"\x01" * record_bytes[earlier])
    with (folder / name).open("ab") as stream:
        stream.write(b"\x01" * extra)

    reopened = open_store(tmp_path)
    assert len(reopened) == 1
    reopened.append(*records(["b"], value=5.0))
    again = open_store(tmp_path, hidden_size=None)
    assert again.margins()[:, 0].tolist() == [1.0, 5.0]
    assert again.hidden()[1, 0, 0] == 5.0


@pytest.mark.parametrize(
    ("name", "left"), [("hidden.bin", 0), ("hidden.bin", 5), ("hidden.bin", None), ("margins.bin", 5), ("digests.bin", None)]
)
def test_a_file_that_lost_what_counted_is_refused_and_nothing_is_cut(tmp_path, name, left):
    store = open_store(tmp_path)
    store.append(*records(["a", "b"]))
    folder = store.folder
    del store
    if left is None:
        (folder / name).unlink()
    else:
        os.truncate(folder / name, left)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    for hidden_size in (H, None):
        with pytest.raises(ConfigurationError, match=f"is damaged: {name} lost records"):
            open_store(tmp_path, hidden_size=hidden_size)
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == sizes


def test_signals_of_shorter_texts_never_mix_with_those_of_longer_ones(tmp_path):
    open_store(tmp_path)  # from before that was kept
    open_store(tmp_path, max_text_tokens=128).append(*records(["a"]))
    with pytest.raises(ConfigurationError, match="made with --max-text-tokens 128, which 256 doesn't go with"):
        open_store(tmp_path, max_text_tokens=256)
    assert len(open_store(tmp_path, max_text_tokens=128)) == len(open_store(tmp_path, hidden_size=None)) == 1


def test_a_torn_description_is_named(tmp_path):
    meta = open_store(tmp_path).folder / "meta.json"
    meta.write_text("")
    with pytest.raises(ConfigurationError, match=r"meta\.json is damaged"):
        open_store(tmp_path)


def test_a_text_is_never_stored_twice(tmp_path):
    store = open_store(tmp_path)
    store.append(*records(["a"]))
    with pytest.raises(ValueError, match="already"):
        store.append(*records(["a"]))
    with pytest.raises(ValueError, match="already"):
        store.append(*records(["b", "b"]))
    assert os.path.getsize(store.folder / "digests.bin") == 32


def test_teachers_and_prompts_never_mix(tmp_path):
    open_store(tmp_path).append(*records(["a"]))
    assert len(open_store(tmp_path, teacher="other")) == 0
    assert len(open_store(tmp_path, prompt_hash="other")) == 0


def test_a_role_is_part_of_the_key():
    assert text_digest("a", "user") != text_digest("a", "assistant")


def test_a_folder_of_another_shape_is_refused(tmp_path):
    store = open_store(tmp_path)
    with pytest.raises(ConfigurationError, match="hidden size"):
        open_store(tmp_path, hidden_size=H + 1)
    meta = json.loads((store.folder / "meta.json").read_text())
    (store.folder / "meta.json").write_text(json.dumps(meta | {"categories": ["hate"]}))
    with pytest.raises(ConfigurationError, match="was made for"):
        open_store(tmp_path)


def test_a_margin_that_is_no_number_is_refused(tmp_path):
    digests, margins, hidden = records(["a"])
    margins[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        open_store(tmp_path).append(digests, margins, hidden)
