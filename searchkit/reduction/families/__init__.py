"""Encoders of different families seen as the same blocks. One entry per `model_type` of transformers."""

from __future__ import annotations

from typing import Any, Final

from searchkit.errors import DataError
from searchkit.reduction.families.base import Block, Family, Reads, View
from searchkit.reduction.families.modernbert import MODERNBERT
from searchkit.reduction.families.post_norm import BERT, DISTILBERT, ELECTRA, ROBERTA
from searchkit.reduction.heads import HEADS
from searchkit.reduction.plugins import Registry

__all__ = [
    "FAMILIES",
    "PREFIX",
    "Block",
    "Family",
    "View",
    "check_supported",
    "family_name",
    "family_of",
    "lean_block",
    "reads",
    "view_of",
]

FAMILIES: Final[Registry[Family]] = Registry(
    "family",
    {
        "bert": BERT,
        "distilbert": DISTILBERT,
        "roberta": ROBERTA,
        "electra": ELECTRA,
        "modernbert": MODERNBERT,
    },
    group="searchkit.families",
    needs=("view", "gated", "dense_reader", "pooling", "refuse"),
)
# Settings of any config that change what a stock model computes and have no place in a packed pass: setting -> the
# values that can be honoured. Heads, hidden sizes, activations, dropouts and biases are read from the stock modules.
HONOURED: Final[dict[str, tuple[object, ...]]] = {
    "position_embedding_type": (None, "absolute"),  # relative positions: no longer read by transformers either
    "is_decoder": (None, False),
    "add_cross_attention": (None, False),
    "is_encoder_decoder": (None, False),
    "quantization_config": (None,),
    "is_heterogeneous": (None, False),  # per_layer_config: layers of different sizes
    "pruned_heads": (None, {}),
}


PREFIX: Final = "searchkit-"  # of the model_type of a folder that searchkit ships: "searchkit-bert" is a BERT


def family_name(config: Any) -> str:
    """The model_type whose encoder a config describes: "bert" for "bert" and for "searchkit-bert"."""
    return str(config.model_type).removeprefix(PREFIX)


def family_of(config: Any, source: str) -> Family:
    """The family of a config; DataError where there is none, or a setting that the packed pass does not honour."""
    check_supported(family_name(config), source)
    family = FAMILIES[family_name(config)]
    for setting, honoured in HONOURED.items():
        if (value := getattr(config, setting, None)) not in honoured:
            allowed = " or ".join(repr(value) for value in honoured if value is not None) or "none at all"
            raise DataError(f"{source}: {setting}={value!r} in its config is not supported; supported: {allowed}")
    if reason := family.refuse(config):
        raise DataError(f"{source}: {reason}")
    return family


def check_supported(model_type: str, source: str) -> None:
    """Refuse a model family that has no view here."""
    if model_type not in FAMILIES:
        raise DataError(
            f"{source}: model_type {model_type!r} is not supported; supported families: {', '.join(FAMILIES)}"
        )


def reads(config: Any, head: str) -> Reads:
    """Rows that this kind of head reads of an encoder with this config, the same as the `reads` of its view."""
    return HEADS.look_up(head).reads or FAMILIES.look_up(family_name(config)).pooling(config)


def view_of(stock: Any) -> View:
    """The view of a stock `...ForSequenceClassification` or `...ForQuestionAnswering`."""
    return family_of(stock.config, type(stock).__name__).view(stock)


def lean_block(block: Block) -> Block:
    """The block's form for few rows, whose weights must not change any more: its `lean()`, or itself if it has none."""
    made: Block = block.lean() if hasattr(block, "lean") else block
    return made
