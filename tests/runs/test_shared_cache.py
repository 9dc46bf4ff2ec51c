"""The cache beside a supernet under several writers, and files that two machines replace at once."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from searchkit._internal import files
from searchkit._internal.files import replace_whole
from searchkit.runs.cache import SupernetCache


def test_entries_that_several_studies_add_at_once_are_all_kept(tmp_path: Path) -> None:
    def slowly(data: object) -> list[int]:
        time.sleep(0.02)  # between reading and writing, where the others would read the same
        assert isinstance(data, list)
        return data

    cache = SupernetCache(tmp_path / "kept.json", slowly)
    adders = [
        threading.Thread(target=cache.update, args=(lambda known, own=number: [*(known or []), own],))
        for number in range(6)
    ]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join(timeout=60)
    assert sorted(json.loads(cache.path.read_text())) == [0, 1, 2, 3, 4, 5]
    assert [file.name for file in tmp_path.iterdir()] == ["kept.json"]


def test_nothing_is_written_where_nothing_is_added(tmp_path: Path) -> None:
    cache = SupernetCache(tmp_path / "kept.json", list)
    cache.update(lambda known: None)
    assert not cache.path.exists()


def test_machines_that_share_a_folder_and_a_process_number_replace_a_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed = tmp_path / "shared.json", os.fsync

    def other_machine_writes(handle: int) -> None:
        monkeypatch.setattr(files.os, "fsync", flushed)
        with monkeypatch.context() as there:
            there.setattr(socket, "gethostname", lambda: "other")
            replace_whole(path, b"theirs")
        flushed(handle)

    monkeypatch.setattr(files.os, "fsync", other_machine_writes)
    replace_whole(path, b"ours")
    assert path.read_bytes() == b"ours"
    assert [file.name for file in tmp_path.iterdir()] == ["shared.json"]
