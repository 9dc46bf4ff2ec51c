"""Rivals: models that could be served instead of a front member: other checkpoints, and the supernet's first layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from searchkit._internal.checks import check_count
from searchkit._internal.code import digest
from searchkit._internal.paths import located
from searchkit.errors import DataError, SearchkitError, StudyError
from searchkit.records import Candidate
from searchkit.training.pretrained import Pretrained

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from searchkit.reduction.model import AdaptiveModel
    from searchkit.tasks.base import Encoded, Task

DEPTH: Final = "depth"  # the family of the supernet's first layers
SHARES: Final = (0.25, 0.5, 0.75)  # of the layers, where a study does not say how many


@dataclass(frozen=True)
class Depth:
    """Rivals that are the supernet cut to its first layers, with its head and without further training.

    layers: how many, a rival for each number; None: a quarter, half and three quarters of them.

    >>> from searchkit import Depth
    >>> Depth(layers=(2, 4)).of(6), Depth().of(12)
    ((2, 4), (3, 6, 9))
    """

    layers: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.layers is None:
            return
        if not isinstance(self.layers, list | tuple) or not self.layers:
            raise StudyError(f"Depth: layers are numbers of layers, such as (2, 4), got {self.layers!r}")
        for layers in self.layers:
            check_count("Depth: layers", layers)
        object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))

    def of(self, layers: int) -> tuple[int, ...]:
        """Numbers of layers for an encoder of `layers`; StudyError where one of them leaves nothing out."""
        if self.layers is None:
            return tuple(sorted({max(1, round(share * layers)) for share in SHARES} - {layers}))
        if self.layers[-1] >= layers:
            raise StudyError(f"Depth: layers are fewer than the encoder's {layers}, got {self.layers[-1]}")
        return tuple(self.layers)


def checked(rivals: Any) -> tuple[str | Depth, ...]:
    """Rivals of a study, relative paths resolved as those of its model; StudyError where one is none."""
    if not isinstance(rivals, list | tuple) or not all(isinstance(rival, str | Depth) and rival for rival in rivals):
        raise StudyError(f"rivals is a list of model folders, hub names and Depth(), got {rivals!r}")
    placed = tuple(located(rival) if isinstance(rival, str) else rival for rival in rivals)
    if twice := next((rival for rival in placed if placed.count(rival) > 1), None):
        raise StudyError(f"rivals has {twice!r} twice")
    if sum(isinstance(rival, Depth) for rival in placed) > 1:
        raise StudyError("rivals has Depth twice: give it all numbers of layers, such as Depth(layers=(2, 4))")
    return placed


def families(rivals: Sequence[str | Depth], layers: int) -> dict[str, tuple[Candidate, ...]]:
    """Candidates of the rivals, by family: `depth`, or `rival NAME` of a checkpoint, in the given order.

    A checkpoint's candidate names its weights by a checksum, so that other weights are another candidate. Reads files
    of checkpoints; DataError or StudyError in one line for what is no model.
    """
    names, known = names_of(rivals), dict[str, tuple[Candidate, ...]]()
    for rival in rivals:
        if isinstance(rival, Depth):
            known[DEPTH] = tuple(Candidate.of(rival=DEPTH, layers=count) for count in rival.of(layers))
            continue
        try:
            weights = digest(Pretrained(rival).identity())[:8]
        except DataError as error:
            raise DataError(f"rival {error}") from error
        known[f"rival {names[rival]}"] = (Candidate.of(rival=names[rival], weights=weights),)
    return {family: candidates for family, candidates in known.items() if candidates}


def names_of(rivals: Sequence[str | Depth]) -> dict[str, str]:
    """Name of each checkpoint: its folder's, or the hub's without the owner; the whole text where two share that."""
    sources = [rival for rival in rivals if isinstance(rival, str)]
    short = {source: _last(source) for source in sources}
    return {source: source if list(short.values()).count(name) > 1 else name for source, name in short.items()}


def _last(source: str) -> str:
    folder = Path(source).expanduser()
    return folder.resolve().name if folder.is_dir() else source.rstrip("/").rpartition("/")[2] or source


def load_rival(
    source: str, table: pd.DataFrame, labels: Sequence[str], task: Task
) -> tuple[AdaptiveModel, PreTrainedTokenizerBase, Encoded]:
    """Model of a checkpoint, with outputs in the order of the labels, its tokenizer, and a table as that encodes it.

    DataError or StudyError in one line where it is no model of this task.
    """
    from searchkit.training.checkpoint import RequiredOutputs, from_checkpoint
    from searchkit.training.pretrained import load_tokenizer
    from searchkit.training.supernet import check_fits

    try:
        model, tokenizer = from_checkpoint(source, RequiredOutputs.of_rival(labels, task.head)), load_tokenizer(source)
        encoded = task.encode(table, tokenizer)
        check_fits(source, tokenizer, model, encoded, task.max_length)
    except SearchkitError as error:
        raise type(error)(f"rival {str(error) if str(error).startswith(source) else f'{source}: {error}'}") from error
    return model, tokenizer, encoded
