"""Forward pass of the encoder under a plan: hidden states, and the trace of the tokens that were computed.

Axes: B examples, T tokens in all, D width, N layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from torch import Tensor

from searchkit.reduction.families import Block
from searchkit.reduction.lean import encode_alone, goes_alone
from searchkit.reduction.matmul import piecewise
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import Predictors
from searchkit.reduction.state import Encoding, State

__all__ = ["encode", "encode_alone", "goes_alone"]


def encode(
    blocks: Sequence[Block],
    hidden: Tensor,
    layout: Layout,
    plan: ReductionPlan,
    *,
    predictors: Predictors | None = None,
    training: bool = False,
    restore: bool = False,
    first_only: bool = False,
    skip: Collection[int] = (),
    after_first_attention: State | None = None,
    watch: Callable[[Layout], None] | None = None,
) -> Encoding:
    """Run `hidden` (T, D), packed as `layout`, through the blocks, dropping tokens as the plan says.

    With `restore` the result carries the buffer: it starts as the embeddings, and survivors of each layer write their
    output to their original place. With `first_only` the last layer computes each example's first token and no other.
    Layers in `skip` are left out (LayerDrop), with their reducers. `after_first_attention` is the state of these tokens
    after the first attention, which is then not computed again; nothing may be dropped before it. `watch` is called
    with the layout of the tokens that reach the first layer, and of those that each layer leaves to the next; of the
    last layer, where it is computed for the first tokens alone, with those that they attend to.
    """
    if len(plan.layers) != len(blocks):
        raise ValueError(f"the plan has {len(plan.layers)} layers, the encoder {len(blocks)}")
    given = after_first_attention
    state = State(hidden, layout, predictors, restore) if given is None else given.fork()
    watch = watch or _unwatched
    state.reduce(plan.input, 0, blocks[0])
    watch(state.layout)
    for number, (block, reducers) in enumerate(zip(blocks, plan.layers, strict=True)):
        if number in skip:
            state.skip()
            continue
        state.reduce(reducers.before, number, block)
        if first_only and number == len(blocks) - 1:
            watch(state.layout)
            state.finish_first(block, training)
            continue
        scored = reducers.later is not None and reducers.later.may_drop(state.whole, state.layout)
        if number or given is None:
            state.attend(block, number, reducers.later if scored else None, training)
        state.reduce(reducers.between, number, block)
        state.transform(piecewise(block.transformed, state.hidden))
        state.reduce(reducers.after, number, block)
        watch(state.layout)
    return state.result()


def _unwatched(layout: Layout) -> None:
    pass
