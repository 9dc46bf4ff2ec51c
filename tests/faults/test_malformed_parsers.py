"""Parsers on anything: what they understand comes back equal, for the rest they raise their own error, in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from searchkit import Candidate, Choice, Estimate, Integer, Lengths, Space, Thresholds, Trial
from searchkit._internal.progress import silent
from searchkit.cli.options import parameters
from searchkit.errors import DataError, SearchkitError, StoreError, StudyError
from searchkit.runs.calibration import calibrated
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder, stored_objectives, stored_rivals
from searchkit.runs.session import Session
from searchkit.runs.study_file import _converted, load
from searchkit.storage.address import StorageAddress
from searchkit.storage.store import Store
from searchkit.tasks import TextClassification
from searchkit.tasks.files import read_folder
from tests.faults.malformed import study_file

QUICK = settings(
    max_examples=80, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FEW = settings(QUICK, max_examples=40)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just(10**400)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
Json = Any


def own_error(call: Callable[[], Any], kind: type[SearchkitError] = SearchkitError) -> Any:
    """What the call returns, or None where it raises one of searchkit's errors, in one line that can be shown."""
    try:
        return call()
    except kind as error:
        said = str(error)
    assert said.isprintable()
    assert 0 < len(said) < 1100
    return None


def places(data: Json) -> list[tuple[Any, ...]]:
    """The path of everything inside."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [(), *((key, *rest) for key, value in items for rest in places(value))]


def with_other(data: Json, path: tuple[Any, ...], value: Json) -> Json:
    if not path:
        return value
    copied = dict(data) if isinstance(data, dict) else list(data)
    copied[path[0]] = with_other(data[path[0]], path[1:], value)
    return copied


# Parameters


@QUICK
@given(st.lists(st.text(max_size=12) | st.from_regex(r"[a-z]{1,3}=.{0,5}", fullmatch=True), max_size=4))
def test_parameters_are_names_and_texts(items: list[str]) -> None:
    found = own_error(lambda: parameters(items), StudyError)
    assert found is None or [f"{name}={text}" for name, text in found.items()] == items


@QUICK
@given(st.text(max_size=12) | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["1e3", "yes", "None"]))
@pytest.mark.parametrize("hint", [int, float, bool, str, int | None, float | str, list, dict[str, int]])
def test_a_parameter_is_of_its_annotation(hint: Any, text: str) -> None:
    found = own_error(lambda: (_converted("a", text, hint, Path("study.py")),), StudyError)
    if found is not None and isinstance(hint, type):
        assert type(found[0]) is hint
    if hint is str:
        assert found == (text,)


@QUICK
@given(st.integers())
def test_an_integer_comes_back(number: int) -> None:
    assert _converted("a", str(number), int | None, Path("study.py")) == number


# Records

RECORDS: dict[str, Json] = {
    "measured": {"estimates": {"a": {"value": 0.5, "standard_error": 0.1, "n": 9, "low": 0.2, "high": 0.7}}},
    "resampled": {"estimates": {"a": {"value": 1, "standard_error": None, "n": 9, "beside": {"b": 2.5}}}},
    "pruned": {"why": "slow", "examples": 3},
    "failed": {"kind": "nan", "message": "m", "trace": "t"},
}
RECORDS["resampled"]["estimates"]["a"]["resamples"] = [0.5, None, 1]


def record(kind: str) -> Json:
    status = {"resampled": "measured"}.get(kind, kind)
    candidate = {"lengths": [1.0, 0.5], "k": 3, "c": "x", "n": None, "t": True}
    head = {"number": 3, "candidate": candidate, "status": status, "seconds": 0.5, "environment": {"threads": 2}}
    return head | {"outcome": RECORDS[kind]}


def check_trial(data: Json) -> None:
    try:
        trial = Trial.from_json(data)
    except (KeyError, TypeError, ValueError):
        return  # what the store turns into an error that names the trial
    written = trial.to_json()
    assert json.dumps(Trial.from_json(json.loads(json.dumps(written))).to_json()) == json.dumps(written)
    assert written["candidate"] == data["candidate"]
    assert [written[name] for name in ("number", "status")] == [data["number"], data["status"]]
    assert trial.key
    for name, estimate in written["outcome"].get("estimates", {}).items():
        assert math.isfinite(estimate["value"])
        assert estimate["value"] == data["outcome"]["estimates"][name]["value"]


@pytest.mark.parametrize("kind", RECORDS)
def test_the_records_that_are_changed_below_are_right(kind: str) -> None:
    assert Trial.from_json(record(kind)).to_json() == record(kind)


@QUICK
@given(st.data())
@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_with_anything_anywhere_is_read_as_it_is_or_refused(kind: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(record(kind))))
    check_trial(with_other(record(kind), path, data.draw(anything)))


@QUICK
@given(anything)
def test_anything_is_no_record(data: Json) -> None:
    check_trial(data)
    for kind in (Estimate, Candidate):
        try:
            written = kind.from_json(data).to_json()
        except (KeyError, TypeError, ValueError):
            continue
        assert written == data or {name: data[name] for name in written} == written


# Files of a run


@FEW
@given(anything | st.fixed_dictionaries({"description": anything, "objectives": anything}))
def test_a_run_folders_record_is_read_or_refused(tmp_path: Path, data: Json) -> None:
    folder = Folder(tmp_path)
    full = {"description": {"name": "a"}, "fingerprint": "f", "file": "s.py", "parameters": {}, "storage": None}
    full |= {"objectives": [], "front_objectives": [], "evaluations": 5}
    for written in (
        data,
        full | data if isinstance(data, dict) else data,
        full | {"objectives": data},
        full | {"rivals": data},
    ):
        folder.study.write_text(json.dumps(written))
        found = own_error(folder.read, StoreError)
        if found is not None:
            own_error(lambda found=found: stored_objectives(found), StoreError)
            own_error(lambda found=found: stored_rivals(found), StoreError)


@FEW
@given(st.binary(max_size=60))
def test_bytes_that_are_no_record_of_a_run_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.json").write_bytes(content)
    assert own_error(Folder(tmp_path).read, StoreError) is None


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run whose latency comes from a table."""
    folder = tmp_path_factory.mktemp("modelled")
    objectives = "[accuracy, latency(during_search='modelled')]"
    loaded = load(study_file(folder, objectives=objectives))
    run = Session(loaded, Conditions(runs=folder), silent)
    run.folder.path.mkdir()
    return run


@FEW
@given(st.binary(max_size=60) | anything.map(lambda data: json.dumps({"latency": data}).encode()))
def test_a_table_of_modelled_times_is_read_or_refused(modelled: Session, content: bytes) -> None:
    def no_bench() -> None:
        raise AssertionError("the table is there: nothing is calibrated")

    modelled.folder.calibration.write_bytes(content)
    found = own_error(lambda: calibrated(modelled, no_bench), StoreError)
    assert found is None or isinstance(found["latency"], dict)


# Data


@FEW
@given(st.binary(max_size=200) | st.text('text,label"\n[]{}:01.\\ ', max_size=80).map(str.encode))
@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_any_bytes_are_a_table_or_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    file = tmp_path / f"train.{suffix}"
    file.write_bytes(content)
    found = own_error(lambda: read_folder(tmp_path), DataError)
    assert found is None or len(found["train"]) == 1
    own_error(lambda: TextClassification(str(tmp_path)).tables(0), DataError)


@FEW
@given(st.lists(st.dictionaries(st.sampled_from(["text", "label", "x"]), anything, max_size=3), max_size=12))
def test_any_rows_are_examples_or_refused(tmp_path: Path, rows: Json) -> None:
    (tmp_path / "train.json").write_text(json.dumps(rows))
    found = own_error(lambda: TextClassification(str(tmp_path)).tables(0), DataError)
    assert found is None or len(found.labels) >= 2


# Spaces

SPACES = {
    "lengths": Space(Lengths(levels=4)).bound(3),
    "pinned": Space(Lengths(levels=[0.1, 0.5, 1.0], first=1.0, last=0.1)).bound(3, last_idle=True),
    "counts": Space(Lengths(levels=(1, 4, 9), basis="tokens"), Thresholds()).bound(2),
    "plain": Space(Integer("k", -3, 9), Choice("c", ["a", 1, 2.5, None, (1, 2)])),
}


@QUICK
@given(st.data())
@pytest.mark.parametrize("name", SPACES)
def test_any_numbers_are_a_genome_or_refused(name: str, data: st.DataObject) -> None:
    space = SPACES[name]
    width = data.draw(st.sampled_from([space.width, space.width, 0, 1, 7]))
    near, far = st.integers(-2, 6), st.integers(-(2**62), 2**62)
    genome = np.array(data.draw(st.lists(near | far, min_size=width, max_size=width)), dtype=np.int64)
    try:
        candidate = space.decode(genome)
    except ValueError:
        return
    assert space.decode(space.encode(candidate)) == candidate


@QUICK
@given(st.data())
@pytest.mark.parametrize("name", SPACES)
def test_any_candidate_is_of_the_space_or_refused(name: str, data: st.DataObject) -> None:
    space = SPACES[name]
    names = [dimension.name for dimension in space.dimensions]
    numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.sampled_from([1.0, 0.5, 0.1, 1, 4])
    values = numbers | st.none() | st.text(max_size=2) | st.booleans() | st.lists(numbers, max_size=4)
    candidate = Candidate.of(data.draw(st.dictionaries(st.sampled_from([*names, "x"]), values)))
    try:
        genome = space.encode(candidate)
    except ValueError:
        return
    assert genome.shape == (space.width,)
    assert (genome >= space.low).all()
    assert (genome <= space.high).all()


# Places of storages

SCHEMES = st.sampled_from(["nosuch", "http", "", "a+b", "oracle", "mssql", "postgresql+nosuch"])


@FEW
@given(SCHEMES, st.text(min_size=4, max_size=10).filter(lambda word: "*" not in word), st.text(max_size=12))
def test_no_message_about_a_storage_holds_its_password(scheme: str, password: str, rest: str) -> None:
    written = quote(password, safe="")
    url = f"{scheme}://ann:{written}@host/{rest}"
    assert written not in str(StorageAddress(url))
    with pytest.raises(StoreError) as caught:
        Store.open(url, "demo", ())
    message = str(caught.value)
    assert message.isprintable()
    assert written not in message
