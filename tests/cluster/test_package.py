"""What a submitted study takes along, and what it is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

import searchkit
from searchkit import __version__
from searchkit.cluster import package as pack
from searchkit.cluster.package import differences, mib, packed, paths, pins, versions
from searchkit.errors import StudyError
from searchkit.runs.study_file import Loaded, load
from tests.studies import small_study

WITH_PATHS = """
from objectives import accuracy, macs
from searchkit import NSGA2, Budget, Lengths, Scratch, Space, Study, Supernet
from searchkit.tasks import TextClassification
from searchkit.training import FineTune


def study(data: str = "reviews", model: str = "bert-base-uncased", epochs: int = 1) -> Study:
    return Study(
        name="paths",
        task=TextClassification(data, text="text"),
        supernet=Supernet(Scratch(layers=2, width=8, heads=2, feed_forward=8), recipe=FineTune(epochs=epochs)),
        space=Space(Lengths(levels=3)),
        objectives=[accuracy, macs],
        engine=NSGA2(population=4),
        budget=Budget(evaluations=4),
    )
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def with_paths(here: Path, **parameters: str) -> Loaded:
    (here / "reviews").mkdir(exist_ok=True)
    (here / "reviews" / "train.csv").write_text("text,label\n")
    (here / "paths.py").write_text(WITH_PATHS)
    return load("paths.py", parameters)


def test_a_package_is_laid_out_like_the_current_folder(here: Path, tmp_path: Path) -> None:
    (here / "studies").mkdir()
    small_study(here / "studies")
    for name in ("reviews/train.csv", "reviews/.gitignore", "reviews/__pycache__/x.pyc", "helper.py", "runs/old/x"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("*.csv")
    name = packed(tmp_path / "package", Path("studies/small_study.py"), [Path("reviews"), Path("./helper.py")])
    assert name == "studies/small_study.py"
    found = {file.relative_to(tmp_path / "package").as_posix() for file in (tmp_path / "package").rglob("*.*")}
    assert {name, "reviews/train.csv", "helper.py", "searchkit/cli/app.py", "objectives/__init__.py"} <= found
    home = Path(searchkit.__file__).parent
    needed = {f"searchkit/{file.relative_to(home).as_posix()}" for file in home.rglob("*.*") if file.suffix != ".pyc"}
    assert needed <= found  # what the package reads beside its code too, such as the style of pages
    assert "searchkit/report/page/page.css" in needed
    # Ray would leave out train.csv because of the .gitignore, and say nothing
    assert not {name for name in found if ".gitignore" in name or name.startswith("runs") or "pycache" in name}
    assert 0.3 < mib(tmp_path / "package") < 3


def test_a_study_from_elsewhere_travels_by_its_name(here: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert packed(tmp_path / "package", small_study(tmp_path / "other"), []) == "small_study.py"
    assert (tmp_path / "package" / "small_study.py").is_file()


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("nowhere", "no such file or folder"),
        ("../other", "below the current folder"),
        (".", "below the current folder"),
    ],
)
def test_files_that_cannot_be_included_are_refused(include: str, message: str, here: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=message):
        packed(tmp_path / "package", small_study(here), [Path(include)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("random.py", r"random\.py has the name of Python's module random, .*: rename it"),
        ("queue/__init__.py", "queue has the name of Python's module queue"),
        ("datasets.py", "datasets.py has the name of an installed module datasets"),
        ("torch/__init__.py", "torch has the name of an installed module torch"),
    ],
)
def test_names_that_would_hide_a_module_from_the_job_are_refused(
    name: str, message: str, here: Path, tmp_path: Path
) -> None:
    (here / name).parent.mkdir(exist_ok=True)
    (here / name).write_text("")
    with pytest.raises(StudyError, match=message):
        packed(tmp_path / "package", small_study(here), [Path(name.partition("/")[0])])
    if name.endswith(".py") and "/" not in name:
        with pytest.raises(StudyError, match=message):
            packed(tmp_path / "other", small_study(here).rename(here / name), [])


def test_data_in_a_folder_that_is_named_like_a_module_hides_nothing(here: Path, tmp_path: Path) -> None:
    (here / "datasets").mkdir()
    (here / "datasets" / "train.csv").write_text("text,label")
    packed(tmp_path / "package", small_study(here), [Path("datasets")])
    assert (tmp_path / "package" / "datasets" / "train.csv").is_file()


def test_too_much_is_refused_and_the_largest_file_named(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "large.bin").write_bytes(b"x" * 3 * 2**20)
    monkeypatch.setattr(pack, "LIMIT_MIB", 2)
    with pytest.raises(StudyError, match=r"MiB are to be sent and 2 are allowed; the largest file is large\.bin"):
        packed(tmp_path / "package", small_study(here), [Path("large.bin")])


def test_a_folder_among_the_parameters_has_to_be_sent_also_if_it_is_a_default(here: Path) -> None:
    loaded = with_paths(here)
    with pytest.raises(
        StudyError, match="-p data=reviews is on this machine only: send it along with --include reviews"
    ):
        paths(loaded, [])
    assert paths(loaded, [Path("reviews")]) == []
    with pytest.raises(StudyError, match="--include reviews"):
        paths(loaded, [Path("review")])


def test_absolute_paths_are_checked_on_the_cluster_and_hub_names_nowhere(here: Path) -> None:
    assert paths(with_paths(here, data="/data/reviews", model="nobody/nothing"), []) == ["/data/reviews"]


def test_versions_that_decide_values_have_to_match_and_the_others_to_be_there() -> None:
    wanted = {"searchkit": "1.0", "torch": "2.13.0", "numpy": "2.4.0"}
    assert differences(wanted, wanted) == []
    assert differences(wanted, {**wanted, "numpy": "2.3.0"}) == []
    assert differences(wanted, {**wanted, "torch": "2.12.0"}) == [
        "has torch 2.12.0, and the study was submitted with 2.13.0"
    ]
    assert differences(wanted, {**wanted, "numpy": "", "searchkit": "0.9"}) == [
        "has no numpy",
        "has searchkit 0.9, and the study was submitted with 1.0",
    ]


def test_pins_are_what_is_installed_without_ray_and_searchkit() -> None:
    found = versions()
    assert found["searchkit"] == __version__
    assert "+" not in found["torch"]  # the nodes may have it for CUDA
    pinned = pins(found)
    assert f"torch=={found['torch']}" in pinned
    assert not [pin for pin in pinned if pin.startswith(("ray==", "searchkit=="))]
    with pytest.raises(StudyError, match="numpy is not"):
        pins({"torch": "2.13.0", "numpy": ""})
