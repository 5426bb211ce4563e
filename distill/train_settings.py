"""The knobs of ``train``, apart from the loss's."""

from dataclasses import dataclass

from distill.settings_flags import knob
from distill.student import PACKAGED_STUDENT
from server.core.errors import ConfigurationError

MIN_WINDOW_TOKENS, MAX_WINDOW_TOKENS = 35, 512
"""The least holds two special tokens and one token beyond the 32 by which windows overlap; ``export`` takes up to the most."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """``max_tokens`` goes into the artefact's manifest. ``start_from`` takes over a student's encoder and head, not its
    projector. ``average`` keeps most of what the run learned and forgets less of what its start knew (Wortsman et al.,
    "Robust fine-tuning of zero-shot models", 2022).

    Raises:
        ConfigurationError: windows of ``max_tokens`` couldn't overlap, or no artefact may have them.
    """

    base: str = knob(help=f"{PACKAGED_STUDENT} (installed as a package), or a BERT's folder or hub id")
    epochs: float = knob(2.0, least=0.001, help="passes over the training texts")
    batch_size: int = knob(64, least=1, help="texts per step")
    learning_rate: float = knob(1e-4, least=0, help="AdamW's, at the end of the warm-up; then linear to 0")
    weight_decay: float = knob(0.01, least=0, help="AdamW's, of all but biases and LayerNorms")
    warmup_ratio: float = knob(0.06, least=0, most=1, help="share of the steps over which the rate rises from 0")
    max_grad_norm: float = knob(1.0, least=0, help="gradients are clipped to this norm")
    max_tokens: int = knob(
        256,
        help=f"the student's window, special tokens included, {MIN_WINDOW_TOKENS} to {MAX_WINDOW_TOKENS}; longer texts are cut",
    )
    feature_dimensions: int = knob(256, least=1, help="principal components of the teacher's hidden states to learn")
    eval_every_steps: int = knob(
        400, least=1, help="steps between checkpoints; the one with the best AU-PRC on dev is kept, the end among them"
    )
    seed: int = knob(0, least=0, most=2**32 - 1, help="of the draw of texts, their order, the head and dropout")
    start_from: str = knob("", help="run folder of a student to go on from, in place of the base")
    average: bool = knob(False, help="end with the mean of the student trained and of the one it started from")

    def __post_init__(self) -> None:
        if not MIN_WINDOW_TOKENS <= self.max_tokens <= MAX_WINDOW_TOKENS:
            raise ConfigurationError(f"--max-tokens must be {MIN_WINDOW_TOKENS} to {MAX_WINDOW_TOKENS}, not {self.max_tokens}")
