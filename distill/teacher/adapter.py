"""A LoRA adapter under PEFT's names, read from either of its places and merged into its base."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file

from distill.json_file import read_json
from server.core.errors import ConfigurationError

PEFT_CONFIG = "peft_config"
"""The metadata of a packed file that holds PEFT's configuration."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """``config`` is PEFT's own, as JSON; ``tensors`` are A and B of each layer, as they are stored."""

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def read_config(folder: Path) -> dict[str, Any]:
    """PEFT's configuration in the folder that ``save_pretrained`` wrote, but for where the base lay on that machine."""
    config = read_json(folder / "adapter_config.json")
    return config | {"base_model_name_or_path": None}


def read_peft_folder(folder: Path) -> Adapter:
    """What ``save_pretrained`` wrote."""
    return Adapter(read_config(folder), load_file(folder / "adapter_model.safetensors"))


def read_packed_file(path: Path) -> Adapter:
    """What :func:`distill.teacher.gguf_adapter.write_safetensors_adapter` wrote."""
    with safe_open(path, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
        return Adapter(json.loads(stored.metadata()[PEFT_CONFIG]), tensors)


def merge(model, adapter: Adapter):
    """A causal LM with ``adapter`` in its weights, which costs nothing at judging time; ``model`` is used up.

    The sum is made in float32 and rounded once, to the type that ``model`` has.

    Raises:
        ConfigurationError: the adapter isn't one for this model.
    """
    dtype = model.dtype
    model = get_peft_model(model.float(), LoraConfig.from_peft_type(**adapter.config))
    found = set_peft_model_state_dict(model, adapter.tensors)
    lacking = [name for name in found.missing_keys if "lora_" in name]
    if found.unexpected_keys or lacking:
        raise ConfigurationError(
            f"the adapter doesn't fit its base: {len(found.unexpected_keys)} tensors too many, {len(lacking)} too few"
        )
    return model.merge_and_unload().to(dtype).eval()
