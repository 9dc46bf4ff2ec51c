"""Measure a complete table: train the supernet of a study, then evaluate every candidate of its space on both splits.

Needs real data and a real model beside the checkout. `python -m benchmarks.tables.make sst2 --runs DIR` trains, or goes
on with the supernet that is there, and writes `benchmarks/tables/data/sst2.parquet`. What a table holds is described in
`benchmarks/tables/table.py`.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from benchmarks.result import ROOT, SHARED, conditions
from benchmarks.tables.emulator import errors_of
from benchmarks.tables.table import FOLDER, KEY
from objectives import accuracy, macs
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.racing import RaceState, Racing
from searchkit.evaluate.workbench import SupernetWorkbench
from searchkit.records import Ask, Candidate, Measured
from searchkit.runs.benches import workbench
from searchkit.runs.config import Conditions
from searchkit.runs.opening import opened
from searchkit.runs.phases import trained
from searchkit.runs.session import Session
from searchkit.runs.study_file import load
from searchkit.space import Lengths, Space, Thresholds

TOGETHER = 48  # candidates whose shared prefixes are computed at once
CACHE_MIB = 4096


@dataclass(frozen=True)
class Made:
    """How a table is made.

    study: file and settings; space: of the table; deepened: the model has each layer twice; sampled: how many
    candidates of the space are drawn, None for all
    """

    study: str
    settings: dict[str, Any]
    space: Space
    deepened: bool = False
    sampled: int | None = None


FAMILY = {"text": "text", "front_latency": False, "max_length": 128}
TABLES: dict[str, Made] = {
    "sst2": Made("sst2_lengths.py", {"data": "sst2_sentences"}, Space(Lengths(levels=8))),
    "imdb": Made(
        "family.py",
        {
            **FAMILY,
            "data": "imdb",
            "passes": 4,
            "train_limit": 1200,
            "search_limit": 400,
            "report_limit": 400,
        },
        Space(Lengths(levels=8)),
    ),
    "sst2_skim": Made(
        "family.py",
        {
            **FAMILY,
            "data": "sst2_sentences",
            "passes": 4,
            "recipe": "transkimmer",
            "space": "joint",
            "report_limit": 400,
        },
        Space(Lengths(levels=3), Thresholds("probability", levels=[0.5])),
    ),
    "sst2_deep": Made(
        "family.py",
        {
            **FAMILY,
            "data": "sst2_sentences",
            "passes": 4,
            "train_limit": 2500,
            "search_limit": 400,
            "report_limit": 100,
        },
        Space(Lengths(levels=8)),
        deepened=True,
        sampled=600,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--runs", type=Path, required=True, help="keep supernets here, and go on with what is there")
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder of the tables")
    arguments = parser.parse_args()
    for name in arguments.tables:
        make(name, TABLES[name], arguments.runs, arguments.to)


def make(name: str, made: Made, runs: Path, to: Path) -> None:
    session = session_of(name, made, runs)
    with opened(session):
        trained(session)
        space = session.space
        candidates = chosen(space, made.sampled)
        splits = {split: measured(session, split, candidates) for split in ("search", "report")}
        about = {
            "name": name,
            "study": session.study.describe(),
            "fingerprint": session.fingerprint,
            "space": space.describe(),
            "examples": splits["search"][0].shape[1],
            "report_examples": splits["report"][0].shape[1],
            "sampled": made.sampled is not None,
            "chance": max(np.bincount(session.tables["search"]["label"]) / len(session.tables["search"])),
            "conditions": conditions(),
        }
    if made.sampled is not None:
        right, costs = splits["search"]
        quality, cost = errors_of(candidates, np.stack([right.mean(1), costs], 1))
        about["emulator"] = {"rms_error_of_accuracy": quality, "rms_error_of_macs": cost}
    write(to / f"{name}.parquet", candidates, splits, about)


def session_of(name: str, made: Made, runs: Path) -> Session:
    model = SHARED / "models" / "minilm-l6"
    if made.deepened:
        model = deepened(model, runs / f"{model.name}-deepened")
    settings = {**made.settings, "model": model, "data": SHARED / "data" / made.settings["data"]}
    loaded = load(ROOT / "studies" / made.study, {key: str(value) for key, value in settings.items()})
    study = replace(loaded.study, name=f"table-{name}", space=made.space, racing=None, front_objectives=())
    return Session(replace(loaded, study=study), Conditions(runs=runs, device="cpu"))


def deepened(model: Path, to: Path) -> Path:
    """Folder of the model with every layer twice, one after the other; it needs to be trained."""
    if not to.exists():
        encoder = AutoModel.from_pretrained(model)
        layers = encoder.encoder.layer
        encoder.encoder.layer = torch.nn.ModuleList(copy.deepcopy(layer) for layer in layers for _ in range(2))
        encoder.config.num_hidden_layers = len(encoder.encoder.layer)
        encoder.save_pretrained(to)
        AutoTokenizer.from_pretrained(model).save_pretrained(to)
    return to


def chosen(space: Space, sampled: int | None) -> list[Candidate]:
    """Candidates of the space in the order of its prefixes; distinct draws of all its shapes where it is too large."""
    if sampled is None:
        return list(space.all())
    drawn = space.sample(4 * sampled, np.random.default_rng(0))
    genomes = dict.fromkeys(tuple(space.canonical(genome).tolist()) for genome in drawn)
    return [space.decode(np.array(genome)) for genome in sorted(list(genomes)[:sampled], reverse=True)]


def measured(
    session: Session, split: str, candidates: Sequence[Candidate]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """(N, S) outcomes of the examples, and (N,) costs."""
    bench = workbench(session, split)
    assert isinstance(bench, SupernetWorkbench)
    bench = replace(bench, keeps_outputs=False, shards=1, cache_bytes=CACHE_MIB << 20)
    objectives = (accuracy, macs)
    race = RaceState.of(Racing(), objectives)
    assert race is not None
    right: dict[str, NDArray[np.bool_]] = {}
    costs: dict[str, float] = {}
    with Inline(bench, objectives) as evaluator:
        for start in range(0, len(candidates), TOGETHER):
            asks = [Ask(number, one) for number, one in enumerate(candidates[start : start + TOGETHER], start)]
            for trial in evaluator.run(asks, race):
                if not isinstance(trial.outcome, Measured):
                    raise SystemExit(f"{trial.ask.candidate.to_json()} failed: {trial.outcome}")
                right[trial.key] = trial.examples[accuracy.name].astype(bool)
                costs[trial.key] = trial.outcome.estimates[macs.name].value
            print(f"{session.study.name}: {split} {len(right)}/{len(candidates)}", file=sys.stderr, flush=True)
    keys = [candidate.key for candidate in candidates]
    return np.stack([right[key] for key in keys]), np.array([costs[key] for key in keys])


def write(
    file: Path,
    candidates: Sequence[Candidate],
    splits: dict[str, tuple[NDArray[np.bool_], NDArray[np.float64]]],
    about: dict[str, Any],
) -> None:
    columns: dict[str, Any] = {
        name: [list(candidate[name]) for candidate in candidates]  # type: ignore[arg-type]
        for name, _ in candidates[0].items
    }
    for prefix, (right, costs) in (("", splits["search"]), ("report_", splits["report"])):
        columns[f"{prefix}accuracy"] = right.mean(1)
        columns[f"{prefix}macs"] = costs
        columns[f"{prefix}correct"] = [row.tobytes() for row in np.packbits(right, axis=1)]
    rows = pa.table(columns).replace_schema_metadata({KEY: json.dumps(about)})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(rows, file, compression="zstd")
    print(f"{file}: {len(rows)} candidates, {file.stat().st_size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
