"""The contract of storages: every trial comes back equal, once, and by ask number; a second writer is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from searchkit.errors import StoreError
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Pruned, Trial
from searchkit.storage.store import Store


def unmeasurable(subject: Any) -> Estimate:
    raise AssertionError("a store measures nothing")


ACCURACY = Objective("accuracy", "fraction", "higher", unmeasurable)
MACS = Objective("macs", "of unreduced", "lower", unmeasurable)
OBJECTIVES = (ACCURACY, MACS)


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


class StorageContract:
    """Tests of the storage that `new` gives: a file or a database URL, which holds nothing yet."""

    def new(self, folder: Path) -> str:
        raise NotImplementedError("override: return a file or a database URL that holds nothing yet")

    @pytest.fixture
    def storage(self, tmp_path: Path) -> str:
        return self.new(tmp_path)

    def test_trials_come_back_equal_and_by_ask_number(self, storage: str) -> None:
        trials = [
            measured(7),
            failed(3),
            pruned(11),
            measured(0, lengths=(1, 0.5), scorer="random", merge=None, on=True),
        ]
        store = opened(storage)
        for trial in trials:
            store.append(trial)
        expected = sorted(trials, key=lambda trial: trial.ask.number)
        assert store.trials() == expected
        assert opened(storage, create=False).trials() == expected

    def test_a_search_goes_on_where_another_store_left_it(self, storage: str) -> None:
        opened(storage).append(measured(0))
        opened(storage).append(measured(1))
        assert opened(storage).trials() == [measured(0), measured(1)]

    def test_an_ask_number_is_stored_once(self, storage: str) -> None:
        opened(storage).append(measured(4))
        store = opened(storage)
        with pytest.raises(StoreError, match=r"already holds ask 4, candidate \w{16}; now came \w{16}"):
            store.append(measured(4, heads=9))
        assert store.trials() == [measured(4)]

    def test_a_candidate_is_stored_once(self, storage: str) -> None:
        store = opened(storage)
        store.append(measured(4, heads=9))
        with pytest.raises(StoreError, match=r"already holds candidate \w{16}, ask 4; now came ask 5"):
            store.append(measured(5, heads=9))
        assert store.trials() == [measured(4, heads=9)]

    def test_a_second_writer_is_noticed(self, storage: str) -> None:
        first, second = opened(storage), opened(storage)
        first.append(measured(0))
        second.append(measured(1))
        with pytest.raises(StoreError, match="something else is appending"):
            first.append(measured(2))
        second.append(measured(2))
        assert second.trials() == [measured(0), measured(1), measured(2)]  # who came second wrote nothing

    def test_a_reader_follows_a_writer(self, storage: str) -> None:
        writer = opened(storage)
        reader = opened(storage, create=False)
        writer.append(measured(0))
        assert reader.trials() == [measured(0)]
        writer.append(measured(1))
        assert reader.trials() == [measured(0), measured(1)]

    def test_notes_are_kept_and_replaced(self, storage: str) -> None:
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

    def test_other_objectives_are_refused_by_name(self, storage: str) -> None:
        opened(storage)
        latency = Objective("latency", "ms", "lower", unmeasurable)
        with pytest.raises(
            StoreError, match=r"made for accuracy \(fraction, higher .*macs .*, not for accuracy .*latency"
        ):
            Store.open(storage, "demo", (ACCURACY, latency))
        upside_down = Objective("macs", "of unreduced", "higher", unmeasurable)
        with pytest.raises(StoreError, match=r"not for .*macs.*higher"):
            Store.open(storage, "demo", (ACCURACY, upside_down))

    def test_several_studies_share_a_storage(self, storage: str) -> None:
        other = Store.open(storage, "other", (MACS,))
        store = opened(storage)
        other.append(measured(0))
        store.append(measured(5))
        other.append(measured(1))
        assert other.trials() == [measured(0), measured(1)]
        assert store.trials() == [measured(5)]

    def test_a_dimension_that_changes_its_kind_is_stored_all_the_same(self, storage: str) -> None:
        trials = [measured(0, x=1), measured(1, x=0.5), measured(2, x="all"), measured(3, x=True)]
        for trial in trials:
            opened(storage).append(trial)
        assert opened(storage).trials() == trials
