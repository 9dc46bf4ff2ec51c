"""The page of a run: written with it, with what its folder holds beside the results."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import searchkit
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.page import shown
from searchkit.runs.page_words import kept_words
from searchkit.runs.phases import execute
from searchkit.runs.study_file import load
from tests.studies import small_study
from tests.supernets import Supernets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Iterator[Folder]:
    home, threads = tmp_path_factory.mktemp("page"), torch.get_num_threads()
    with_trained(home / "runs", load(small_study(home), {}).study)
    run(home)
    yield Folder(home / "runs" / "small")
    torch.set_num_threads(threads)


def run(home: Path) -> None:
    execute(load(home / "small_study.py", {"evaluations": "8"}), Conditions(runs=home / "runs", threads=1))


def test_the_page_of_a_run_shows_layers_and_words_of_every_member(folder: Folder) -> None:
    opened = searchkit.open(folder.path)
    keys = set(opened.front["key"])
    page = shown(folder, opened.results)
    assert keys < set(page.layers)
    assert len(page.words) == 3
    for example in page.words:
        assert set(example.dropped) == set(example.predicted) == keys
        assert example.headline.startswith("example ")
    assert len(re.findall('<tr [^>]*class="member"', (folder.path / "report.html").read_text())) == len(keys)


def test_kept_words_are_those_that_the_command_shows(folder: Folder) -> None:
    opened = searchkit.open(folder.path)
    kept = kept_words(folder, opened.results)
    for key in opened.front["key"]:
        for own, other in zip(kept, opened.words(key=key).examples, strict=True):
            assert own.words == tuple(word.text for word in other.words)
            assert own.dropped[key] == tuple(4 if word.layer is None else word.layer for word in other.words)
            assert own.predicted[key] == other.predicted
            assert own.evidence == tuple(bool(word.evidence) for word in other.words)


def test_damaged_files_are_left_out_with_a_warning_and_made_again(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    results, words = searchkit.open(folder.path).results, folder.path / "words.json"
    before, predictions = words.read_bytes(), folder.predictions.read_bytes()
    damaged = json.loads(before)
    damaged["examples"][0]["words"].pop()
    setting = folder.path / "measured" / "ab12.json"
    setting.parent.mkdir()
    for file, content in ((words, json.dumps(damaged).encode()), (folder.predictions, b"PAR1"), (setting, b"{}")):
        file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        page = shown(folder, results)
    assert (dict(page.layers), list(page.words), dict(page.settings)) == ({}, [], {})
    assert len([line for line in caplog.messages if "not on the page" in line]) == 3
    setting.unlink()
    run(folder.path.parent.parent)
    assert words.read_bytes() == before
    folder.predictions.write_bytes(predictions)


def test_words_of_another_study_are_not_shown(folder: Folder) -> None:
    results, words = searchkit.open(folder.path).results, folder.path / "words.json"
    before = words.read_text()
    words.write_text(json.dumps(json.loads(before) | {"study": "another"}))
    assert kept_words(folder, results) == []
    words.write_text(before)


def test_a_fault_while_words_are_looked_at_costs_no_table(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    tables = [folder.path / name for name in ("front.csv", "trials.parquet", "summary.json")]
    for table in tables:
        table.unlink()
    monkeypatch.setattr("searchkit.runs.phases.keep_words", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(folder.path.parent.parent)
    assert all(table.is_file() for table in tables)
