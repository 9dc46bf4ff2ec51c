"""The packed pass over a shipped model's own weights.

It is no child of the model, whose weights it reads: the model would contain itself.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

import torch
from torch import Tensor, nn

from searchkit.hf.errors import InputError
from searchkit.reduction.model import AdaptiveModel, Predicted
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens

OWN_CODE: Final = ("torch.nn.", "transformers.", "searchkit.")  # of modules whose weights the pass may read
Versions = tuple[list[int], list[int]]  # of weights: their memory, and the number of writes to each
VERSION: Final = attrgetter("_version")


class Packed:
    """A view of `stock` that lasts until its modules change, and for inference one with joined weights.

    Joined weights are copies, made anew where a weight has changed since: by an optimizer, a loaded state or another
    device. A write to `weight.data` leaves no trace; call `model.train()` and `model.eval()` after it.
    """

    def __init__(self, stock: Any) -> None:
        _refuse_others_layers(stock)
        self._stock = stock
        self._plain = AdaptiveModel(stock, stock.predictors)
        self._places = [
            (module._parameters, name)
            for module in stock.modules()
            for name, weight in module._parameters.items()
            if weight is not None
        ]
        self._joined: tuple[Versions, AdaptiveModel] | None = None

    @property
    def limit(self) -> int:
        """The most tokens an example may have."""
        return self._plain.view.limit

    def predict(self, tokens: Tokens, plan: ReductionPlan) -> Predicted:
        """Predict under a plan: with gradients and dropout where the stock model would have them."""
        if self._stock.training or torch.is_grad_enabled():
            self._plain.training = self._stock.training
            return self._plain(tokens, plan)  # type: ignore[no-any-return]
        versions, joined = self._versions(), self._joined
        if joined is None or joined[0] != versions:  # two threads may both make it, of the same weights
            model = AdaptiveModel(self._stock, self._stock.predictors).join()
            self._joined = joined = (versions, model)
        return joined[1](tokens, plan)  # type: ignore[no-any-return]

    def _versions(self) -> Versions:
        weights: list[Any] = [parameters[name] for parameters, name in self._places]
        places = list(map(Tensor.data_ptr, weights))
        try:
            return places, list(map(VERSION, weights))
        except RuntimeError:  # made in inference mode, which counts no writes
            return places, []


def _refuse_others_layers(stock: nn.Module) -> None:
    """Refuse layers that do more than their weights say: adapters, quantised ones."""
    for name, module in stock.named_modules():
        own = not name or name.startswith("predictors.") or type(module).__module__.startswith(OWN_CODE)
        if not own:
            kind = f"{type(module).__module__}.{type(module).__name__}"
            raise InputError(
                f"{name} is a {kind}, which the reduced pass does not run: merge adapters before, and load without "
                "quantisation"
            )
