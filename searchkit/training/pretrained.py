"""Pretrained encoder of a supernet, a Hugging Face folder or hub name: its size, its identity and its tokenizer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchkit.errors import QUOTED, DataError, one_line
from searchkit.reduction.plugins import with_plug_ins

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from searchkit.reduction.families import Family


@dataclass(frozen=True)
class Pretrained:
    """Checkpoint of an encoder: a Hugging Face folder or hub name.

    >>> Pretrained("./my-sentiment-model").source
    './my-sentiment-model'
    """

    source: str

    @property
    def layers(self) -> int:
        """Number of layers, read from the config."""
        return int(self._config().num_hidden_layers)

    def reads_first_only(self, head: str) -> bool:
        """Return whether this kind of head, on this encoder, sees each example's first token alone."""
        from searchkit.reduction.families import reads

        return reads(self._config(), head) == "first"

    def identity(self) -> dict[str, Any]:
        """Identity as JSON: local files by content, others by revision, and the code of a plugged-in family."""
        return with_plug_ins(self._files(), None, *self._plugged_in_family())

    def _files(self) -> dict[str, Any]:
        folder = Path(self.source).expanduser()
        if not folder.is_dir():
            return {"hub": self.source, "revision": getattr(self._config(), "_commit_hash", None)}
        files = sorted(path for pattern in ("*.json", "*.safetensors", "*.txt") for path in folder.glob(pattern))
        return {"files": {path.name: _content(path) for path in files}}

    def _plugged_in_family(self) -> list[Family]:
        """The encoder's family where it is none of searchkit's own."""
        from searchkit.reduction.families import FAMILIES

        if set(FAMILIES) == set(FAMILIES.own):
            return []
        kind = self._config().model_type
        return [] if kind in FAMILIES.own else [FAMILIES[kind]]

    def _config(self) -> Any:
        from searchkit.reduction.checkpoint import load_config

        return load_config(self.source)


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder or hub name, without remote code; DataError where there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare exceptions
        raise DataError(f"{source}: cannot load the tokenizer: {one_line(error, QUOTED)}") from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes an empty one where the files are missing
        raise DataError(f"{source}: the tokenizer knows no words; its tokenizer.json (or vocab.txt) is missing")
    return tokenizer


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
