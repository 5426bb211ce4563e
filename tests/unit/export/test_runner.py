"""Texts through a graph as the server runs them: windows cover everything, batching changes nothing, the maximum counts."""

import numpy as np
import torch

from export.runner import Windows, cut_windows, open_session, pad, shipped_tokenizer, speedup, spread_sample, text_logits
from server.inference.encoder import WindowEncoder


def test_the_shipped_tokenizer_neither_truncates_nor_pads(student):
    tokenizer = student[1]
    shipped = shipped_tokenizer(tokenizer)
    assert shipped.truncation is None
    assert shipped.padding is None
    assert len(shipped.encode("cat " * 50).ids) == 52
    assert tokenizer.backend_tokenizer.padding is not None, "the checkpoint's own tokenizer was changed"


def test_windows_cover_the_whole_text_and_overlap(student, tokenizer_file):
    shipped, text = shipped_tokenizer(student[1]), " ".join(["the", "cat", "sat", "on", "warm", "mat"] * 10)
    windows = cut_windows(tokenizer_file, [text, "cat"], max_tokens=16)
    assert windows.texts == 2
    assert max(len(ids) for ids in windows.token_ids) == 16
    assert windows.owners == [0] * (len(windows.owners) - 1) + [1]
    inner = [ids[1:-1] for ids, owner in zip(windows.token_ids, windows.owners, strict=True) if owner == 0]
    assert inner[0][-4:] == inner[1][:4], "neighbours share a quarter of a short window"
    joined = inner[0] + [token for ids in inner[1:] for token in ids[4:]]
    assert joined == shipped.encode(text).ids[1:-1]


def test_windows_are_the_servers(tokenizer_file):
    """Which takes a control token in a text for the four ordinary tokens that it looks like."""
    text = "the cat [SEP] sat " * 10
    windows = cut_windows(tokenizer_file, [text], max_tokens=16)
    served = WindowEncoder(tokenizer_file, max_tokens=16, overlap_tokens=4).encode(text)
    assert windows.token_ids == [list(window.token_ids) for window in served]
    assert all(ids.count(ids[-1]) == 1 for ids in windows.token_ids), "one [SEP] a window, at its end"


def test_padding_is_masked():
    feed = pad([[2, 7, 3], [2, 3]])
    assert feed["input_ids"].tolist() == [[2, 7, 3], [2, 3, 0]]
    assert feed["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert feed["input_ids"].dtype == feed["attention_mask"].dtype == np.int64


def test_fp32_logits_are_torchs_whatever_the_batch(student, fp32_graph, windows):
    session = open_session(fp32_graph)
    batched = text_logits(session, windows)
    alone = text_logits(session, windows, batch_items=1)
    wanted = np.full_like(alone, -np.inf)
    with torch.inference_mode():
        for ids, owner in zip(windows.token_ids, windows.owners, strict=True):
            logits = student[0](torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64)).logits[0].numpy()
            wanted[owner] = np.maximum(wanted[owner], logits)
    np.testing.assert_allclose(alone, wanted, atol=1e-4)
    np.testing.assert_allclose(batched, wanted, atol=1e-4)


def test_a_sample_is_spread_and_keeps_all_windows_of_its_texts():
    windows = Windows([[1], [2], [3], [4], [5]], [0, 0, 1, 2, 2], 3)
    sample, chosen = spread_sample(windows, 2)
    assert chosen.tolist() == [0, 2]
    assert sample == Windows([[1], [2], [4], [5]], [0, 0, 1, 1], 2)
    everything, chosen = spread_sample(windows, 10)
    assert everything == windows
    assert chosen.tolist() == [0, 1, 2]


def test_speedup_is_a_ratio_of_times():
    class Clocked:
        def __init__(self, steps: int) -> None:
            self.steps = steps

        def run(self, *_) -> None:
            sum(range(self.steps))

    assert 3 < speedup(Clocked(400_000), Clocked(40_000), [[1, 2]]) < 30
    assert 1 / 30 < speedup(Clocked(40_000), Clocked(400_000), [[1, 2]]) < 1 / 3
