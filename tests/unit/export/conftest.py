"""A student of a few thousand weights, a tokenizer made on the spot, and labelled texts that it can tell apart."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

from distill.student import StudentForModeration
from export.onnx_graph import to_onnx
from export.reference import ReferenceSet
from export.runner import cut_windows, pad, shipped_tokenizer
from server.core.artifact import TOKENIZER
from server.core.taxonomy import CATEGORIES
from tests.steady import steady_policy
from tests.torch_threads import one_torch_thread

CALM = ["the", "cat", "sat", "on", "a", "warm", "mat", "please", "read", "me", "this", "book", "today"]
RUDE = ["stupid", "idiot", "hate", "kill", "garbage", "worthless"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_TOKENS = 16


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    with one_torch_thread():
        yield


@pytest.fixture(scope="session")
def policy():
    return steady_policy()


def word_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(SPECIAL + CALM + RUDE)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)  # as a trained checkpoint may carry; the artefact must not
    tokenizer.enable_padding()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def labelled_texts(count: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of 2–12 words, a few longer than a window, and labels float32 (N, C): 1 in every category where two rude words
    occur; some are unknown."""
    rng = np.random.default_rng(seed)
    texts, labels = [], np.zeros((count, len(CATEGORIES)), dtype=np.float32)
    for row in range(count):
        words = rng.choice(CALM, size=rng.integers(2, 12) if row % 10 else 30).tolist()
        if row % 3 == 0:
            place = rng.integers(len(words) - 1)
            words[place : place + 2] = rng.choice(RUDE, size=2).tolist()
            labels[row] = 1.0
        texts.append(" ".join(words))
    labels[::7, 2] = np.nan
    return texts, labels


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    """(model, tokenizer): random but for a head that was fitted in a few steps, so that scores spread over [0, 1]."""
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    config = BertConfig(
        vocab_size=len(SPECIAL + CALM + RUDE),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
        id2label=dict(enumerate(CATEGORIES)),
        label2id={name: index for index, name in enumerate(CATEGORIES)},
    )
    model = StudentForModeration(config)
    texts, labels = labelled_texts(160, seed=1)
    path = tmp_path_factory.mktemp("tokenizer") / TOKENIZER
    shipped_tokenizer(tokenizer).save(str(path))
    windows = cut_windows(path, texts, max_tokens=40)
    feed = {name: torch.from_numpy(array) for name, array in pad(windows.token_ids).items()}
    target = torch.from_numpy(np.nan_to_num(labels))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(model(**feed).logits, target).backward()
        optimiser.step()
    return model.eval(), tokenizer


@pytest.fixture(scope="session")
def reference() -> ReferenceSet:
    texts, labels = labelled_texts(150)
    return ReferenceSet("dev", texts, labels, labels, np.full(len(texts), "made_up", dtype=object))


@pytest.fixture(scope="session")
def tokenizer_file(student, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / TOKENIZER
    shipped_tokenizer(student[1]).save(str(path))
    return path


@pytest.fixture(scope="session")
def windows(tokenizer_file, reference):
    return cut_windows(tokenizer_file, reference.texts, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="session")
def fp32_graph(student, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "fp32.onnx"
    to_onnx(student[0], path)
    return path


@pytest.fixture(scope="session")
def checkpoint(student, tmp_path_factory) -> Path:
    """What ``python -m distill train`` leaves behind."""
    folder = tmp_path_factory.mktemp("checkpoint")
    for part in student:
        part.save_pretrained(folder)
    (folder / "student.json").write_text(f'{{"max_tokens": {MAX_TOKENS}}}')
    (folder / "provenance.json").write_text(
        '{"base": "tiny-bert", "teacher": "nobody", "prompt_hash": "abc", "data": {"made_up": 160}, "settings": {"seed": 0}}'
    )
    return folder


@pytest.fixture(scope="session")
def parquet(tmp_path_factory) -> Path:
    texts, labels = labelled_texts(150)
    frame = pd.DataFrame(labels, columns=list(CATEGORIES)).astype("Int8")
    frame["text"], frame["dataset"], frame["split"] = texts, "made_up", "dev"
    path = tmp_path_factory.mktemp("data") / "texts.parquet"
    frame.to_parquet(path)
    return path
