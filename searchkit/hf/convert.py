"""From a trained model and plans to the class that is shipped, with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from searchkit.errors import DataError
from searchkit.hf.configs import CONFIGS
from searchkit.hf.models import CLASSIFIERS, READERS
from searchkit.reduction.heads import is_class_of
from searchkit.reduction.model import AdaptiveModel


def shipped_model(model: AdaptiveModel, notes: Mapping[str, Any] | None = None) -> Any:
    """The Hugging Face model of an adaptive model, in eval mode, on its device; its weights are the same tensors.

    notes: entries of `config.searchkit` beside the recipe's own, such as plans (see `searchkit.hf.members.Members`).
    Raises DataError for a family that has no class here, and for notes that do not fit the model.

    >>> from searchkit.testing.models import bert
    >>> shipped_model(bert()).plan
    'unreduced'
    """
    stock = model.stock
    family, architecture = stock.config.model_type, type(stock).__name__
    cls = next(
        (cls for cls in (*CLASSIFIERS, *READERS) if family in CONFIGS and _matches(cls, CONFIGS[family], model)), None
    )
    if cls is None:
        raise DataError(f"{architecture} cannot be shipped; families that can: {', '.join(CONFIGS)}")
    settings = {
        name: value
        for name, value in stock.config.to_dict().items()
        if name not in ("model_type", "architectures", "transformers_version", "searchkit")
    }
    config = cls.config_class(**settings, searchkit={**model.notes, **(notes or {})})
    config.problem_type = config.problem_type or model.head.problem_type
    with torch.device("meta"):
        shipped = cls(config)
    shipped.load_state_dict({**stock.state_dict(), **_prefixed(model)}, assign=True)
    for name, buffer in stock.named_buffers():  # those that no file holds, such as position ids
        parent, _, own = name.rpartition(".")
        shipped.get_submodule(parent).register_buffer(own, buffer, persistent=name in stock.state_dict())
    shipped.eval()
    shipped.set_budget(None)  # reads the plans
    return shipped


def _prefixed(model: AdaptiveModel) -> dict[str, Any]:
    return {f"predictors.{name}": weight for name, weight in model.predictors.state_dict().items()}


def _matches(cls: type[Any], config: type[Any], model: AdaptiveModel) -> bool:
    return cls.config_class is config and is_class_of(cls.__name__, model.head)
