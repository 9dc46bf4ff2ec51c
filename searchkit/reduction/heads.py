"""A stock Hugging Face sequence classifier that can run under a reduction plan; saved and loaded as the stock model.

Axes: B examples, C classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from searchkit.errors import DataError
from searchkit.reduction.cost import Shape
from searchkit.reduction.encoder import Trace, encode
from searchkit.reduction.families import check_supported, view_of
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens


@dataclass(frozen=True, eq=False)
class Classified:
    """logits (B, C) and the trace of the pass."""

    logits: Tensor
    trace: Trace


class AdaptiveClassifier(nn.Module):
    """A stock `...ForSequenceClassification` (`.model`) whose forward pass takes packed tokens and a plan."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.view = view_of(model)
        self.shape = Shape.of_config(model.config)
        self.train(model.training)

    def forward(
        self, tokens: Tokens, plan: ReductionPlan, skip: Collection[int] = (), embedded: Tensor | None = None
    ) -> Classified:
        """Classify packed tokens under a plan, without the layers in `skip`; `embedded` saves embedding them again."""
        hidden = self.embed(tokens) if embedded is None else embedded
        encoding = encode(self.view.blocks, hidden, tokens.layout, plan, training=self.training, skip=skip)
        first = encoding.hidden[encoding.layout.first]  # [CLS] is protected and comes first
        return Classified(self.view.classify(first), encoding.trace)

    def embed(self, tokens: Tokens) -> Tensor:
        """(T, D) embeddings of the tokens at their positions."""
        longest, limit = tokens.layout.longest, self.model.config.max_position_embeddings
        if longest > limit:
            raise ValueError(f"an example has {longest} tokens, the encoder takes {limit}")
        return self.view.embed(tokens.ids, tokens.layout.positions, tokens.types)

    @classmethod
    def load(cls, source: str, labels: int | None = None) -> AdaptiveClassifier:
        """Load from a Hugging Face folder or hub name, in float32, from safetensors only, without remote code.

        `labels` classes are given to a newly initialised head; a checkpoint that has a classification head must agree.
        Raises DataError in one line for whatever cannot be used.
        """
        from transformers import AutoModelForSequenceClassification

        config = load_config(source)
        if labels is not None:
            trained = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
            if trained and config.num_labels != labels:
                raise DataError(f"{source}: the checkpoint's head has {config.num_labels} labels, the data {labels}")
            config.num_labels = labels
        with quiet_transformers():
            try:
                model = AutoModelForSequenceClassification.from_pretrained(
                    source, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
                )
            except (OSError, ValueError, RuntimeError) as error:
                raise DataError(f"{source}: cannot load the weights: {_one_line(error)}") from error
            except Exception as error:
                if type(error).__module__.startswith("safetensors"):
                    raise DataError(f"{source}: the safetensors file is damaged: {_one_line(error)}") from error
                raise
        return cls(model)

    def save(self, folder: Path) -> None:
        """Write config and safetensors; the stock class's `from_pretrained(folder)` loads them."""
        with quiet_transformers():
            self.model.save_pretrained(folder)


def load_config(source: str) -> Any:
    """The transformers config of a folder or hub name, of a supported family; DataError says what is wrong."""
    from transformers import AutoConfig

    path = Path(source).expanduser()
    if not path.exists() and source.startswith((".", "/", "~")):
        raise DataError(f"{source}: there is no such model folder")
    if path.is_file() or (path.is_dir() and not (path / "config.json").is_file()):
        raise DataError(f"{source}: not a Hugging Face model folder: it has no config.json")
    if path.is_dir() and not any(path.glob("*.safetensors")):
        raise DataError(
            f"{source}: no safetensors weights (only these are read, never pickles); convert the checkpoint"
        )
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        hint = "" if path.is_dir() else "; without network access give a local folder"
        raise DataError(f"{source}: cannot read the model's config: {_one_line(error)}{hint}") from error
    check_supported(config.model_type, source)
    return config


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no 'newly initialised' tables from transformers: searchkit says itself what it does."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
