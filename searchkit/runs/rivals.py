"""Rivals of a run: checked before anything is trained, and read for a bench of the report split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from searchkit._internal.progress import step
from searchkit.evaluate.workbench import RivalParts
from searchkit.records import Candidate
from searchkit.runs.session import Session
from searchkit.training.rivals import DEPTH, load_rival, names_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from searchkit.tasks.base import Encoded


def check_rivals(session: Session) -> None:
    """Raise DataError or StudyError, in one line, for a rival that is no model of the study's task."""
    for source in names_of(session.study.rivals):
        step(f"checking the rival {source}")
        load_rival(source, session.tables.report, session.tables.labels, session.study.task)


def rival_parts(
    session: Session,
    candidates: Sequence[Candidate],
    config: Mapping[str, Any],
    weights: Mapping[str, NDArray[np.float32]],
    data: Encoded,
) -> dict[str, RivalParts]:
    """Parts of those candidates that are rivals, by key.

    config, weights, data: of the supernet, with the report split as its tokenizer encodes it
    """
    sources = {name: source for source, name in names_of(session.study.rivals).items()}
    parts = {}
    for candidate in candidates:
        if "rival" not in candidate:
            continue
        if candidate["rival"] == DEPTH:
            parts[candidate.key] = RivalParts(_cut(config, int(str(candidate["layers"]))), weights, data)
            continue
        step(f"loading the rival {candidate['rival']}")
        table, labels = session.tables.report, session.tables.labels
        model, _, encoded = load_rival(sources[str(candidate["rival"])], table, labels, session.study.task)
        arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        parts[candidate.key] = RivalParts(model.stock.config.to_dict(), arrays, encoded)
    return parts


def _cut(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Config of the same model with its first layers alone."""
    from transformers import AutoConfig

    cut = AutoConfig.for_model(**config)
    if getattr(cut, "layer_types", None):  # ModernBERT's attention is local or global, layer by layer
        cut.layer_types = cut.layer_types[:layers]
    cut.num_hidden_layers = layers
    return dict(cut.to_dict())
