"""Shared by all tests: where the labelled data is, and what happens where it isn't."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported: no test asks the hub

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "moderation.parquet"


@pytest.fixture(scope="session")
def data_path() -> Path:
    """The labelled data set; a test that asks for it is skipped, by name, where it is absent, and fails in CI."""
    if DATA.exists():
        return DATA
    message = f"needs the labelled data at {DATA}"
    if os.environ.get("REQUIRE_TEST_DATA"):
        pytest.fail(message)
    pytest.skip(message)


CORPUS = [
    "You are a policy expert trying to help determine whether a user prompt is in violation of the defined safety policies.",
    "Does the human question violate the above principle? Your answer must start with 'Yes' or 'No'.",
    "Yes\nNo\nYes No Yes No",
    "\n\nOur safety principle is defined in the below:\n\n* \n\n===\n\n",
    "<start_of_turn>\nHuman Question: \n<end_of_turn>",
]


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory):
    """A random Gemma 2 of a few thousand weights, saved as a folder: ShieldGemma's architecture, loaded by path."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<pad>", "<bos>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    folder = tmp_path_factory.mktemp("tiny-gemma2")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=2048, sliding_window=1024,
        query_pre_attn_scalar=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config)
    for parameter in model.parameters():
        # The default initialisation is so small that all margins agree; a judge should have an opinion.
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder
