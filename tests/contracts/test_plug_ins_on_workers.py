"""Plug-ins of the study file itself and of an installed package, in runs with two Ray workers."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CamembertConfig, CamembertForSequenceClassification

from searchkit import Results, StudyError
from searchkit.reduction.plugins import HOMES, registry
from searchkit.reduction.scorers import SCORERS
from searchkit.runs.config import Conditions
from searchkit.runs.phases import execute
from searchkit.runs.study_file import load
from searchkit.tasks import Generated
from searchkit.tasks.words import word_tokenizer

STUDY = '''
"""A predictor, a family and a recipe that are defined here; the input is reduced by a scorer that a package offers."""
from dataclasses import dataclass, replace

from torch import nn

from objectives import accuracy, macs
from searchkit import Budget, Lengths, Random, Space, Study, Supernet, register
from searchkit.reduction.families.post_norm import ROBERTA
from searchkit.reduction.plan import Reducer, TopK
from searchkit.tasks import Generated
from searchkit.training import FineTune, InputReducer


class Glance(nn.Module):
    scale, read, needs_values = "relative", None, False

    def __init__(self, width, heads):
        super().__init__()
        self.out = nn.Linear(width, 1)

    def score(self, seen):
        return seen.softmax(self.out(seen.hidden).squeeze(1).float())

    def macs(self, layout, *, width, heads):
        return width * layout.lengths


def view(stock):
    return ROBERTA.view(stock)


register("predictor", "glance", Glance)
register("family", "camembert", replace(ROBERTA, view=view))


@dataclass(frozen=True)
class ByRarity(InputReducer):
    scorer: str = "value_norm"  # which needs no training either

    @property
    def reducer_template(self):
        return Reducer(TopK(ratio=1.0), site="before_attention", scorer="rarity")


@dataclass(frozen=True)
class Glancing(FineTune):
    @property
    def reducer_template(self):
        return Reducer(TopK(ratio=1.0), site="before_attention", scorer="glance")

    def train(self, model, data, context):
        super().train(model, data, context)
        model.attach("glance")


def study() -> Study:
    return Study(
        name="own-parts",
        task=Generated(train=32, search=40, report=20),
        supernet=Supernet("./camembert", Glancing(epochs=1, learning_rate=1e-3, input=ByRarity())),
        space=Space(Lengths(levels=8)),
        objectives=[accuracy, macs],
        engine=Random(population=6),
        budget=Budget(evaluations=6),
    )
'''

PACKAGE = """
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rarity:
    scale: None = None
    read: None = None
    needs_values: bool = False

    def score(self, seen):
        return seen.ids.float()

    def macs(self, layout, *, width, heads):
        return torch.zeros_like(layout.lengths)


rarity, nothing = Rarity(), object()
"""

ENTRY_POINTS = """
[searchkit.scorers]
rarity = word_rarity:rarity
lacks_all = word_rarity:nothing
not_there = word_rarity:forgotten
"""


def distribution(site: Path, name: str, entry_points: str) -> None:
    """What pip leaves of a package: the files by which Python knows that it is installed."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(entry_points)


def look_again() -> None:
    """Forget what was registered and which packages were installed."""
    for kind in HOMES:
        registry(kind).registered.clear()
        vars(registry(kind)).pop("_installed", None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of installed packages with one that offers scorers."""
    folder = tmp_path_factory.mktemp("environment") / "site-packages"
    folder.mkdir()
    (folder / "word_rarity.py").write_text(PACKAGE)
    distribution(folder, "word_rarity", ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "path", [*sys.path, str(folder)])
        patched.setenv("PYTHONPATH", os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(folder)))))
        look_again()
        yield folder
    sys.modules.pop("word_rarity", None)
    look_again()


@pytest.fixture(scope="module")
def two_workers(site: Path) -> Iterator[None]:
    """A local cluster that is started where the package is installed."""
    ray = importlib.import_module("searchkit.evaluate.ray_cluster").connect(None, 2)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, and the checkpoint of a family that searchkit does not know."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "my_study.py").write_text(STUDY)
    tokenizer = word_tokenizer(Generated().words())
    tokenizer.save_pretrained(folder / "camembert")
    torch.manual_seed(0)
    config = CamembertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=0,
        type_vocab_size=2,
    )
    CamembertForSequenceClassification(config).save_pretrained(folder / "camembert")
    return folder


def test_plug_ins_search_on_two_workers_as_in_this_process(two_workers: None, folder: Path) -> None:
    on_workers = searched(folder, "on_workers", workers=2)
    shutil.copytree(folder / "on_workers" / "supernets", folder / "here" / "supernets")
    assert values(on_workers) == values(searched(folder, "here", workers=0))
    assert len({estimates["macs"] for estimates in values(on_workers)}) == 6


def searched(folder: Path, runs: str, workers: int) -> Results:
    return execute(load(folder / "my_study.py"), Conditions(runs=folder / runs, threads=1, workers=workers))


def values(results: Results) -> list[dict[str, float]]:
    """The measured values of every trial by objective; a trial that failed has none, which is an error here."""
    trials: list[Any] = sorted(results.trials, key=lambda trial: trial.ask.number)
    return [{name: estimate.value for name, estimate in trial.outcome.estimates.items()} for trial in trials]


def test_an_entry_point_is_found_by_its_name_and_a_wrong_one_is_refused_in_one_line(site: Path) -> None:
    assert type(SCORERS.look_up("rarity")).__name__ == "Rarity"
    assert {"position", "rarity"} < set(SCORERS)
    with pytest.raises(StudyError, match=r"scorer 'lacks_all' of an installed package: .* lacks scale, read"):
        SCORERS.look_up("lacks_all")
    with pytest.raises(StudyError, match=r"scorer 'not_there' of an installed package: .*forgotten"):
        SCORERS.look_up("not_there")
    with pytest.raises(StudyError, match=r"unknown scorer 'rarety'; did you mean 'rarity'\?"):
        SCORERS.look_up("rarety")


def test_a_name_that_two_installed_packages_offer_is_refused(site: Path) -> None:
    distribution(site, "other_rarity", "[searchkit.scorers]\nrarity = word_rarity:rarity\n")
    look_again()
    try:
        with pytest.raises(StudyError, match="scorer 'rarity' is offered by other_rarity and word_rarity: "):
            SCORERS.look_up("rarity")
    finally:
        shutil.rmtree(site / "other_rarity-1.0.dist-info")
        look_again()
