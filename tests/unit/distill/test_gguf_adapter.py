"""A PEFT adapter gives the same margins in llama.cpp as in transformers, and only with its rows in the right order."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from distill.teacher import gguf_adapter
from distill.teacher.gguf_adapter import interleave_rotary_halves, write_gguf_adapter, write_safetensors_adapter
from server.core.errors import ConfigurationError
from server.teacher.answers import read_answers
from server.teacher.embedded import LLAMA_CPP_FIELDS
from tests.unit.teacher import tiny_llama as tiny
from tests.unit.teacher.llama_server import llama_server

HEADS = {"heads": tiny.HEADS, "kv_heads": tiny.KV_HEADS}
PROMPTS = np.random.default_rng(1).integers(1, 257, size=(6, 40)).tolist()
TOLERANCE = 0.02
"""On margins with a standard deviation above 0.5: FP16's rounding of the adapter and of llama.cpp's KV cache."""


@pytest.fixture(scope="module")
def tuned():
    """A tiny Llama with a random adapter that matters as much as the base does."""
    weights = tiny.make_weights()
    config = LlamaConfig(
        vocab_size=len(tiny.TOKENS), hidden_size=tiny.HIDDEN, num_hidden_layers=tiny.LAYERS, intermediate_size=tiny.FFN,
        num_attention_heads=tiny.HEADS, num_key_value_heads=tiny.KV_HEADS, rms_norm_eps=1e-5,
        max_position_embeddings=tiny.CONTEXT, tie_word_embeddings=False, attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tuned, tmp_path_factory):
    path = tmp_path_factory.mktemp("adapter")
    tuned.save_pretrained(path)
    tiny.write_gguf(path / "base.gguf", tiny.make_weights())
    return path


def transformers_margins(model) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.tensor(PROMPTS)).logits[:, -1]
    return (logits[:, tiny.YES_ID] - logits[:, tiny.NO_ID]).numpy()


def llama_cpp_margins(folder, adapter=None) -> np.ndarray:
    with llama_server(folder / "base.gguf", lora=adapter) as client:
        fields = LLAMA_CPP_FIELDS | {"prompt": PROMPTS, "max_tokens": 1}
        reply = client.post("/v1/completions", json=fields).raise_for_status().json()
    return np.array([answer.margin for answer in read_answers(reply, count=len(PROMPTS))])


def test_the_base_alone_agrees(tuned, folder):
    with tuned.disable_adapter():
        expected = transformers_margins(tuned)
    assert np.abs(llama_cpp_margins(folder) - expected).max() < TOLERANCE


def test_the_adapter_agrees_and_changes_the_margins(tuned, folder, tmp_path):
    write_gguf_adapter(folder, tmp_path / "adapter.gguf", **HEADS)
    expected = transformers_margins(tuned)
    with tuned.disable_adapter():
        assert np.abs(transformers_margins(tuned) - expected).max() > 1
    assert expected.std() > 0.5
    assert np.abs(llama_cpp_margins(folder, tmp_path / "adapter.gguf") - expected).max() < TOLERANCE


def test_without_the_rotary_order_it_would_not_agree(tuned, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_adapter, "interleave_rotary_halves", lambda rows, heads: rows)
    write_gguf_adapter(folder, tmp_path / "adapter.gguf", **HEADS)
    difference = np.abs(llama_cpp_margins(folder, tmp_path / "adapter.gguf") - transformers_margins(tuned))
    assert difference.max() > 10 * TOLERANCE


def test_the_rotary_order_by_hand():
    rows = np.arange(8).reshape(8, 1)
    assert interleave_rotary_halves(rows, 2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    with pytest.raises(ValueError, match="8 rows are not 3 heads"):
        interleave_rotary_halves(rows, 3)


def test_the_safetensors_copy_is_fp16_and_carries_its_configuration(folder, tmp_path):
    out = tmp_path / "adapter.safetensors"
    write_safetensors_adapter(folder, out)
    original, copy = load_file(folder / "adapter_model.safetensors"), load_file(out)
    assert copy.keys() == original.keys()
    assert len(copy) == 2 * 7 * tiny.LAYERS
    for name, tensor in copy.items():
        assert tensor.dtype == torch.float16
        assert torch.equal(tensor, original[name].half())
    with safe_open(out, "pt") as stream:
        config = json.loads(stream.metadata()["peft_config"])
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert out.stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize("change", [{"use_dora": True}, {"use_rslora": True}, {"bias": "all"}, {"peft_type": "IA3"}])
def test_a_setting_that_the_format_cannot_carry_is_refused(folder, tmp_path, change):
    config = json.loads((folder / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(ConfigurationError, match="not a plain LoRA"):
        write_gguf_adapter(tmp_path, tmp_path / "out.gguf", **HEADS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("base_model.model.lm_head.lora_A.weight", 1.0, "not a LoRA tensor"),
        ("base_model.model.model.layers.0.mlp.gate_proj.lora_A.weight", 1e6, "FP16"),
    ],
)
def test_a_tensor_that_the_format_cannot_carry_is_refused(folder, tmp_path, name, value, message):
    (tmp_path / "adapter_config.json").write_text((folder / "adapter_config.json").read_text())
    save_file({name: torch.full((4, 64), value)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ConfigurationError, match=message):
        write_gguf_adapter(tmp_path, tmp_path / "out.gguf", **HEADS)
