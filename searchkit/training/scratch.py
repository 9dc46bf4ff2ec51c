"""Small BERT that is trained from scratch, on the words of the task alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from searchkit._internal.checks import check_count, check_fields
from searchkit.errors import StudyError, unknown

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from searchkit.reduction.model import AdaptiveModel
    from searchkit.tasks.base import Tables
    from searchkit.training.checkpoint import RequiredOutputs

POSITIONS: Final = ("random", "sinusoidal")
LONGEST: Final = 100.0  # of the sinusoids: texts of these models have tens of words, not the paper's thousands
AMPLITUDE: Final = 2.5  # of the sinusoids, in standard deviations of the other weights: they stand out from the words


@dataclass(frozen=True)
class Scratch:
    """Small BERT trained from scratch on the task's own words (a word-level vocabulary of the train split).

    initializer_range: standard deviation of new weights; BERT's 0.02 is meant for a width of 768, and tasks that ask
    for one token to find another (question answering) need 0.02 * sqrt(768 / width) to be learnt in a few epochs
    positions: what the embeddings of positions start with. "sinusoidal" ones (arXiv 1706.03762, sec. 3.5) tell a word
    its neighbours from the first step on; "random" ones are learnt one by one, which takes long for long texts

    >>> from searchkit import Scratch
    >>> Scratch(layers=2, width=32, heads=2).feed_forward
    256
    """

    layers: int = 4
    width: int = 64
    heads: int = 4
    feed_forward: int = 256
    dropout: float = 0.1
    initializer_range: float = 0.02
    positions: Literal["random", "sinusoidal"] = "random"

    def __post_init__(self) -> None:
        check_fields(self)
        for name, most in {"layers": 1000, "width": 100_000, "heads": 10_000, "feed_forward": 1_000_000}.items():
            check_count(f"Scratch: {name}", getattr(self, name), most)
        if not 0 <= self.dropout < 1:
            raise StudyError(f"Scratch: dropout must be in [0, 1), got {self.dropout}")
        if not 0 < self.initializer_range < 1:
            raise StudyError(f"Scratch: initializer_range must be in (0, 1), got {self.initializer_range}")
        if self.positions not in POSITIONS:
            raise StudyError(unknown("positions", self.positions, POSITIONS))
        if self.width % self.heads:
            raise StudyError(f"Scratch: width must be a multiple of heads, got {self.width=}, {self.heads=}")

    def identity(self) -> dict[str, Any]:
        """Identity of the untrained model, as JSON."""
        fields = asdict(self)
        return {"scratch": {name: fields[name] for name in fields if (name, fields[name]) != ("positions", "random")}}

    def reads_first_only(self, head: str) -> bool:
        """Return whether this kind of head sees each example's first token alone."""
        from searchkit.reduction.heads import HEADS

        return HEADS.look_up(head).reads is None

    def tokenizer(self, tables: Tables) -> PreTrainedTokenizerBase:
        """Word-level tokenizer over the words of the train split."""
        from searchkit.tasks.words import SPECIALS, word_tokenizer

        texts = [tables.train[name] for name in ("text", "text_pair", "question", "context") if name in tables.train]
        words = sorted({word for column in texts for text in column for word in text.split()} - set(SPECIALS))
        return word_tokenizer(words)

    def build(
        self, required: RequiredOutputs, vocab_size: int, max_length: int, attention_dropout: float | None = None
    ) -> AdaptiveModel:
        """Build the untrained model for a vocabulary of that size; `attention_dropout` None is that of the rest."""
        import transformers

        from searchkit.reduction.heads import set_head
        from searchkit.reduction.model import AdaptiveModel
        from searchkit.training.checkpoint import name_outputs

        config = transformers.BertConfig(
            vocab_size=vocab_size,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.feed_forward,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout if attention_dropout is None else attention_dropout,
            max_position_embeddings=max_length,
            num_labels=len(required.labels),
            initializer_range=self.initializer_range,
        )
        set_head(config, required.head)
        kind = required.head.auto_class.removeprefix("AutoModel")
        model = AdaptiveModel(getattr(transformers, f"Bert{kind}")(config))
        name_outputs(model, required.labels, required.head)
        if self.positions == "sinusoidal":
            waves = sinusoids(max_length, self.width, AMPLITUDE * self.initializer_range)
            model.stock.base_model.embeddings.position_embeddings.weight.data.copy_(waves)
        return model


def sinusoids(count: int, width: int, amplitude: float) -> Tensor:
    """(count, width) positions: sines, then cosines, of wavelengths from 2 pi to 2 pi * `LONGEST` in geometric steps.

    >>> sinusoids(2, 4, 1.0)[0].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    import torch

    waves = torch.logspace(0, -math.log10(LONGEST), (width + 1) // 2)
    angles = torch.arange(count)[:, None] * waves
    return amplitude * torch.cat([angles.sin(), angles.cos()], 1)[:, :width]
