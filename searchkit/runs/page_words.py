"""Words for the page of a run: a few report examples under the members of the front, kept in `words.json`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from searchkit._internal.files import replace_whole
from searchkit._internal.progress import step
from searchkit.errors import SearchkitError, StoreError
from searchkit.records import Candidate
from searchkit.report.console import evenly
from searchkit.report.page.words import Example
from searchkit.report.results import Results
from searchkit.report.words import WordsOf
from searchkit.runs.folder import Folder
from searchkit.runs.session import Session

if TYPE_CHECKING:
    from searchkit.runs.words import Reader

log = logging.getLogger(__name__)

EXAMPLES: Final = 3
MEMBERS: Final = 24  # evenly picked where the front has more


def keep_words(session: Session, results: Results) -> None:
    """Keep which words of some examples survive under each member; nothing for tasks whose words cannot be shown."""
    members = {trial.key: trial.ask.candidate for trial in evenly(results.members, MEMBERS)}
    if not members or members.keys() <= _known(session.folder, results):
        return
    from searchkit.runs.words import Reader

    try:
        examples = _examples(Reader(session), members)
    except SearchkitError as error:
        log.info("the page shows no words: %s", error)
        return
    content = {"study": results.study.get("fingerprint"), "examples": [example.to_json() for example in examples]}
    replace_whole(_file(session.folder), (json.dumps(content) + "\n").encode())


def kept_words(folder: Folder, results: Results) -> list[Example]:
    """Examples that a run kept, none of another study; StoreError for a damaged file."""
    path = _file(folder)
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text())
        same = content["study"] == results.study.get("fingerprint")
        return [Example.from_json(example) for example in content["examples"]] if same else []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path}: not written by searchkit, or damaged: {error or type(error).__name__}") from error


def _file(folder: Folder) -> Path:
    return folder.path / "words.json"


def _known(folder: Folder, results: Results) -> set[str]:
    """Members whose words are kept."""
    try:
        return {key for example in kept_words(folder, results)[:1] for key in example.dropped}
    except StoreError as error:
        log.warning("%s: they are looked at again", error)
        return set()


def _examples(reader: Reader, members: Mapping[str, Candidate]) -> list[Example]:
    from searchkit.runs.words import chosen_rows, read

    rows = chosen_rows(reader.report, (), EXAMPLES)
    table = reader.report.iloc[rows].reset_index(drop=True)
    under: dict[str, list[WordsOf]] = {}
    for number, (key, candidate) in enumerate(members.items(), start=1):
        step(f"words that survive: member {number} of {len(members)}")
        under[key] = read(reader, table, candidate, rows)
    by_example = zip(*under.values(), strict=True)
    return [_example(dict(zip(under, shown, strict=True))) for shown in by_example]


def _example(under: Mapping[str, WordsOf]) -> Example:
    """One example under all members, whose words are the same."""
    first = next(iter(under.values()))
    return Example(
        tuple(word.text for word in first.words),
        first.layers,
        {key: _layers(shown) for key, shown in under.items()},
        ": label ".join(part for part in (first.name, first.label) if part),
        tuple(bool(word.evidence) for word in first.words) if first.has_evidence else (),
        {key: shown.predicted for key, shown in under.items() if shown.predicted},
    )


def _layers(shown: WordsOf) -> tuple[int, ...]:
    return tuple(shown.layers + 1 if word.layer is None else word.layer for word in shown.words)
