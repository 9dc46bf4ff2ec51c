"""Places that cannot be used, and what is written of those that can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from searchkit.errors import StoreError
from searchkit.storage.address import StorageAddress, with_password
from tests.storage.samples import opened


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
        ("postgresql://ann:s3cret@nowhere.invalid/db", "failed to resolve host"),
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


def test_without_its_driver_a_database_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'searchkit\[postgresql\]'"):
        opened("postgresql://ann@127.0.0.1:1/db")


@pytest.mark.parametrize(
    ("storage", "kept"),
    [
        ("postgresql://ann:s3cret@h:5/db?sslmode=require", "postgresql://ann@h:5/db?sslmode=require"),
        ("postgresql://ann:s3cret/x?@h/db", "postgresql://ann@h/db"),
        ("postgresql://ann@h/db", "postgresql://ann@h/db"),
        ("postgresql://:s3cret@/db?host=/run", "postgresql://@/db?host=/run"),
        ("mysql://h/db?user=ann&password=s3cret&x=1", "mysql://h/db?user=ann&x=1"),
        ("mysql://h/db?password=s3cret", "mysql://h/db"),
        ("sqlite:////data/run.db?timeout=3", "sqlite:////data/run.db?timeout=3"),
        ("sqlite:///run.db", f"sqlite:///{Path.cwd()}/run.db"),
        ("runs/journal.log", f"{Path.cwd()}/runs/journal.log"),
    ],
)
def test_a_place_is_written_down_without_its_password(storage: str, kept: str) -> None:
    assert StorageAddress(storage).kept == kept


def test_a_password_with_a_bare_at_sign_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="more than one @") as caught:
        _ = StorageAddress("postgresql://ann:s3c@ret@h/db").kept
    assert "ret" not in str(caught.value)


def test_the_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHKIT_STORAGE", "postgresql://ann:s3cret@h/db")
    assert with_password("postgresql://ann@h/db") == "postgresql://ann:s3cret@h/db"
    assert with_password("postgresql://ann@other/db") == "postgresql://ann@other/db"


def test_importing_searchkit_imports_no_optuna() -> None:
    code = "import sys, searchkit; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
