"""A mirrored run: what is there comes back, one process at a time, and what was never complete does not count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from searchkit.errors import StoreError, StudyError
from searchkit.storage import remote as mirror
from searchkit.storage.remote import Lease, Mirror, Part, Remote, copied, mirrored
from tests.studies import SMALL, small_study

RUN, SUPERNET = Part.run("small"), Part.supernet("f00d")
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield "memory://runs" if request.param == "memory" else f"file://{tmp_path}/there"
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def write(folder: Path, **files: str) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_pushed_files_are_pulled_and_removed_files_are_removed_there(url: str, tmp_path: Path) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    write(here, small__journal="1\n", small__study="{}", supernets__f00d__model="weights", supernets__another="x")
    one = Mirror(Remote(url), here, (SUPERNET, RUN))
    one.pull()  # nothing is there yet
    one.push()
    write(here, small__journal="1\n2\n", supernets__f00d_partial__step="3")
    (here / "small" / "study").unlink()
    one.push()
    Mirror(Remote(url), other, (SUPERNET, RUN)).pull()
    assert contents(other) == {
        "small/journal": "1\n2\n",
        "supernets/f00d/model": "weights",
        "supernets/f00d_partial/step": "3",
    }
    assert Remote(url).read("small/study") is None


def test_only_what_changed_travels_again(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "here", small__journal="1\n", small__study="{}")
    Mirror(Remote(url), tmp_path / "here", (RUN,)).push()
    again = Mirror(Remote(url), tmp_path / "again", (RUN,))
    again.pull()
    write(tmp_path / "again", small__journal="1\n2\n")
    sent: list[str] = []
    real = Remote.write
    monkeypatch.setattr(Remote, "write", lambda self, name, how: (sent.append(name), real(self, name, how)))
    again.push()
    assert sent == ["small/journal"]  # not even the list, which is the same


def test_locks_and_files_that_are_being_written_stay_here(url: str, tmp_path: Path) -> None:
    write(tmp_path, **{"small__.lock": "", "small__.front.csv.17.partial": "half", "small__front.csv": "whole"})
    Mirror(Remote(url), tmp_path, (RUN,)).push()
    assert RUN.names(Remote(url)) == ["small/front.csv"]


def test_a_file_that_was_never_listed_does_not_count(url: str, tmp_path: Path) -> None:
    """A job that is lost between a file and the list leaves a supernet whose weights may be missing."""
    remote = Remote(url)
    remote.write("supernets/f00d/searchkit.json", lambda file: file.write(b"{}"))
    Mirror(remote, tmp_path / "here", (SUPERNET, RUN)).pull()
    assert contents(tmp_path / "here") == {}


def test_a_supernet_with_a_missing_file_is_made_again_and_a_run_with_one_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    write(tmp_path / "here", supernets__f00d__model="weights", supernets__f00d__config="{}", small__journal="1\n")
    remote = Remote(url)
    Mirror(remote, tmp_path / "here", (SUPERNET, RUN)).push()
    remote.remove("supernets/f00d/model")
    Mirror(remote, tmp_path / "other", (SUPERNET, RUN)).pull()
    assert contents(tmp_path / "other") == {"small/journal": "1\n"}
    remote.remove("small/journal")
    with pytest.raises(StoreError, match=r"small/mirror\.json names a file that is not there: .*journal"):
        copied(remote, RUN, tmp_path / "third")


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (b"{", "is damaged"),
        (b'{"files": 3}', "is damaged"),
        (b'{"files": ["small/../../outside"]}', "not of this run"),
        (b'{"files": ["/etc/passwd"]}', "not of this run"),
        (b'{"files": [["small/x"]]}', "not of this run"),
    ],
)
def test_a_damaged_or_hostile_list_is_refused(listing: bytes, message: str, url: str, tmp_path: Path) -> None:
    Remote(url).write(RUN.listing, lambda file: file.write(listing))
    with pytest.raises(StoreError, match=message):
        copied(Remote(url), RUN, tmp_path / "here")
    assert contents(tmp_path / "here") == {}


def test_a_second_process_is_refused_and_a_lost_one_is_not_waited_for_long(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "DEAD_AFTER_S", 0.5)
    first, second = Lease(Remote(url), "small"), Lease(Remote(url), "small")
    first.take()
    stop = threading.Event()

    def beats() -> None:
        while not stop.wait(0.02):
            first.renewed()

    beating = threading.Thread(target=beats)
    beating.start()
    with pytest.raises(StoreError, match="another process is running this study there"):
        second.take()
    stop.set()
    beating.join()
    second.take()  # the first writes no more
    assert second.renewed()
    assert not first.renewed()


def test_a_process_that_was_away_for_long_stops_and_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "DEAD_AFTER_S", 0.05)
    monkeypatch.setattr(mirror, "BEAT_EVERY_S", 0.3)
    url = f"file://{tmp_path}/there"
    with pytest.raises(StoreError, match="has taken over"), mirrored(url, "small", "f00d") as here:  # noqa: PT012
        write(here, small__journal="mine\n")
        Lease(Remote(url), "small").take()
        time.sleep(20)  # ended by the interrupt
    assert Remote(url).read("small/journal") is None


def test_a_run_that_cannot_be_pushed_is_kept_and_said_to_be(tmp_path: Path) -> None:
    with (  # noqa: PT012
        pytest.raises(StoreError, match="what is done since is kept in") as told,
        mirrored(f"file://{tmp_path}/there", "small", "f00d") as here,
    ):
        write(here, small__journal="mine\n")
        (tmp_path / "there" / "small" / "journal.partial").mkdir()  # in the way
    assert "mine" in (Path(str(told.value).rpartition(" ")[2]) / "small" / "journal").read_text()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere://bucket/runs", "no kind of place that fsspec knows"),
        ("s3://key:secret@bucket/runs", "holds a password"),
        ("zip://x::s3://bucket", "expected a folder or a URL"),
        ("s3://", "expected a folder or a URL"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(url: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        Remote(url)
    assert "secret@" not in str(caught.value)


def test_a_kind_of_url_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    fsspec.registry._registry.pop("s3", None) if hasattr(fsspec.registry, "_registry") else None
    with pytest.raises(StudyError, match=r"Install s3fs to access S3 \(pip install s3fs\)"):
        Remote("s3://bucket/runs")


QUICK = (
    "import searchkit.storage.remote as m; m.PUSH_EVERY_S, m.DEAD_AFTER_S = 0.2, 0.5; "
    "from searchkit.cli.app import main; main()"
)


def test_a_run_at_a_url_goes_on_in_another_place_when_its_process_is_lost(tmp_path: Path) -> None:
    small_study(tmp_path, SMALL)
    command = [
        sys.executable,
        "-c",
        QUICK,
        "run",
        "small_study.py",
        "--threads",
        "1",
        "--runs",
        f"file://{tmp_path}/there",
    ]
    environment = os.environ | {"TMPDIR": str(tmp_path / "work"), "PYTHONPATH": str(ROOT)}
    (tmp_path / "work").mkdir()
    there = tmp_path / "there" / "small" / "journal.log"
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if there.exists() and there.read_bytes().count(b'"searchkit"') > 8:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = there.read_bytes()
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert there.read_bytes().startswith(before[: before.rindex(b"\n")])
    trials = pd.read_parquet(tmp_path / "there" / "small" / "trials.parquet")
    assert len(trials) == trials["key"].nunique() == 24
    assert (tmp_path / "there" / "small" / "pareto.png").exists()
    assert list((tmp_path / "there" / "supernets").glob("*/model.safetensors"))
    assert len(list((tmp_path / "work").glob("searchkit-*"))) == 1  # the lost one's; the other tidied up
    assert f"file://{tmp_path}/there/small" in again.stdout
