"""A word-level tokenizer for tasks that come with their own vocabulary (the `tokenizers` library)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIALS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4, as padding has to be 0 in BERT


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token per whitespace-separated word, the i-th word having id 5 + i; [CLS] a [SEP] b [SEP] as BERT does.

    Raises ValueError for a repeated word, and for one that is empty, holds whitespace or is a special token.

    >>> from searchkit.tasks import word_tokenizer
    >>> word_tokenizer(["good", "bad"])("bad good unseen")["input_ids"]  # [CLS] bad good [UNK] [SEP]
    [2, 6, 5, 1, 3]
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    _check(words)
    vocabulary = {word: number for number, word in enumerate([*SPECIALS, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(special, vocabulary[special]) for special in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],  # pairs are told apart by segments
    )


def _check(words: Sequence[str]) -> None:
    seen = set(SPECIALS)
    for word in words:
        if word.split() != [word]:
            raise ValueError(f"a word is not empty and holds no whitespace, got {word!r}")
        if word in seen:
            raise ValueError(f"{word!r} stands twice in the vocabulary, or is a special token")
        seen.add(word)
