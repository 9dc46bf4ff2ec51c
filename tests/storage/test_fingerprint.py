"""A storage tells studies of one name apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from searchkit.errors import StoreError
from searchkit.records import Ask, Candidate
from searchkit.storage.store import Store
from tests.storage.samples import OBJECTIVES, failed, measured


@pytest.mark.parametrize("address", ["{}/journal.log", "sqlite:///{}/run.db"])
def test_another_study_of_the_same_name_is_refused_and_an_old_store_adopts(tmp_path: Path, address: str) -> None:
    place = address.format(tmp_path)
    Store.open(place, "mine", OBJECTIVES).append(measured(0))
    assert Store.open(place, "mine", OBJECTIVES, fingerprint="a").fingerprint == "a"
    with pytest.raises(StoreError, match=r"holds another study of the name 'mine' \(fingerprint a, this one has b\)"):
        Store.open(place, "mine", OBJECTIVES, fingerprint="b")
    assert len(Store.open(place, "mine", OBJECTIVES, fingerprint="a").trials()) == 1


@pytest.mark.parametrize("address", ["{}/journal.log", "sqlite:///{}/run.db"])
def test_mended_code_starts_anew_only_where_nothing_was_measured(tmp_path: Path, address: str) -> None:
    place = address.format(tmp_path)
    Store.open(place, "mine", OBJECTIVES, fingerprint="a").append(failed(0))
    assert Store.open(place, "mine", OBJECTIVES, fingerprint="b", mended=True).trials() == []
    Store.open(place, "mine", OBJECTIVES, fingerprint="b").append(measured(1))
    with pytest.raises(StoreError, match="holds another study"):
        Store.open(place, "mine", OBJECTIVES, fingerprint="c", mended=True)


@pytest.mark.parametrize("address", ["{}/journal.log", "sqlite:///{}/run.db"])
def test_trials_from_before_keys_were_lettered_are_read(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = address.format(tmp_path)
    odd = next(n for n in range(99999) if (one := Candidate.of(number=n)).key != one.former_key)
    trial = replace(measured(0), ask=Ask(0, Candidate.of(number=odd)))
    with monkeypatch.context() as patched:
        patched.setattr(Candidate, "key", Candidate.former_key)
        Store.open(place, "mine", OBJECTIVES).append(replace(trial, ask=Ask(0, Candidate.of(number=odd))))
    assert Store.open(place, "mine", OBJECTIVES).trials() == [trial]
    with pytest.raises(StoreError, match=f"already holds candidate {trial.key}"):
        Store.open(place, "mine", OBJECTIVES).append(replace(trial, ask=Ask(1, trial.ask.candidate)))
