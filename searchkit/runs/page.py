"""Page of one or several runs, `report.html`: gathered from their folders, and written; last of a run's files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from searchkit._internal.files import replace_whole
from searchkit.errors import SearchkitError
from searchkit.report.results import Results
from searchkit.runs.folder import PAGE, Folder
from searchkit.runs.page_words import kept_words
from searchkit.runs.pick import in_setting
from searchkit.runs.results import write

if TYPE_CHECKING:
    from searchkit.evaluate.layers import LayerCosts
    from searchkit.report.page import Example, Shown

log = logging.getLogger(__name__)


def write_report(results: Results, folder: Folder) -> None:
    """Write everything that a finished run leaves: tables, summary, text, figures, page."""
    write(results, folder)
    write_page([(folder, results)], folder.path / PAGE)


def write_page(runs: Sequence[tuple[Folder, Results]], to: Path) -> None:
    """Write one page of the runs; StoreError if unwritable."""
    from searchkit.report.page import page

    replace_whole(to, page([shown(folder, results) for folder, results in runs]).encode())


def shown(folder: Folder, results: Results) -> Shown:
    """What a page shows of a run. What cannot be read beside its results is left out, with a warning."""
    from searchkit.evaluate.predictions import kept_layers
    from searchkit.report.page import Shown

    settings: dict[str, Results] = {}
    layers: Mapping[str, LayerCosts] = {}
    words: Sequence[Example] = ()
    names = (file.stem for file in (folder.path / "measured").glob("*.json"))
    for name in sorted(filter(str.isalnum, names)):
        with _left_out(f"setting {name}"):
            settings[name] = in_setting(folder, results, name)
    with _left_out("the work of layers"):
        layers = kept_layers(folder.predictions, str(results.study.get("fingerprint")))
    with _left_out("words"):
        words = kept_words(folder, results)
    return Shown(results, str(folder.path), settings, layers, words)


@contextmanager
def _left_out(what: str) -> Iterator[None]:
    """Log what cannot be read, and go on."""
    try:
        yield
    except SearchkitError as error:
        log.warning("%s: not on the page: %s", what, error)
