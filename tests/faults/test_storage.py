"""Storages under fault, as `benchmarks/fault_storage.py` has it at full size."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from benchmarks import fault_storage
from searchkit.errors import StoreError
from searchkit.storage import sql
from searchkit.storage.store import Store
from tests.postgresql import Server
from tests.storage.samples import OBJECTIVES, measured, opened


def unhurt(row: fault_storage.Row) -> bool:
    return row["survived"] == row["tried"] and not (row["lost"] or row["duplicated"] or row["wrong"])


def test_a_journal_cut_at_any_byte_loses_the_torn_record_at_most(tmp_path: Path) -> None:
    row = fault_storage.cut(tmp_path, records=2, step=3)
    assert unhurt(row), row
    assert int(row["tried"]) > 500


def test_damage_inside_a_journal_is_named_and_never_a_wrong_value(tmp_path: Path) -> None:
    row = fault_storage.damaged(tmp_path, tries=200)
    assert unhurt(row), row


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    row = fault_storage.full(tmp_path, tries=4)
    assert unhurt(row), row


def test_a_read_only_folder_loses_nothing(tmp_path: Path) -> None:
    try:
        row = fault_storage.read_only(tmp_path, tries=4)
    except PermissionError as error:
        pytest.skip(str(error))
    assert unhurt(row), row


@pytest.fixture
def fragile(postgresql: Server) -> Server:
    """The server, which the test may kill."""
    return postgresql


def test_a_search_outlives_a_database_that_is_killed_and_restarted(fragile: Server) -> None:
    row = fault_storage.killed(fragile, tries=2, evaluations=30)
    assert unhurt(row), row


def test_a_database_that_stays_away_is_one_clear_line_and_the_search_goes_on_later(
    fragile: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sql, "PATIENCE_S", 0.5)
    url = fragile.new_database()
    store = opened(url)
    store.append(measured(0))
    fragile.stop()
    try:
        with pytest.raises(StoreError, match=r"cannot store ask 1 in postgresql://searchkit:\*\*\*@") as caught:
            store.append(measured(1))
    finally:
        fragile.start()
    assert "\n" not in str(caught.value)
    assert fragile.password not in str(caught.value) + caplog.text
    assert "is away" in caplog.text
    again = opened(url)
    assert again.trials() == [measured(0)]
    again.append(measured(1))
    assert again.trials() == [measured(0), measured(1)]


@pytest.mark.parametrize("committed", [True, False])
def test_an_answer_that_gets_lost_costs_no_trial_and_doubles_none(
    fragile: Server, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    store = opened(fragile.new_database())
    store.append(measured(0))
    really, calls = store._storage.create_new_trial, []

    def broken(*arguments: object) -> int:
        calls.append(arguments)
        if len(calls) == 1 and not committed:
            raise sql.AwayError
        row = really(*arguments)  # type: ignore[arg-type]
        if len(calls) == 1:
            raise sql.AwayError
        return row

    monkeypatch.setattr(store._storage, "create_new_trial", broken)
    store.append(measured(1))
    store.append(measured(2))
    assert store.trials() == [measured(0), measured(1), measured(2)]
    assert len(store._rows()) == 3


def test_a_database_that_never_answered_is_not_waited_for() -> None:
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"cannot open postgresql://ann@127\.0\.0\.1:1/db"):
        opened("postgresql://ann@127.0.0.1:1/db")
    assert time.monotonic() - begun < 5


def test_a_reader_that_holds_sqlite_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import sqlite3

    store = opened(f"sqlite:///{tmp_path}/run.db")
    store.append(measured(0))
    reader = sqlite3.connect(tmp_path / "run.db", check_same_thread=False, isolation_level=None)
    reader.execute("begin")
    reader.execute("select count(*) from trials").fetchall()
    timer = threading.Timer(1.0, lambda: reader.execute("rollback"))
    timer.start()
    store.append(measured(1))
    timer.join()
    reader.close()
    assert store.trials() == [measured(0), measured(1)]


def test_a_lock_that_stays_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    monkeypatch.setattr(sql, "PATIENCE_S", 0.2)
    monkeypatch.setattr(sql, "BUSY_S", 0.2)
    store = opened(f"sqlite:///{tmp_path}/run.db")
    writer = sqlite3.connect(tmp_path / "run.db", isolation_level=None)
    writer.execute("begin exclusive")
    with pytest.raises(StoreError, match=r"cannot (read|store ask 0 in) .*run\.db: .*database is locked"):
        store.append(measured(0))
    writer.close()
    store.append(measured(0))
    assert store.trials() == [measured(0)]


def test_a_study_is_opened_through_a_restart(fragile: Server) -> None:
    """Phases of a run open the storage again."""
    url = fragile.new_database()
    opened(url).append(measured(0))
    fragile.stop()
    threading.Timer(0.5, fragile.start).start()
    assert Store.open(url, "demo", OBJECTIVES).trials() == [measured(0)]
