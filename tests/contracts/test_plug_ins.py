"""Plug-ins of docs/plug-ins.md: held to their contracts, and in a study, in this process and on a Ray worker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from searchkit import StudyError, register
from searchkit.reduction.families.post_norm import BERT, ROBERTA
from searchkit.reduction.heads import Classification
from searchkit.reduction.plan import Reducer, TopK
from searchkit.reduction.plugins import registry
from searchkit.reduction.scorers import SCORERS
from searchkit.reduction.scorers.predictors import Gate
from searchkit.reduction.scorers.untrained import Position
from searchkit.runs.study_file import load
from searchkit.training import FineTune
from searchkit.training.cache import fingerprint
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet
from tests.commands import Said

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^```python title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder with the page's files."""
    for title, code in BLOCK.findall((ROOT / "docs" / "plug-ins.md").read_text()):
        (tmp_path / title).write_text(code)
    return tmp_path


@pytest.fixture(autouse=True)
def _forgotten() -> object:
    """Nothing that a test registers stays."""
    yield
    for kind in ("scorer", "predictor", "family", "head"):
        registry(kind).registered.clear()


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)


def passed(folder: Path, *arguments: str) -> str:
    result = python(folder, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_every_plug_in_of_the_page_keeps_its_contract(page: Path) -> None:
    assert " passed" in passed(page, "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_plug_ins.py")


def test_plug_ins_train_search_report_and_verify_here_and_on_a_worker(page: Path) -> None:
    tables = []
    for runs, workers in (("here", 0), ("ray", 1)):
        run = f"searchkit run my_study.py --runs {runs} --workers {workers} --threads 1"
        verify = [] if workers else [f"searchkit verify {runs}/two-moods --again 2"]
        said = [Said(*each) for each in json.loads(passed(page, "tests.commands", run, *verify).splitlines()[-1])]
        assert {each.code for each in said} == {0}, said
        assert not verify or "every one is the stored one" in said[-1].stdout
        tables.append(pd.read_parquet(page / runs / "two-moods" / "trials.parquet").set_index("key"))
        assert (tables[-1]["status"] == "measured").all()
    assert tables[0]["distance"].to_dict() == tables[1]["distance"].to_dict()
    assert tables[0]["macs"].to_dict() == tables[1]["macs"].to_dict()
    assert tables[0]["macs"].min() < 0.8
    config = json.loads(next((page / "ray" / "supernets").glob("*/config.json")).read_text())
    assert config["searchkit_head"] == "pair_of_numbers"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("rarity.py", "seen.ids.float()", "-seen.ids.float()"),
        ("pair_of_numbers.py", "mse_loss(logits", "l1_loss(logits"),
        ("pair_of_numbers.py", "logits.float().sum(1)", "logits.float()[:, 0]"),
    ],
)
def test_an_edited_plug_in_is_another_study(
    page: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str
) -> None:
    monkeypatch.chdir(page)
    before = fingerprint_of(page, monkeypatch)
    assert fingerprint_of(page, monkeypatch) == before
    text = (page / file).read_text()
    assert old in text
    (page / file).write_text(text.replace(old, new))
    assert fingerprint_of(page, monkeypatch) != before


def fingerprint_of(page: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the supernet of the page's study, whose files are loaded anew."""
    for kind in ("scorer", "predictor", "family", "head"):
        registry(kind).registered.clear()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "path", list(sys.path))
        patched.setattr(sys, "dont_write_bytecode", True)  # or an edit in the same second would not be seen
        study = load(page / "my_study.py").study
        for path in page.glob("*.py"):
            sys.modules.pop(path.stem, None)
    return fingerprint(study.supernet, study.task, 0)


def test_a_registered_scorer_counts_by_its_settings() -> None:
    class Named(FineTune):
        @property
        def reducer_template(self) -> Reducer:
            return Reducer(TopK(ratio=1.0), scorer="mine")

    descriptions = []
    for scorer in (SCORERS["attention_received"], SCORERS["attention_off_diagonal"]):
        registry("scorer").registered.clear()
        register("scorer", "mine", type(scorer)(mean=True, diagonal=scorer.diagonal))  # type: ignore[call-arg, attr-defined]
        descriptions.append(Supernet(Scratch(), Named()).describe())
    assert descriptions[0] != descriptions[1]


@pytest.mark.parametrize(
    ("kind", "name", "thing", "message"),
    [
        ("scorre", "x", None, r"unknown kind of plug-in 'scorre'; did you mean 'scorer'\?"),
        ("scorer", "position", Position(), "a scorer 'position' already, of searchkit"),
        ("scorer", "a b", Position(), "letters, digits, '_' and '-', got 'a b'"),
        ("scorer", "mine", object(), "the scorer 'mine' lacks scale, read, needs_values, score, macs"),
        ("head", "mine", Classification(), "the head 'mine' calls itself 'classification'"),
        ("family", "bert", BERT, "a family 'bert' already"),
    ],
)
def test_what_cannot_be_registered_is_refused_in_one_line(kind: str, name: str, thing: object, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        register(kind, name, thing)


def test_a_name_is_taken_once_but_code_may_run_again() -> None:
    register("family", "camembert", ROBERTA)
    register("family", "camembert", ROBERTA)
    with pytest.raises(StudyError, match=r"a family .camembert. already, of .*roberta"):
        register("family", "camembert", BERT)


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("atention_mean", "did you mean 'attention_mean'"),
        (Position, "a scorer is a name or an object with scale"),
        (7, "a scorer is a name or an object with scale"),
        (Gate(8, 2), r"register\('predictor', NAME, Gate\)"),
    ],
)
def test_a_reducer_takes_a_name_or_a_scorer_and_nothing_else(scorer: object, message: str) -> None:
    with pytest.raises((StudyError, ValueError), match=message):
        Reducer(TopK(ratio=0.5), scorer=scorer)  # type: ignore[arg-type]
