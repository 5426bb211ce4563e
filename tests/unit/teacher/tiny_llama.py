"""A random two-layer Llama of 0.5 MB, as Hugging Face names its weights and as a GGUF file that llama.cpp serves.

Its tokenizer is byte-level BPE with one token per byte and one for each answer, so any text can be asked about.
"""

from pathlib import Path

import gguf
import numpy as np

HIDDEN, LAYERS, HEADS, KV_HEADS, FFN = 64, 2, 4, 2, 128
CONTEXT = 4096

_GGUF_NAMES = {
    "self_attn.q_proj": ("attn_q", HIDDEN, HIDDEN),
    "self_attn.k_proj": ("attn_k", HIDDEN * KV_HEADS // HEADS, HIDDEN),
    "self_attn.v_proj": ("attn_v", HIDDEN * KV_HEADS // HEADS, HIDDEN),
    "self_attn.o_proj": ("attn_output", HIDDEN, HIDDEN),
    "mlp.gate_proj": ("ffn_gate", FFN, HIDDEN),
    "mlp.up_proj": ("ffn_up", FFN, HIDDEN),
    "mlp.down_proj": ("ffn_down", HIDDEN, FFN),
}


def _byte_letters() -> list[str]:
    """GPT-2's letter for each byte value."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


TOKENS = ["<|endoftext|>", *_byte_letters(), "Ye", "Yes", "No"]
MERGES = ["Y e", "Ye s", "N o"]
YES_ID, NO_ID = TOKENS.index("Yes"), TOKENS.index("No")


def make_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """float32 weights by Hugging Face's names; large enough that attention isn't flat."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, std: float = 0.2) -> np.ndarray:
        return (rng.standard_normal(shape) * std).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": normal(len(TOKENS), HIDDEN, std=1.0),
        "lm_head.weight": normal(len(TOKENS), HIDDEN),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name, (_, rows, columns) in _GGUF_NAMES.items():
            weights[f"{prefix}{name}.weight"] = normal(rows, columns)
        weights[f"{prefix}input_layernorm.weight"] = np.ones(HIDDEN, np.float32)
        weights[f"{prefix}post_attention_layernorm.weight"] = np.ones(HIDDEN, np.float32)
    return weights


def write_gguf(path: Path, weights: dict[str, np.ndarray], *, quantise: gguf.GGMLQuantizationType | None = None) -> Path:
    """The same model for llama.cpp; ``quantise`` applies to the layers' matrices, which are float32 otherwise."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_languages(["en"])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1 if quantise else gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(TOKENS) - 1))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    for name, values in _as_gguf(weights).items():
        if quantise and name.startswith("blk.") and "norm" not in name:
            writer.add_tensor(name, gguf.quantize(values, quantise), raw_dtype=quantise)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _as_gguf(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tensors = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output.weight": weights["lm_head.weight"],
        "output_norm.weight": weights["model.norm.weight"],
    }
    for layer in range(LAYERS):
        theirs, ours = f"model.layers.{layer}.", f"blk.{layer}."
        for name, (short, _, _) in _GGUF_NAMES.items():
            values = weights[f"{theirs}{name}.weight"]
            tensors[f"{ours}{short}.weight"] = _pair_rows(values) if short in ("attn_q", "attn_k") else values
        tensors[f"{ours}attn_norm.weight"] = weights[f"{theirs}input_layernorm.weight"]
        tensors[f"{ours}ffn_norm.weight"] = weights[f"{theirs}post_attention_layernorm.weight"]
    return tensors


def _pair_rows(values: np.ndarray) -> np.ndarray:
    """Rows in llama.cpp's rotary order, row by row: written apart from the adapter's own code, which it tests."""
    size = HIDDEN // HEADS
    order = [
        head * size + half * size // 2 + i for head in range(len(values) // size) for i in range(size // 2) for half in (0, 1)
    ]
    return np.ascontiguousarray(values[order])
