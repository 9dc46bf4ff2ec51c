"""The studies of the repository, at smoke size."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchkit.runs.config import Conditions
from searchkit.runs.phases import execute
from searchkit.runs.study_file import load
from tests.figures import with_figures

STUDIES = Path(__file__).parents[1] / "studies"

pytestmark = pytest.mark.usefixtures("hurried")


def test_the_quickstart_runs(tmp_path: Path) -> None:
    small = {"documents": "200", "finetune_epochs": "1", "evaluations": "24"}
    with with_figures():
        results = execute(load(STUDIES / "quickstart.py", small), Conditions(runs=tmp_path, threads=1))
    assert len(results.trials) == 24
    assert (tmp_path / "quickstart" / "pareto.png").is_file()


@pytest.mark.real
def test_sst2_lengths_runs_on_real_data(tmp_path: Path, shared: Path) -> None:
    small = {
        "model": str(shared / "models" / "minilm-l6"),
        "data": str(shared / "data" / "sst2_sentences"),
        "limit": "64",
        "finetune_epochs": "1",
        "epochs": "1",
        "evaluations": "24",
    }
    results = execute(load(STUDIES / "sst2_lengths.py", small), Conditions(runs=tmp_path, threads=1))
    assert len(results.trials) == 24
    assert all(trial.status == "measured" for trial in results.trials)
    (unreduced,) = results.baselines["unreduced"]
    assert unreduced.outcome.estimates["macs"].value == 1.0  # type: ignore[union-attr]


REAL = {
    "imdb_skim.py": ("imdb", {"max_length": "64", "train_limit": "48", "search_limit": "24", "report_limit": "24"}),
    "sst2_adapler.py": ("sst2_sentences", {"limit": "48"}),
    "squad_lengths.py": ("squad", {"train_limit": "32", "search_limit": "16", "report_limit": "16"}),
    "family.py": ("sst2_sentences", {"train_limit": "48", "search_limit": "24", "report_limit": "24", "passes": "2"}),
}


@pytest.mark.real
@pytest.mark.parametrize("file", sorted(REAL))
def test_a_study_of_the_family_runs_on_real_data(file: str, tmp_path: Path, shared: Path) -> None:
    data, small = REAL[file]
    small = {
        **small,
        "model": str(shared / "models" / "minilm-l6"),
        "data": str(shared / "data" / data),
        "finetune_epochs": "1",
        "evaluations": "6",
    }
    if file != "family.py":
        small["epochs"] = "1"
    results = execute(load(STUDIES / file, small), Conditions(runs=tmp_path, threads=1))
    assert len(results.trials) == 6
    assert all(trial.status == "measured" for trial in results.trials)


def test_every_study_has_a_test() -> None:
    named = Path(__file__).read_text()
    assert all(f'"{file.name}"' in named for file in STUDIES.glob("*.py"))
