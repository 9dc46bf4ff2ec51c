"""Supernet of a study: an encoder and the recipe that trains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from searchkit._internal.checks import check_fields
from searchkit._internal.paths import located
from searchkit.errors import DataError, StudyError
from searchkit.reduction.plugins import with_plug_ins
from searchkit.space import Space, Thresholds
from searchkit.training.pretrained import Pretrained, load_tokenizer
from searchkit.training.scratch import Scratch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from searchkit.reduction.model import AdaptiveModel
    from searchkit.tasks.base import Encoded, Tables
    from searchkit.training.recipe import Recipe

# Part of the fingerprint; raised when the training or encoding of data changes, so that older supernets are not reused.
FORMAT = 3  # 3: segments of pairs and questions are those of the tokenizer's own call


@dataclass(frozen=True)
class Supernet:
    """`model` (a Hugging Face folder, a hub name, or `Scratch`) trained by `recipe`.

    attention_dropout: of attention probabilities in training, None for the checkpoint's own; 0 lets training use the
    fused kernel, which on a CPU makes a pass over texts of 300 tokens more than twice as fast
    label_map: for a checkpoint that is fine-tuned already, its label names and the data's, such as {"LABEL_0":
    "negative", "LABEL_1": "positive"}; None: matched by name in any order, or refused if `recipe` trains no head

    >>> from searchkit import Supernet
    >>> from searchkit.training import LengthDrop
    >>> Supernet("./my-sentiment-model", LengthDrop(start=None), label_map={"neg": "0", "pos": "1"}).attention_dropout
    """

    model: str | Scratch
    recipe: Recipe
    attention_dropout: float | None = None
    label_map: Mapping[str, str | int] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.model, str):
            object.__setattr__(self, "model", located(self.model))
        self._check_label_map()
        if isinstance(self.recipe, type) or not hasattr(self.recipe, "train"):
            raise StudyError(f"Supernet: recipe is one of searchkit.training, such as FineTune(), got {self.recipe!r}")
        from searchkit.training.plans import imitates_as_it_is, takes_as_it_is

        if isinstance(self.model, Scratch) and takes_as_it_is(self.recipe):
            raise StudyError("Supernet: Scratch has learnt nothing yet; FineTune(epochs=0) is for a model that has")
        if isinstance(self.model, Scratch) and imitates_as_it_is(self.recipe):
            raise StudyError(
                "Supernet: Scratch has learnt nothing yet that it could teach; give the recipe start=FineTune(...), or "
                "distil=0"
            )
        if self.attention_dropout is not None and not 0 <= self.attention_dropout < 1:
            raise StudyError(f"attention_dropout must be in [0, 1), got {self.attention_dropout=}")

    def _check_label_map(self) -> None:
        if self.label_map is None:
            return
        fits = isinstance(self.label_map, Mapping) and all(
            isinstance(name, str) and isinstance(label, str | int) for name, label in self.label_map.items()
        )
        if not fits or not self.label_map:
            raise StudyError(
                f"Supernet: label_map maps the checkpoint's names to the data's, such as {{'LABEL_0': 'negative', "
                f"'LABEL_1': 'positive'}}, got {self.label_map!r}"
            )
        if isinstance(self.model, Scratch):
            raise StudyError("Supernet: label_map is for a checkpoint; Scratch has no labels of its own")

    def check(self, head: str, space: Space) -> None:
        """Raise StudyError where the recipe cannot train this head, or has no scores for the space's thresholds."""
        from searchkit.training.recipe import check_recipe

        scales = [dimension.scale for dimension in space.dimensions if isinstance(dimension, Thresholds)]
        check_recipe(self.recipe, head, scales)

    @property
    def slots(self) -> int:
        """Number of slots: the layers, and the input where the recipe gives it a reducer."""
        from searchkit.training.plans import slots

        return slots(self.recipe, self.layers)

    @property
    def layers(self) -> int:
        """Number of layers of the encoder, read from its config alone."""
        return self._encoder.layers

    def reads_first_only(self, head: str) -> bool:
        """Return whether this kind of head, on this encoder, sees each example's first token alone."""
        return self._encoder.reads_first_only(head)

    @property
    def _encoder(self) -> Scratch | Pretrained:
        return self.model if isinstance(self.model, Scratch) else Pretrained(self.model)

    def describe(self) -> dict[str, Any]:
        """Identity of the untrained model and the recipe, as JSON: local files by content, others by revision."""
        settings = {"recipe": _settings(self.recipe), "attention_dropout": self.attention_dropout, "format": FORMAT}
        labels = {} if self.label_map is None else {"label_map": {**self.label_map}}
        return {"model": self._encoder.identity(), **settings, **labels}

    def tokenizer(self, tables: Tables) -> PreTrainedTokenizerBase:
        """The model's tokenizer, or a word-level one over the train split's words for `Scratch`."""
        return self.model.tokenizer(tables) if isinstance(self.model, Scratch) else load_tokenizer(self.model)

    def build(
        self,
        tokenizer: PreTrainedTokenizerBase,
        labels: Sequence[str],
        max_length: int,
        seed: int,
        head: str = "classification",
    ) -> AdaptiveModel:
        """Build the untrained model, with a `head` of these outputs in order; new weights depend on the seed alone.

        Raises DataError for a checkpoint that does not fit; with `start=None` its head must be the data's.
        """
        import torch

        from searchkit.training.checkpoint import RequiredOutputs, from_checkpoint

        torch.manual_seed(seed)
        required = RequiredOutputs.by(self.recipe, labels, head, self.label_map)
        if isinstance(self.model, Scratch):
            return self.model.build(required, len(tokenizer), max_length, self.attention_dropout)
        return from_checkpoint(self.model, required, self.attention_dropout)


def check_fits(
    source: str | Scratch, tokenizer: PreTrainedTokenizerBase, model: AdaptiveModel, data: Encoded, max_length: int
) -> None:
    """Raise DataError where the model does not know a token, segment or label, or its unreduced outputs on some of the
    texts are not transformers' own; StudyError where texts may be longer than it takes.
    """
    from searchkit.reduction.stock_check import compare_with_stock
    from searchkit.training.packing import as_tokens

    highest, known = max(tokenizer.get_vocab().values(), default=0), model.stock.config.vocab_size
    if highest >= known:
        raise DataError(f"{source}: the tokenizer gives tokens up to number {highest}, the encoder knows {known}")
    segments, types = model.view.segments, int(data.types.max(initial=0))
    if segments is not None and types >= segments:
        raise DataError(f"{source}: the tokenizer gives segments up to number {types}, the encoder knows {segments}")
    if (given := (str(data.labels.dtype), data.labels.shape[1:])) != model.head.label_format:
        raise DataError(f"labels of the head {model.head.name!r} are {model.head.label_format}, the task gives {given}")
    if max_length > model.view.limit:
        raise StudyError(f"max_length={max_length} is more than the encoder takes ({model.view.limit}); lower it")
    by_length = data.lengths.argsort(kind="stable")
    some = by_length[[0, len(by_length) // 2, -1]] if len(by_length) else by_length
    if len(some):
        compare_with_stock(model, str(source), as_tokens(data.take(some)))


def _settings(recipe: Any) -> dict[str, Any]:
    """A recipe as JSON: its name, its fields, and the identity of the user's code in it and in its scorers."""
    from searchkit.training.plans import scorers_of

    return with_plug_ins({"recipe": type(recipe).__name__, **asdict(recipe)}, recipe, *scorers_of(recipe))
