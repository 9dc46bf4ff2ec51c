"""Inputs of a shipped model: padded tensors of a tokenizer, checked, packed, with the marks that plans protect.

Axes: B examples, L tokens of the longest, T tokens in all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from searchkit.hf.errors import InputError
from searchkit.reduction.families import family_name
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens

PAD_ON_THE_RIGHT = "set tokenizer.padding_side = 'right'"


@dataclass(frozen=True)
class Special:
    """Ids of special tokens. doubled: two separators stand between a question and its context, as in RoBERTa."""

    pad: int | None
    separator: int | None
    doubled: bool

    @classmethod
    def of_config(cls, config: Any) -> Special:
        """`config.searchkit["sep_token_id"]`, or the config's own."""
        own = getattr(config, "sep_token_id", None)
        separator = (getattr(config, "searchkit", None) or {}).get("sep_token_id", own)
        return cls(config.pad_token_id, separator, family_name(config) == "roberta")

    @classmethod
    def of_tokenizer(cls, tokenizer: Any, config: Any) -> Special:
        """The tokenizer's own, for a model of this config."""
        return cls(tokenizer.pad_token_id, tokenizer.sep_token_id, family_name(config) == "roberta")


def marks_needed(plan: ReductionPlan) -> frozenset[str]:
    """Names of marked tokens ("sep", "question") that the plan protects."""
    return frozenset(name for reducer in plan.slots if reducer is not None for name in reducer.protect) - {"cls"}


def pack(
    input_ids: Tensor | None,
    attention_mask: Tensor | None,
    token_type_ids: Tensor | None,
    special: Special,
    *,
    limit: int,
    marks: Collection[str] = (),
) -> Tokens:
    """Pack (B, L) tensors of a tokenizer that pads on the right; `marks` are the names of those that are needed.

    limit: the most tokens an example may have. Raises InputError for what cannot be packed.
    """
    if input_ids is None or input_ids.dim() != 2 or not input_ids.numel():
        got = "none" if input_ids is None else f"shape {tuple(input_ids.shape)}"
        raise InputError(f"input_ids of shape (examples, tokens) are needed, got {got}")
    for name, given in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
        if given is not None and given.shape != input_ids.shape:
            raise InputError(f"{name} must have the shape of input_ids {tuple(input_ids.shape)}: {tuple(given.shape)}")
    mask = _mask(input_ids, attention_mask, special)
    try:
        tokens = Tokens.of_padded(input_ids, mask, token_type_ids)
    except ValueError:
        raise InputError(_odd_mask(mask)) from None
    if tokens.layout.longest > limit:
        raise InputError(
            f"an example has {tokens.layout.longest} tokens, the encoder takes {limit}: call the tokenizer, or the "
            "pipeline, with truncation=True"
        )
    if not marks:
        return tokens
    if special.separator is None:
        raise InputError(
            f"the plan protects {', '.join(sorted(marks))}, and the id of the separator is not known: set "
            "config.searchkit['sep_token_id']"
        )
    padded = {"sep": input_ids == special.separator}
    if "question" in marks:
        padded["question"] = question_tokens(input_ids, mask, token_type_ids, special)
    layout = replace(tokens.layout, marks={name: tensor[mask] for name, tensor in padded.items()})
    return Tokens(tokens.ids, tokens.types, layout)


def question_tokens(input_ids: Tensor, mask: Tensor, token_type_ids: Tensor | None, special: Special) -> Tensor:
    """(B, L) True for the tokens of the question: after the first token, before the separator that ends it.

    Segments tell where it ends; without them the first separator does, or the first pair of them where they are
    `doubled`. A text that holds the separator literally is read wrongly there, which no model can know.
    """
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    separators = (input_ids == special.separator) & mask
    ends = _first(separators, mask)
    if special.doubled:
        pairs = separators & torch.nn.functional.pad(separators[:, 1:], (0, 1))
        ends = torch.where(pairs.any(1), _first(pairs, mask), ends)
    if token_type_ids is not None:
        second = (token_type_ids == 1) & mask
        begins = _first(second, mask)
        before = (begins - 1).clamp(min=0)
        closed = separators.gather(1, before[:, None]).squeeze(1)
        ends = torch.where(second.any(1), torch.where(closed, before, begins), ends)
    return mask & (places > 0) & (places < ends[:, None])


def _first(where: Tensor, mask: Tensor) -> Tensor:
    """(B,) the first place that is True; the number of tokens where there is none."""
    return torch.where(where.any(1), where.int().argmax(1), mask.sum(1))


def _mask(input_ids: Tensor, attention_mask: Tensor | None, special: Special) -> Tensor:
    if attention_mask is not None:
        return attention_mask.bool()
    if special.pad is not None and bool((input_ids == special.pad).any()):
        raise InputError(
            f"attention_mask is missing, and input_ids hold the padding token {special.pad}: pass the tokenizer's mask"
        )
    return torch.ones_like(input_ids, dtype=torch.bool)


def _odd_mask(mask: Tensor) -> str:
    empty = (~mask.any(1)).nonzero()
    if len(empty):
        return f"example {int(empty[0])} has no tokens: its attention_mask is all zeros"
    if not bool(mask[:, 0].all()):
        return f"attention_mask has pads on the left: {PAD_ON_THE_RIGHT}"
    return f"attention_mask must be ones followed by zeros in every row: {PAD_ON_THE_RIGHT}"
