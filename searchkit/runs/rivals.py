"""Rivals of a run: checked before anything is trained, and read for a bench of the report split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from searchkit._internal.progress import step
from searchkit.evaluate.workbench import RivalParts
from searchkit.records import Candidate
from searchkit.runs.runners import runner_of_rival
from searchkit.runs.runtimes import UNREDUCED
from searchkit.runs.session import Session
from searchkit.runs.texts import Texts
from searchkit.training.pretrained import load_tokenizer
from searchkit.training.rivals import DEPTH, families, load_rival, names_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from searchkit.evaluate.bench import SupernetBench
    from searchkit.tasks.base import Encoded


def rivals_of(session: Session) -> dict[str, tuple[Candidate, ...]]:
    """Candidates of rivals by family: the unreduced model in other runtimes, then the study's; reads their files."""
    study = session.study
    return {**session.runtime.rivals(), **families(study.rivals, study.supernet.layers)}


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
        if candidate["rival"] == UNREDUCED:
            parts[candidate.key] = RivalParts(runner=runner_of_rival(session, candidate))
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


def on_texts(session: Session, bench: SupernetBench, texts: Texts, candidates: Sequence[Candidate]) -> SupernetBench:
    """The bench with the user's texts in the place of its split, each rival's in its own tokens."""
    sources = {name: source for source, name in names_of(session.study.rivals).items()}
    rivals = {}
    for candidate in candidates:
        rival, source = bench.rivals[candidate.key], sources.get(str(candidate["rival"]))
        data = texts.data if source is None else texts.encoded(load_tokenizer(source))
        rivals[candidate.key] = replace(rival, split=replace(rival.split, data=data))
    return replace(bench, data=texts.data, rivals=rivals)


def _cut(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Config of the same model with its first layers alone."""
    from transformers import AutoConfig

    cut = AutoConfig.for_model(**config)
    if getattr(cut, "layer_types", None):  # ModernBERT's attention is local or global, layer by layer
        cut.layer_types = cut.layer_types[:layers]
    cut.num_hidden_layers = layers
    return dict(cut.to_dict())
