"""Temporary folders: gone with their owner, and those of a killed process with the next one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from searchkit._internal.temporary import TemporaryFolder

OWNER = (
    "from searchkit._internal.temporary import TemporaryFolder as Folder; "
    "kept = Folder('tests'); print(kept.path, flush=True); {}"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # read anew
    return tmp_path


def test_a_folder_lives_as_long_as_its_owner(here: Path) -> None:
    first, second = TemporaryFolder("tests"), TemporaryFolder("tests")
    assert {path.parent for path in here.glob("*/lock")} == {first.path, second.path}
    del first
    assert [path.parent for path in here.glob("*/lock")] == [second.path]
    other = subprocess.run([sys.executable, "-c", OWNER.format("pass")], capture_output=True, text=True, check=True)
    assert not Path(other.stdout.strip()).exists()
    assert second.path.is_dir()  # the other process made one, and let this one be


def test_what_a_killed_process_leaves_is_removed_with_the_next_folder(here: Path) -> None:
    waiting = OWNER.format("import time; time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", waiting], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        left = Path(owner.stdout.readline().strip())
        assert TemporaryFolder("tests").path != left
        assert left.is_dir()
        owner.kill()
    assert left.is_dir()
    assert TemporaryFolder("others").path.parent == here
    assert left.is_dir()
    TemporaryFolder("tests")
    assert not left.exists()


def test_a_link_in_the_place_of_a_lock_is_not_followed(here: Path) -> None:
    target = here / "mine"
    target.touch()
    (here / "searchkit-tests-x").mkdir()
    (here / "searchkit-tests-x" / "lock").symlink_to(target)
    TemporaryFolder("tests")
    assert (here / "searchkit-tests-x").is_dir()
