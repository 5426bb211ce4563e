"""A PEFT LoRA over a Llama-shaped base, in the two formats in which it is shipped.

llama.cpp rotates neighbouring pairs of a head's rows where transformers rotates its two halves, so its Llama weights
hold the rows of q and k in another order; an adapter's must follow. Source: ``LlamaModel.permute`` in llama.cpp's
``convert_hf_to_gguf.py``; the names are those of its ``convert_lora_to_gguf.py``.
"""

import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from distill.teacher.adapter import PEFT_CONFIG, read_config, read_peft_folder
from server.core.errors import ConfigurationError

_TENSOR = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])\.weight")
_GGUF_NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
# What would change the arithmetic and has no place in llama.cpp's format (or, for rsLoRA, another meaning of alpha).
_UNSUPPORTED = ("use_dora", "use_rslora", "fan_in_fan_out", "lora_bias", "modules_to_save", "rank_pattern", "alpha_pattern")


def write_gguf_adapter(peft_folder: Path, out: Path, *, heads: int, kv_heads: int) -> None:
    """Write a PEFT adapter as a GGUF file that llama.cpp loads with ``--lora``; tensors are FP16.

    Args:
        peft_folder: holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        heads, kv_heads: the base's attention heads and key/value heads.

    Raises:
        ConfigurationError: the adapter has a tensor or a setting that this format can't carry, or values beyond FP16.
    """
    import gguf

    config, tensors = _read(peft_folder)
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(config["lora_alpha"]))
    for name, tensor in sorted(tensors.items()):
        layer, module, side = _parse_name(name)
        values = tensor.numpy()
        if side == "B" and module in ("q_proj", "k_proj"):
            values = interleave_rotary_halves(values, heads if module == "q_proj" else kv_heads)
        writer.add_tensor(f"blk.{layer}.{_GGUF_NAMES[module]}.weight.lora_{side.lower()}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors_adapter(peft_folder: Path, out: Path) -> None:
    """The same adapter under PEFT's names in one FP16 file; PEFT's configuration is its metadata ``peft_config``.

    Raises:
        ConfigurationError: as :func:`write_gguf_adapter`.
    """
    config, tensors = _read(peft_folder)
    save_file(tensors, out, metadata={"format": "pt", PEFT_CONFIG: json.dumps(config, sort_keys=True)})
    out.chmod(0o644)  # safetensors makes files that only their owner reads; this one is shipped


def interleave_rotary_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """(heads · D, N): row i of a head's first half goes to 2i, row i of its second half to 2i + 1."""
    if len(rows) % (2 * heads):
        raise ValueError(f"{len(rows)} rows are not {heads} heads of an even size")
    return np.ascontiguousarray(rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape))


def _read(peft_folder: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """(configuration, FP16 tensors by PEFT's name)."""
    config = read_config(peft_folder)
    used = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("peft_type") != "LORA" or used or config.get("bias", "none") != "none":
        raise ConfigurationError(f"{peft_folder}: not a plain LoRA ({', '.join(used) or config.get('peft_type')})")
    tensors = {}
    for name, tensor in read_peft_folder(peft_folder).tensors.items():
        _parse_name(name)
        tensors[name] = tensor.to(torch.float16)
        if not tensors[name].isfinite().all():
            raise ConfigurationError(f"{name}: holds values that FP16 can't")
    return config, tensors


def _parse_name(name: str) -> tuple[int, str, str]:
    """(layer, module, side) of a tensor, side being A or B."""
    match = _TENSOR.fullmatch(name)
    if not match or match.group(2) not in _GGUF_NAMES:
        raise ConfigurationError(f"{name}: not a LoRA tensor of a Llama layer")
    return int(match.group(1)), match.group(2), match.group(3)
