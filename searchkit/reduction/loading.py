"""Loading of an adaptive model: the files of a stock Hugging Face model, and what searchkit wrote beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from searchkit.errors import QUOTED, DataError, one_line
from searchkit.reduction.checkpoint import load_config, read_stock
from searchkit.reduction.heads import HEADS, head_of, set_head
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.stock_check import compare_with_stock


def load_model(source: str, labels: int | None = None, head: str = "classification") -> AdaptiveModel:
    """Load from a Hugging Face folder or hub name, in float32, from safetensors only, without remote code.

    Without `labels` the checkpoint must bring its head along, and its predictors if searchkit wrote it; with it, a
    `head` of that many outputs is new where the checkpoint has none of this size. Raises DataError in one line for
    whatever cannot be used.

    >>> load_model("runs/supernets/0123456789abcdef").head.name  # doctest: +SKIP
    'classification'
    """
    config = load_config(source)
    own = config.num_labels
    if labels is not None and labels != own:
        config.num_labels = labels
    kind = HEADS.look_up(head) if labels else head_of(config, next(iter(config.architectures or ()), ""))
    set_head(config, kind)
    stock, weights = read_stock(source, config, kind.auto_class, new_outputs=config.num_labels != own)
    if labels is None:
        weights.check_complete(source)
    model = of_stock(stock, source)
    compare_with_stock(model, source)
    return model


def of_stock(stock: Any, source: str) -> AdaptiveModel:
    """Wrap a stock model that was read from `source`, with the predictors that are stored there."""
    try:
        model = AdaptiveModel(stock)
    except DataError:
        raise
    except Exception as error:  # predictors of unknown names and settings
        raise DataError(f"{source}: cannot load the weights: {one_line(error, QUOTED)}") from error
    if model.predictors:
        model.load_predictors(Path(source).expanduser())
    return model
