"""The contract of every storage."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchkit.errors import NothingStoredError, StoreError
from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Pruned, Trial
from searchkit.storage.store import Store
from searchkit.testing import StorageContract
from tests.storage.conftest import new_storage
from tests.storage.samples import (
    OBJECTIVES,
    STORAGES,
    failed,
    measured,
    opened,
    optuna_storage,
    optuna_study,
    pruned,
)

STUDIES = itertools.count()


class TestStorage(StorageContract):
    @pytest.fixture(params=sorted(STORAGES))
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        return new_storage(request, request.param, tmp_path)


def test_optuna_shows_a_dimension_that_changes_its_kind(storage: str) -> None:
    for trial in [measured(0, x=1), measured(1, x=0.5), measured(2, x="all"), measured(3, x=True)]:
        opened(storage).append(trial)
    rows = optuna_study(storage).trials
    assert rows[0].params == {"x": 1}
    assert [row.user_attrs["x"] for row in rows[1:]] == [0.5, "all", True]


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
scalars = numbers | st.booleans() | st.none() | st.text(max_size=5)
ends = st.tuples(numbers, numbers).map(sorted) | st.just([None, None])
values = scalars | st.lists(scalars, max_size=3).map(tuple)
estimates = st.builds(
    lambda ends, *others: Estimate(*others[:-1], *ends, others[-1]),
    ends,
    numbers,
    st.none() | numbers,
    st.integers(0, 10**6),
    st.dictionaries(st.text(max_size=5), numbers, max_size=2),
    st.lists(st.none() | numbers, max_size=3).map(tuple),
)
outcomes = (
    st.dictionaries(st.sampled_from(["accuracy", "macs", "other"]), estimates).map(Measured)
    | st.builds(Pruned, st.text(), st.integers(0, 100), st.dictionaries(st.text(max_size=5), numbers, max_size=2))
    | st.builds(Failed, st.text(), st.text(), st.text())
)
candidates = st.dictionaries(st.text(min_size=1, max_size=5), values, max_size=3).map(Candidate.of)


@pytest.fixture(scope="module", params=sorted(STORAGES))
def shared_storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One storage for many studies: to make one in SQL takes long."""
    return new_storage(request, request.param, tmp_path_factory.mktemp("shared"))


@settings(max_examples=25, deadline=None)
@given(
    records=st.lists(st.tuples(candidates, outcomes), max_size=4, unique_by=lambda record: record[0].key),
    environment=st.dictionaries(st.text(max_size=5), scalars, max_size=2),
)
def test_whatever_a_record_may_hold_comes_back(
    shared_storage: str, records: list[tuple[Candidate, Any]], environment: dict[str, Any]
) -> None:
    trials = [Trial(Ask(i, candidate), outcome, 0.5, environment) for i, (candidate, outcome) in enumerate(records)]
    name = f"study {next(STUDIES)}"
    store = Store.open(shared_storage, name, OBJECTIVES)
    for trial in trials:
        store.append(trial)
    assert Store.open(shared_storage, name, OBJECTIVES).trials() == trials


def test_of_an_ask_that_was_stored_twice_the_first_counts(storage: str, caplog: pytest.LogCaptureFixture) -> None:
    store = opened(storage)
    store.append(measured(0))
    study = optuna_study(storage)
    (row,) = study.trials
    row.user_attrs["searchkit"]["seconds"] = 99.0
    study.add_trial(row)
    assert opened(storage).trials() == [measured(0)]
    assert "ask 0 twice" in caplog.text


def test_a_study_of_optuna_itself_is_refused(storage: str) -> None:
    Store.open(storage, "other", OBJECTIVES)
    backend = optuna_storage(storage)
    study = optuna.create_study(study_name="demo", storage=backend, directions=["maximize", "minimize"])
    study.add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    with pytest.raises(StoreError, match="no objectives of searchkit"):
        opened(storage)


def test_a_trial_that_is_no_record_of_ours_is_refused(storage: str) -> None:
    store = opened(storage)
    optuna_study(storage).add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    with pytest.raises(StoreError, match=r"trial 0 in .* is no record of searchkit"):
        store.trials()


def test_a_maker_killed_before_it_noted_the_objectives_leaves_a_usable_study(storage: str) -> None:
    Store.open(storage, "other", OBJECTIVES)
    backend = optuna_storage(storage)
    optuna.create_study(study_name="demo", storage=backend, directions=["maximize", "minimize"])
    opened(storage).append(measured(0))
    assert opened(storage, create=False).trials() == [measured(0)]


def test_without_create_nothing_is_made(storage: str, tmp_path: Path) -> None:
    with pytest.raises(NothingStoredError, match="there is no store at"):
        opened(storage, create=False)
    assert list(tmp_path.iterdir()) == []
    Store.open(storage, "other", OBJECTIVES)
    with pytest.raises(NothingStoredError, match=r"holds no study 'demo' \(it holds: other\)"):
        opened(storage, create=False)


def test_an_empty_database_stays_empty_without_create(tmp_path: Path) -> None:
    (tmp_path / "run.db").touch()
    with pytest.raises(StoreError, match=r"there is no store at .*the database is empty"):
        opened(f"sqlite:///{tmp_path}/run.db", create=False)
    assert (tmp_path / "run.db").stat().st_size == 0


def test_optuna_shows_the_search(storage: str) -> None:
    store = opened(storage, choices={"scorer": ("attention", "random")})
    store.append(measured(0, lengths=(1.0, 0.25), heads=3, scorer="random", exact=True))
    store.append(measured(1, lengths=(1.0, 0.5), heads=4, scorer="attention", exact=False))
    store.append(failed(2))
    store.append(pruned(3))
    study = optuna_study(storage)
    states = optuna.trial.TrialState
    assert study.metric_names == ["accuracy", "macs"]
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [trial.state for trial in study.trials] == [states.COMPLETE, states.COMPLETE, states.FAIL, states.PRUNED]
    first, _, broken, stopped = study.trials
    assert first.params == {"lengths_1": 1.0, "lengths_2": 0.25, "heads": 3, "scorer": "random", "exact": True}
    assert first.values == pytest.approx([0.5, 1 / 3])
    assert first.duration is not None
    assert first.duration.total_seconds() == pytest.approx(0.25)
    assert first.user_attrs["key"] == measured(0, lengths=(1.0, 0.25), heads=3, scorer="random", exact=True).key
    assert first.user_attrs["searchkit"]["number"] == 0
    assert [trial.number for trial in study.best_trials] == [1]
    assert broken.values is None
    assert (broken.user_attrs["failure_kind"], broken.user_attrs["failure_message"]) == ("nan", "loss is NaN")
    assert stopped.values is None
    assert (stopped.user_attrs["pruned_why"], stopped.user_attrs["pruned_after_examples"]) == ("dominated", 256)


def test_a_trial_without_a_value_for_an_objective_counts_as_failed_in_optuna(storage: str) -> None:
    trial = Trial(Ask(0, Candidate.of(heads=1)), Measured({"macs": Estimate(0.5, None, 1)}), 1.0)
    opened(storage).append(trial)
    (row,) = optuna_study(storage).trials
    assert row.state is optuna.trial.TrialState.FAIL
    assert row.user_attrs["failure_message"] == "no value for accuracy"
    assert opened(storage).trials() == [trial]


def test_making_a_study_says_nothing_and_leaves_the_loggers_alone(storage: str) -> None:
    said: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = said.append  # type: ignore[method-assign]
    logger = logging.getLogger("optuna")
    level, logger.level = logger.level, logging.INFO
    logger.addHandler(listener)
    try:
        opened(storage)
        assert logger.level == logging.INFO
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
    assert said == []
