"""Encoders of different families seen as the same blocks. One entry per `model_type` of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from searchkit.errors import DataError
from searchkit.reduction.families.base import Block, Reads, View
from searchkit.reduction.families.modernbert import modernbert
from searchkit.reduction.families.post_norm import bert, distilbert, electra, roberta

__all__ = ["FAMILIES", "Block", "View", "check_supported", "reads", "view_of"]

FAMILIES: Final[dict[str, Callable[[Any], View]]] = {
    "bert": bert,
    "distilbert": distilbert,
    "roberta": roberta,
    "electra": electra,
    "modernbert": modernbert,
}


def check_supported(model_type: str, where: str) -> None:
    """Refuse a model family that has no view here."""
    if model_type not in FAMILIES:
        raise DataError(
            f"{where}: model_type {model_type!r} is not supported; supported families: {', '.join(FAMILIES)}"
        )


def reads(config: Any, head: str) -> Reads:
    """What this kind of head reads of an encoder with this config, as its view will say."""
    if head == "question_answering":
        return "tokens"
    return "mean" if getattr(config, "classifier_pooling", "cls") == "mean" else "first"


def view_of(stock: Any) -> View:
    """The view of a stock `...ForSequenceClassification` or `...ForQuestionAnswering`."""
    check_supported(stock.config.model_type, type(stock).__name__)
    return FAMILIES[stock.config.model_type](stock)
