"""The contract of every storage, and what only journals or URLs have to stand."""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchkit.errors import StoreError
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Pruned, Trial
from searchkit.store import Store


def unmeasurable(subject: Any) -> Estimate:
    raise AssertionError("a store measures nothing")


ACCURACY = Objective("accuracy", "fraction", "higher", unmeasurable)
MACS = Objective("macs", "of unreduced", "lower", unmeasurable)
OBJECTIVES = (ACCURACY, MACS)
STUDIES = itertools.count()
STORAGES = {"journal": "{folder}/run/journal.log", "sqlite": "sqlite:///{folder}/run/trials.db"}


@pytest.fixture(params=sorted(STORAGES))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return STORAGES[request.param].format(folder=tmp_path)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.log"


def opened(storage: str | Path, **options: Any) -> Store:
    return Store.open(str(storage), "demo", OBJECTIVES, **options)


def measured(number: int, **candidate: Any) -> Trial:
    estimates = {
        "accuracy": Estimate(0.5 + number / 1000, 0.01, 872),
        "macs": Estimate(1 / (number + 3), None, 872, {"macs_per_example": 1.5e9, "padded": 0.1}),
    }
    values = candidate or {"lengths": (1.0, 1 / (number + 1)), "heads": number}
    return Trial(Ask(number, Candidate.of(values)), Measured(estimates), 0.25, {"device": "cpu", "threads": 2})


def failed(number: int) -> Trial:
    return Trial(Ask(number, Candidate.of(heads=number)), Failed("nan", "loss is NaN", "line 1\nline 2"), 1.0)


def pruned(number: int) -> Trial:
    return Trial(Ask(number, Candidate.of(heads=number)), Pruned("dominated", 256), 0.1)


def optuna_storage(storage: str) -> Any:
    if "://" in storage:
        return storage
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))


def optuna_study(storage: str) -> optuna.Study:
    """The study as Optuna itself and optuna-dashboard see it."""
    return optuna.load_study(study_name="demo", storage=optuna_storage(storage))


# The contract


def test_trials_come_back_equal_and_by_ask_number(storage: str) -> None:
    trials = [measured(7), failed(3), pruned(11), measured(0, lengths=(1, 0.5), scorer="random", merge=None, on=True)]
    store = opened(storage)
    for trial in trials:
        store.append(trial)
    expected = sorted(trials, key=lambda trial: trial.ask.number)
    assert store.trials() == expected
    assert opened(storage, create=False).trials() == expected


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
    | st.builds(Pruned, st.text(), st.integers(0, 100))
    | st.builds(Failed, st.text(), st.text(), st.text())
)
candidates = st.dictionaries(st.text(min_size=1, max_size=5), values, max_size=3).map(Candidate.of)


@pytest.fixture(scope="module", params=sorted(STORAGES))
def shared_storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One storage for many studies: to make one in SQL takes long."""
    return STORAGES[request.param].format(folder=tmp_path_factory.mktemp("shared"))


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


def test_a_search_goes_on_where_another_store_left_it(storage: str) -> None:
    opened(storage).append(measured(0))
    opened(storage).append(measured(1))
    assert opened(storage).trials() == [measured(0), measured(1)]


def test_an_ask_number_is_stored_once(storage: str) -> None:
    opened(storage).append(measured(4))
    store = opened(storage)
    with pytest.raises(StoreError, match=r"already holds ask 4, candidate \w{16}; now came \w{16}"):
        store.append(measured(4, heads=9))
    assert store.trials() == [measured(4)]


def test_a_candidate_is_stored_once(storage: str) -> None:
    store = opened(storage)
    store.append(measured(4, heads=9))
    with pytest.raises(StoreError, match=r"already holds candidate \w{16}, ask 4; now came ask 5"):
        store.append(measured(5, heads=9))
    assert store.trials() == [measured(4, heads=9)]


def test_a_second_writer_is_noticed(storage: str) -> None:
    first, second = opened(storage), opened(storage)
    first.append(measured(0))
    second.append(measured(1))
    with pytest.raises(StoreError, match="something else is appending"):
        first.append(measured(2))


def test_a_reader_follows_a_writer(storage: str) -> None:
    writer = opened(storage)
    reader = opened(storage, create=False)
    writer.append(measured(0))
    assert reader.trials() == [measured(0)]
    writer.append(measured(1))
    assert reader.trials() == [measured(0), measured(1)]


def test_of_an_ask_that_was_stored_twice_the_first_counts(storage: str, caplog: pytest.LogCaptureFixture) -> None:
    store = opened(storage)
    store.append(measured(0))
    study = optuna_study(storage)
    (row,) = study.trials
    row.user_attrs["searchkit"]["seconds"] = 99.0
    study.add_trial(row)
    assert opened(storage).trials() == [measured(0)]
    assert "ask 0 twice" in caplog.text


def test_notes_are_kept_and_replaced(storage: str) -> None:
    store = opened(storage)
    assert store.note("fingerprint") is None
    store.set_note("fingerprint", "aa")
    store.set_note("seconds", {"train": 1.5, "search": [1, None]})
    store.set_note("fingerprint", "bb")
    again = opened(storage, create=False)
    assert again.note("fingerprint") == "bb"
    assert again.note("seconds") == {"train": 1.5, "search": [1, None]}
    with pytest.raises(ValueError, match="the store's own"):
        store.set_note("searchkit:objectives", [])


def test_other_objectives_are_refused_by_name(storage: str) -> None:
    opened(storage)
    latency = Objective("latency", "ms", "lower", unmeasurable)
    with pytest.raises(StoreError, match=r"made for accuracy \(fraction, higher .*macs .*, not for accuracy .*latency"):
        Store.open(storage, "demo", (ACCURACY, latency))
    upside_down = Objective("macs", "of unreduced", "higher", unmeasurable)
    with pytest.raises(StoreError, match=r"not for .*macs.*higher"):
        Store.open(storage, "demo", (ACCURACY, upside_down))


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
    with pytest.raises(StoreError, match="there is no store at"):
        opened(storage, create=False)
    assert list(tmp_path.iterdir()) == []
    Store.open(storage, "other", OBJECTIVES)
    with pytest.raises(StoreError, match=r"holds no study 'demo' \(it holds: other\)"):
        opened(storage, create=False)


def test_an_empty_database_stays_empty_without_create(tmp_path: Path) -> None:
    (tmp_path / "run.db").touch()
    with pytest.raises(StoreError, match="no such table"):
        opened(f"sqlite:///{tmp_path}/run.db", create=False)
    assert (tmp_path / "run.db").stat().st_size == 0


def test_several_studies_share_a_storage(storage: str) -> None:
    other = Store.open(storage, "other", (MACS,))
    store = opened(storage)
    other.append(measured(0))
    store.append(measured(5))
    other.append(measured(1))
    assert other.trials() == [measured(0), measured(1)]
    assert store.trials() == [measured(5)]


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


def test_a_dimension_that_changes_its_kind_is_stored_all_the_same(storage: str) -> None:
    trials = [measured(0, x=1), measured(1, x=0.5), measured(2, x="all"), measured(3, x=True)]
    for trial in trials:
        opened(storage).append(trial)
    assert opened(storage).trials() == trials
    rows = optuna_study(storage).trials
    assert rows[0].params == {"x": 1}
    assert [row.user_attrs["x"] for row in rows[1:]] == [0.5, "all", True]


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


# Journals: kills, damage, locks


def written(journal: Path, count: int) -> list[Trial]:
    store = opened(journal)
    trials = [measured(i) for i in range(count)]
    for trial in trials:
        store.append(trial)
    return trials


def test_a_record_torn_at_any_byte_costs_that_record_only(journal: Path, caplog: pytest.LogCaptureFixture) -> None:
    trials = written(journal, 3)
    whole = journal.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in (*range(last + 1, len(whole), 211), len(whole) - 2, len(whole) - 1):
        journal.write_bytes(whole[:end])
        assert opened(journal, create=False).trials() == trials[:2]
        assert journal.stat().st_size == end  # a reader changes nothing
        caplog.clear()
        opened(journal).append(trials[2])
        assert f"cut off {end - last} bytes" in caplog.text
        assert opened(journal).trials() == trials


@pytest.mark.parametrize("tail", [b"\0" * 64, b"\0" * 64 + b"\n", b'{"op_code": 4, "stu\n'])
def test_an_unwritten_block_at_the_end_is_cut_off(journal: Path, tail: bytes) -> None:
    trials = written(journal, 2)
    journal.write_bytes(journal.read_bytes() + tail)
    store = opened(journal)
    store.append(measured(2))
    assert opened(journal).trials() == [*trials, measured(2)]


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[1]", b"{", b'{"op_code": 77}', b"{}"])
def test_a_damaged_line_is_named(journal: Path, damage: bytes) -> None:
    written(journal, 3)
    lines = journal.read_bytes().split(b"\n")
    lines[4] = damage
    journal.write_bytes(b"\n".join(lines))
    with pytest.raises(StoreError, match=r"journal\.log, line 5 is damaged"):
        opened(journal)


def test_a_trial_is_on_disk_when_append_returns(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    really = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (really(file), synced.append(os.fstat(file).st_size)))
    store = opened(journal)
    for number in range(3):
        store.append(measured(number))
        assert synced[-1] == journal.stat().st_size


def test_a_full_disk_stops_the_search_and_the_next_try_goes_on(journal: Path) -> None:
    trials = written(journal, 2)
    store = opened(journal)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 100, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot store ask 2 in .*journal\.log: OSError: .*File too large"):
            store.append(measured(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert opened(journal).trials() == trials
    store.append(measured(2))
    assert opened(journal).trials() == [*trials, measured(2)]


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from test_store import measured, opened
store = opened(sys.argv[2])
for number in range(10**6):
    store.append(measured(number))
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_reported_and_leaves_no_lock(journal: Path) -> None:
    arguments = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(journal)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        reported = [int(writer.stdout.readline()) for _ in range(30)]
        with pytest.raises(StoreError, match="another process is writing"):
            opened(journal).set_note("fingerprint", "mine")
        writer.send_signal(signal.SIGKILL)
        reported += [int(line) for line in writer.stdout]
    store = opened(journal)
    trials = store.trials()
    assert trials == [measured(number) for number in range(len(trials))]
    assert len(reported) <= len(trials) <= len(reported) + 1
    store.append(measured(len(trials)))
    assert len(opened(journal).trials()) == len(trials) + 1


def test_a_file_system_without_locks_is_used_with_a_warning(
    journal: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("searchkit.journal.fcntl.flock", no_locks)
    opened(journal).append(measured(0))
    assert "has no locks" in caplog.text
    assert opened(journal).trials() == [measured(0)]


def test_a_journal_that_was_rewritten_or_removed_is_not_written_to(journal: Path) -> None:
    store = opened(journal)
    store.append(measured(0))
    whole = journal.read_bytes()
    journal.write_bytes(whole[: whole.index(b"\n") + 1])
    with pytest.raises(StoreError, match="shorter than what was read"):
        store.append(measured(1))
    journal.unlink()
    with pytest.raises(StoreError, match="No such file"):
        store.append(measured(1))
    assert not journal.exists()


def test_a_record_that_is_not_json_is_refused_and_leaves_the_journal_alone(journal: Path) -> None:
    store = opened(journal)
    before = journal.read_bytes()
    odd: Any = {"device": object()}
    with pytest.raises(StoreError, match=r"cannot store ask 0 .*not JSON serializable"):
        store.append(Trial(Ask(0, Candidate.of(heads=1)), Pruned("", 1), 1.0, odd))
    assert journal.read_bytes() == before
    store.append(measured(0))
    assert store.trials() == [measured(0)]


def test_every_line_of_a_journal_is_json(journal: Path) -> None:
    written(journal, 2)
    assert [json.loads(line)["op_code"] for line in journal.read_text().splitlines()] == [0, 3, 2, 4, 4]


# Places that cannot be used


@pytest.mark.parametrize("create", [True, False])
def test_a_path_that_cannot_be_a_journal_is_one_clear_line(tmp_path: Path, create: bool) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="IsADirectoryError"):
        opened(tmp_path, create=create)
    with pytest.raises(StoreError, match=r"file/journal.log: FileExistsError|there is no store") as caught:
        opened(tmp_path / "file" / "journal.log", create=create)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_clear_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"cannot open .*Permission denied"):
        opened(tmp_path / "journal.log")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://ann:s3cret@nowhere.invalid/db", "No module named|could not translate host"),
        ("postgresql://ann:s3cret/x@nowhere.invalid/db", "cannot open"),
        ("postgresql+nosuch://ann:s3cret@nowhere.invalid/db?password=s3cret", "nosuch"),
        ("nosuch://ann:s3cret@nowhere.invalid/db", "nosuch"),
        ("mysql://nowhere.invalid/db?user=ann&password=s3cret", "No module named"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////proc/nosuch/run.db", "cannot open"),
        ("://", "cannot open"),
    ],
)
def test_an_unusable_url_is_one_clear_line_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason) as caught:
        opened(url)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_importing_searchkit_imports_no_optuna() -> None:
    code = "import sys, searchkit; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
