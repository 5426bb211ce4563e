"""A causal language model as a judge: Yes/No margins and hidden states for (text, category).

One text's prefix is shared by all of its categories. Instead of a cache that is copied per category, each text becomes
one *tree*: ``[prefix][suffix of category 1][suffix of category 2]…`` with an attention mask in which a suffix sees the
prefix and itself only, and with positions that restart after the prefix. The result is what separate prompts would
give, at the cost of the prefix once, and gradients pass through it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from server.core.errors import ConfigurationError
from server.core.packaged_teacher import packaged_gguf
from server.core.policy import Policy
from server.core.prompt import ANSWERS, PromptForm
from server.core.taxonomy import CATEGORIES

PACKAGED_TEACHER = "smollm2-135m-instruct"


def gguf_of(name: str) -> Path | None:
    """The GGUF file behind a teacher base's name; None for a base that transformers loads from a folder or the hub.

    Raises:
        ConfigurationError: it is the packaged one, and isn't installed.
    """
    path = packaged_gguf() if name == PACKAGED_TEACHER else Path(name)
    return path if path.suffix == ".gguf" else None


def load_base(name: str, *, dtype: torch.dtype, attention: str = "sdpa"):
    """(model, tokenizer) of a teacher base.

    Args:
        name: :data:`PACKAGED_TEACHER`, a path to a ``.gguf`` file, a folder, or a hub id such as
            ``google/shieldgemma-2b``.
        dtype: weights' type; bfloat16 is several times faster on processors with AMX or AVX512-BF16, and on GPUs.
        attention: transformers' name of the attention code; on CPUs ``eager`` trains short texts 1.4 times faster than
            ``sdpa``, which is the faster one without gradients.

    Raises:
        ConfigurationError: nothing of that name is here, and the hub gives nothing either.
    """
    path = gguf_of(name)
    if path is not None and not path.is_file():
        raise ConfigurationError(f"{path}: no such file")
    source, file = (name, {}) if path is None else (path.parent, {"gguf_file": path.name})
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation=attention, **file)
        tokenizer = AutoTokenizer.from_pretrained(source, **file)
    except (OSError, ValueError) as error:  # the latter: an architecture that transformers has no causal model of
        what = "no teacher and no model's folder here, and the hub gave none" if path is None else "no model that can be read"
        raise ConfigurationError(f"{name} is {what}: {str(error).splitlines()[0]}") from None
    if path is not None:
        _match_llama_cpp(tokenizer, path)
    model.eval()
    return model, tokenizer


def _match_llama_cpp(tokenizer, gguf_path: Path) -> None:
    """Make a GGUF's tokenizer split as llama.cpp does: transformers ignores two of the file's fields.

    ``tokenizer.ggml.pre = smollm`` splits digits one by one, and ``add_bos_token = false`` adds no first token.
    """
    from gguf import GGUFReader

    fields = GGUFReader(gguf_path).fields
    pre = fields["tokenizer.ggml.pre"].contents() if "tokenizer.ggml.pre" in fields else None
    if pre == "smollm":
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    if "tokenizer.ggml.add_bos_token" in fields and not fields["tokenizer.ggml.add_bos_token"].contents():
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """B trees, right-padded to T tokens; L leaves (one per asked category) over the whole batch.

    ``leaf_row`` and ``leaf_token`` (both int64, L) say where each leaf's last token is. ``segments`` is 0 in the prefix, 1.. in
    the suffixes and −1 in the padding.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor
    leaf_row: torch.Tensor
    leaf_token: torch.Tensor

    def attention_mask(self, dtype: torch.dtype) -> torch.Tensor:
        """Additive (B, 1, T, T): 0 where a token may look, the type's minimum elsewhere. A pad looks at itself only."""
        query, key = self.segments[:, :, None], self.segments[:, None, :]
        causal = torch.ones(query.shape[1], query.shape[1], dtype=torch.bool).tril()
        itself = torch.eye(query.shape[1], dtype=torch.bool)
        may_look = (causal & (key >= 0) & ((key == 0) | (key == query))) | itself
        return torch.zeros(may_look.shape, dtype=dtype).masked_fill(~may_look, torch.finfo(dtype).min)[:, None]


class TreeEncoder:
    """Texts and categories to :class:`TreeBatch`; tokens are what a serving engine sees for the whole prompt."""

    def __init__(self, tokenizer, policy: Policy, form: PromptForm, *, max_text_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._form = form
        self._max_text_tokens = max_text_tokens
        self._suffixes = {
            (role, index): tokenizer.encode(form.suffix(rule, role), add_special_tokens=False)
            for role in ("user", "assistant")
            for index, rule in enumerate(policy.rules)
        }

    def prefix(self, text: str, role: str) -> list[int]:
        """The prefix's tokens; a text over ``max_text_tokens`` is cut at its end."""
        spans = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        if len(spans) > self._max_text_tokens:
            text = text[: spans[self._max_text_tokens][0]]
        return self._tokenizer.encode(self._form.prefix(text, role))

    def batch(self, prefixes: Sequence[list[int]], roles: Sequence[str], asked: Sequence[Sequence[int]]) -> TreeBatch:
        """One batch. ``asked[b]`` lists the category indices asked of text b; it may be empty."""
        ids, positions, segments, leaf_row, leaf_token = [], [], [], [], []
        for row, (prefix, role, categories) in enumerate(zip(prefixes, roles, asked, strict=True)):
            row_ids, row_positions, row_segments = list(prefix), list(range(len(prefix))), [0] * len(prefix)
            for branch, category in enumerate(categories, start=1):
                suffix = self._suffixes[role, category]
                row_ids += suffix
                row_positions += range(len(prefix), len(prefix) + len(suffix))
                row_segments += [branch] * len(suffix)
                leaf_row.append(row)
                leaf_token.append(len(row_ids) - 1)
            ids.append(row_ids)
            positions.append(row_positions)
            segments.append(row_segments)
        width = max(map(len, ids))

        def pad(rows: list[list[int]], value: int) -> torch.Tensor:
            return torch.tensor([row + [value] * (width - len(row)) for row in rows])

        return TreeBatch(
            pad(ids, 0), pad(positions, 0), pad(segments, -1), torch.tensor(leaf_row, dtype=torch.long),
            torch.tensor(leaf_token, dtype=torch.long),
        )  # fmt: skip

    def batches(
        self, texts: Sequence[str], roles: Sequence[str], asked: Sequence[Sequence[int]], *, max_tokens: int
    ) -> Iterator[tuple[list[int], TreeBatch]]:
        """(positions, their batch) by length, each within ``max_tokens`` padded tokens; every text once."""
        prefixes = [self.prefix(text, role) for text, role in zip(texts, roles, strict=True)]
        sizes = [self._tokens(*tree) for tree in zip(prefixes, roles, asked, strict=True)]
        for part in token_budget_batches(sizes, max_tokens):
            yield part, self.batch(*zip(*((prefixes[i], roles[i], asked[i]) for i in part), strict=True))

    def _tokens(self, prefix: list[int], role: str, categories: Sequence[int]) -> int:
        return len(prefix) + sum(len(self._suffixes[role, category]) for category in categories)


class Judge:
    """The model behind the trees. ``model`` is a causal LM of transformers, with or without a PEFT adapter; it moves to the GPU
    where there is one. Batches come from the CPU, and :meth:`leaves` go back to it."""

    def __init__(self, model, tokenizer) -> None:
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = tokenizer
        self.yes_id, self.no_id = (_single_token(tokenizer, answer) for answer in ANSWERS)

    @property
    def causal_lm(self):
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def device(self) -> torch.device:
        return self.causal_lm.device

    @property
    def hidden_size(self) -> int:
        return self.causal_lm.config.hidden_size

    def leaves(self, batch: TreeBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """(margins, hidden) of a batch's leaves.

        Returns:
            margins float32 (L,): logit(Yes) − logit(No), raw; hidden float32 (L, H): the last layer's state at each
            leaf, after the final norm. Both on the CPU.
        """
        hidden = self.leaf_states(batch)
        head = self.causal_lm.lm_head.weight[[self.yes_id, self.no_id]]
        logits = self._capped(hidden.float() @ head.float().T)
        return (logits[:, 0] - logits[:, 1]).cpu(), hidden.float().cpu()

    def leaf_states(self, batch: TreeBatch) -> torch.Tensor:
        """(L, H) in the model's own type: the last layer's state at each leaf, after the final norm."""
        decoder = self.causal_lm.model
        output = decoder(
            input_ids=batch.input_ids.to(self.device),
            position_ids=batch.position_ids.to(self.device),
            attention_mask=batch.attention_mask(decoder.embed_tokens.weight.dtype).to(self.device),
            use_cache=False,
        )
        return output.last_hidden_state[batch.leaf_row, batch.leaf_token]

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """float32 (L, V): the next token's logits after such states."""
        return self._capped(self.causal_lm.lm_head(states).float())

    def _capped(self, logits: torch.Tensor) -> torch.Tensor:
        softcap = getattr(self.causal_lm.config, "final_logit_softcapping", None)
        return torch.tanh(logits / softcap) * softcap if softcap else logits


def token_budget_batches(sizes: list[int], max_tokens: int) -> list[list[int]]:
    """Positions grouped by length so that (longest × count) stays within ``max_tokens``; a longer one goes alone."""
    batches: list[list[int]] = []
    for position in sorted(range(len(sizes)), key=sizes.__getitem__):
        # Sorted upwards, so the newcomer is the longest of its batch.
        if batches and sizes[position] * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def _single_token(tokenizer, answer: str) -> int:
    ids = tokenizer.encode(answer, add_special_tokens=False)
    if len(ids) != 1:
        raise ConfigurationError(f"this teacher's tokenizer splits {answer!r} into {len(ids)} tokens; a margin needs one")
    return ids[0]


ALL_CATEGORIES = tuple(range(len(CATEGORIES)))
