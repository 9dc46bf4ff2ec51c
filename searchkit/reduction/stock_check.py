"""Comparison of the unreduced packed pass with the stock model's own forward on padded input.

Both use the same weights, so that they differ only where the packed pass does not honour what the config says.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from searchkit.errors import DataError
from searchkit.reduction.cost import Shape
from searchkit.reduction.encoder import encode
from searchkit.reduction.families import View
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Layout, Tokens

LENGTHS: Final = (2, 9, 24)  # tokens of the texts, so few that the comparison costs a second at most
BEYOND: Final = 16  # tokens that local attention does not see of the longest text, from its other end
TOLERANCE: Final = 2e-4  # share of the largest value, or of 1 where all are smaller; measured: at most 1e-5


class StockBacked(Protocol):
    """A model that runs its packed pass on the weights of a stock transformers model."""

    training: bool

    @property
    def stock(self) -> Any: ...
    @property
    def view(self) -> View: ...
    @property
    def shape(self) -> Shape: ...

    def eval(self) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...
    def embed(self, tokens: Tokens) -> Tensor: ...
    def __call__(self, tokens: Tokens, plan: ReductionPlan) -> Any: ...


def compare_with_stock(model: StockBacked, source: str, tokens: Tokens | None = None) -> None:
    """Raise DataError if states or outputs differ from the stock model's beyond rounding, in float32 on this device.

    `tokens`: texts of the task, which are cut; made-up ones by default.
    """
    texts, training = random_texts(model) if tokens is None else shortened(tokens, model), model.training
    model.eval()
    try:
        with torch.no_grad():
            pairs = zip(_stock(model, texts), _packed(model, texts), ("states", "outputs"), strict=True)
            for expected, packed, values in pairs:
                if not torch.isfinite(expected).all():
                    raise DataError(f"{source}: {values} of the unreduced model are not finite: weights are too large")
                difference = float((expected - packed).abs().max())
                allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
                if not difference <= allowed:  # nan is a difference
                    raise DataError(
                        f"{source}: unreduced {values} differ from transformers' own by {difference:.2g} (rounding: "
                        f"{allowed:.2g}); a setting of its config.json is not honoured, please report it"
                    )
    finally:
        model.train(training)


def random_texts(model: StockBacked) -> Tokens:
    """Generate texts of ragged lengths, of words and segments all over their tables, without padding tokens."""
    config = model.stock.config
    lengths = torch.tensor([min(length, model.view.limit) for length in (*LENGTHS[:-1], _longest(model))])
    layout = Layout.of_lengths(lengths)
    ids = (torch.arange(len(layout.positions)) * 7919 + 5) % config.vocab_size
    if config.pad_token_id is not None:
        ids[ids == config.pad_token_id] = (config.pad_token_id + 1) % config.vocab_size
    segments = (layout.positions >= layout.lengths[layout.examples] // 2).long()
    return Tokens(ids, segments % (model.view.segments or 1), layout)


def _longest(model: StockBacked) -> int:
    windows = [block.window + BEYOND for block in model.view.blocks if block.window is not None]
    return max(LENGTHS[-1], *windows) if windows else LENGTHS[-1]


def shortened(tokens: Tokens, model: StockBacked) -> Tokens:
    """Cut the texts, and leave out those that hold a padding token, which is a word like any other here."""
    pad = model.stock.config.pad_token_id
    ids, types = (_by_text(rows, tokens.layout) for rows in (tokens.ids, tokens.types))
    kept = [number for number, text in enumerate(ids) if pad is None or not (text == pad).any()]
    if not kept:
        return random_texts(model)
    longest = min(_longest(model), model.view.limit)
    cut = [ids[number][:longest] for number in kept]
    layout = Layout.of_lengths(torch.tensor([len(text) for text in cut], device=tokens.ids.device))
    return Tokens(torch.cat(cut), torch.cat([types[number][:longest] for number in kept]), layout)


def _stock(model: StockBacked, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """(T, D) states that the head reads, and outputs, of transformers' classes on padded texts."""
    states: list[Tensor] = []
    hook = model.stock.base_model.register_forward_hook(lambda module, given, out: states.append(out[0]))
    ids = pad_sequence(_by_text(tokens.ids, tokens.layout), True, model.stock.config.pad_token_id or 0)
    mask = tokens.layout.mask
    types: dict[str, Any] = {}
    if model.view.segments is not None:
        types["token_type_ids"] = pad_sequence(_by_text(tokens.types, tokens.layout), True)
    try:
        out = model.stock(input_ids=ids, attention_mask=mask.long(), return_dict=True, **types)
    finally:
        hook.remove()
    if model.view.reads == "tokens":
        outputs = [value for value in out.values() if value.shape == mask.shape]  # start and end, (B, L) each
        return states[0][mask], torch.stack(outputs, -1)[mask] if outputs else out.logits[mask]
    return states[0][mask], out.logits


def _by_text(rows: Tensor, layout: Layout) -> list[Tensor]:
    """(T,) -> a tensor of each text."""
    return list(torch.split(rows, layout.lengths.tolist()))


def _packed(model: StockBacked, tokens: Tokens) -> tuple[Tensor, Tensor]:
    whole = ReductionPlan.unreduced(model.shape.layers)
    encoding = encode(model.view.blocks, model.embed(tokens), tokens.layout, whole)
    return model.view.finish(encoding.hidden), model(tokens, whole).logits
