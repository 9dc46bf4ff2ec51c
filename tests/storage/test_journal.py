"""What only journals have to stand: kills, damage, locks."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from searchkit.errors import StoreError
from searchkit.records import Ask, Candidate, Pruned, Trial
from tests.storage.samples import measured, opened, optuna_study


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


@pytest.mark.parametrize("tail", [b"\0" * 64, b"\0" * 64 + b"\n", b'{"crc":"12', b'{"op_code":4,"stu\0\0\n'])
def test_an_unwritten_block_at_the_end_is_cut_off(journal: Path, tail: bytes) -> None:
    trials = written(journal, 2)
    journal.write_bytes(journal.read_bytes() + tail)
    store = opened(journal)
    store.append(measured(2))
    assert opened(journal).trials() == [*trials, measured(2)]


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[1]", b"{", b'{"op_code":77}', b"{}", b'{"crc":"0'])
def test_a_damaged_line_is_named(journal: Path, damage: bytes) -> None:
    written(journal, 3)
    lines = journal.read_bytes().split(b"\n")
    lines[4] = damage
    journal.write_bytes(b"\n".join(lines))
    with pytest.raises(StoreError, match=r"journal\.log, line 5 is damaged"):
        opened(journal)


@pytest.mark.parametrize("old", [True, False], ids=["without checksums", "with"])
def test_a_changed_digit_is_noticed(journal: Path, old: bool) -> None:
    """Without checksums, as journals were written before, the record has to agree with what Optuna shows of it."""
    written(journal, 3)
    if old:
        journal.write_bytes(re.sub(rb'"crc":"\w{8}",', b"", journal.read_bytes()))
        assert len(opened(journal).trials()) == 3
    whole = journal.read_bytes()
    for place in (whole.index(b'"estimates":{"accuracy":{"value":0.5') + 35, whole.rindex(b'"heads":2,') + 8):
        journal.write_bytes(whole[:place] + b"7" + whole[place + 1 :])
        with pytest.raises(StoreError, match=r"line \d is damaged|trial \d .* is damaged"):
            opened(journal).trials()


def test_a_lost_line_end_of_the_last_record_is_damage_and_not_torn(journal: Path) -> None:
    written(journal, 3)
    whole = journal.read_bytes()
    for junk in (b"x", b"\0"):
        journal.write_bytes(whole[:-1] + junk)
        with pytest.raises(StoreError, match="line 6 is damaged"):
            opened(journal)
    place = whole.rindex(b"\n", 0, -1)
    journal.write_bytes(whole[:place] + b"\0" + whole[place + 1 :])  # two records on one line
    with pytest.raises(StoreError, match="line 5 is damaged"):
        opened(journal)


def test_optuna_may_write_between_our_lines(journal: Path) -> None:
    trials = written(journal, 2)
    optuna_study(str(journal)).set_user_attr("comment", "from the dashboard")
    store = opened(journal)
    store.append(measured(2))
    assert opened(journal).trials() == [*trials, measured(2)]
    assert opened(journal).note("comment") == "from the dashboard"


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
from tests.storage.samples import measured, opened, optuna_study
store = opened(sys.argv[2])
for number in range(10**6):
    store.append(measured(number))
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_reported_and_leaves_no_lock(journal: Path) -> None:
    arguments = [sys.executable, "-c", WRITER, str(Path(__file__).parents[2]), str(journal)]
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

    monkeypatch.setattr("searchkit._internal.files.fcntl.flock", no_locks)
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
