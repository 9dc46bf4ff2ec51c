"""Survival of single tokens: the layer at which a plan drops each of them, and the scores that others could rank by.

Axes: T tokens in all, N layers.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from searchkit.reduction.matmul import piecewise
from searchkit.reduction.model import AdaptiveModel, Predicted
from searchkit.reduction.plan import Reducer, ReductionPlan, TopK
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.reduction.state import State

_BY_ATTENTION: Final = Reducer(TopK(count=1), scorer="attention_received")


def survival(model: AdaptiveModel, tokens: Tokens, plan: ReductionPlan) -> tuple[Tensor, Predicted]:
    """(T,) int64 the layer that drops each token under a plan, and the prediction of the same pass.

    0 is before the first attention, 1 the first layer; N + 1 are the tokens that no layer drops. Where the head reads
    first tokens alone, the last layer computes no other: it drops none, and N + 1 are those that it attends to.
    """
    fallen = torch.zeros_like(tokens.layout.positions)

    def watch(alive: Layout) -> None:  # N + 1 times
        fallen[alive.rows_in(tokens.layout)] += 1

    with torch.no_grad():
        predicted = model.packed(tokens, plan, watch=watch)
    return fallen, predicted


def attention_received(model: AdaptiveModel, tokens: Tokens) -> Tensor:
    """(N, T) attention that each token receives in each layer of the unreduced model, over all heads and queries."""
    with torch.no_grad():
        state, scores = State(model.embed(tokens), tokens.layout, model.predictor, restore=False), []
        for number, block in enumerate(model.view.blocks):
            state.attend(block, number, _BY_ATTENTION)
            scores.append(state.ranked(_BY_ATTENTION, number, block).scores.float())
            state.transform(piecewise(block.transformed, state.hidden))
    return torch.stack(scores)
