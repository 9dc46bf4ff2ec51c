"""Folder of a run, `runs/<study>/`: its files, its lock, and the record of its study."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Final

from searchkit._internal.files import lock, replace_whole
from searchkit.errors import StoreError, StudyError
from searchkit.objective import Objective
from searchkit.records import Candidate

log = logging.getLogger(__name__)

RECORD: Final[dict[str, type | UnionType]] = {  # fields of study.json
    "description": dict,
    "fingerprint": str,
    "file": str | None,  # None: the study was made in Python
    "parameters": dict,
    "objectives": list,
    "front_objectives": list,
    "storage": str | None,
    "evaluations": int | None,
}
PAGE: Final = "report.html"
IDENTIFIED: Final = "code_identified"  # true: the description holds the identity of the user's code


@dataclass(frozen=True)
class Folder:
    """Paths of the files in `runs/<study>/`."""

    path: Path

    @property
    def study(self) -> Path:
        return self.path / "study.json"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def journal(self) -> Path:
        return self.path / "journal.log"

    @property
    def calibration(self) -> Path:
        """Path of the calibration tables of modelled objectives."""
        return self.path / "calibration.json"

    @property
    def predictions(self) -> Path:
        """Path of what the front and the unreduced model predict on the report split."""
        return self.path / "predictions.parquet"

    def seconds(self, phase: str) -> Path:
        """Path of the file with a phase's seconds."""
        return self.path / f".{phase}_seconds"

    def read(self) -> dict[str, Any]:
        """Read the record of the study that was run here; StudyError where there is none."""
        try:
            data = json.loads(self.study.read_text())
        except FileNotFoundError:
            raise StudyError(f"{self.path}: not a run folder: it has no study.json") from None
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{self.study}: cannot be read: {error}") from error
        if not isinstance(data, dict):
            raise StoreError(f"{self.study}: not written by searchkit")
        for name, kind in RECORD.items():
            if not isinstance(data.get(name), kind):
                raise StoreError(f"{self.study}: not written by searchkit: {name!r} is {data.get(name)!r}")
        if not all(
            isinstance(text, str)
            for text in (data["description"].get("name"), data.get("cwd", ""), *data["parameters"].values())
        ):
            raise StoreError(f"{self.study}: not written by searchkit: name and parameters are texts, and cwd is")
        words, numerics = data.get("options", []), data.get("numerics", {})  # absent in runs from before
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise StoreError(f"{self.study}: not written by searchkit: the options are {words!r}")
        if not isinstance(numerics, dict):
            raise StoreError(f"{self.study}: not written by searchkit: the numerics are {numerics!r}")
        engine = data["description"].get("engine", {})
        if not isinstance(engine, dict) or not isinstance(engine.get("population", 1), int):
            raise StoreError(f"{self.study}: not written by searchkit: the engine is {engine!r}")
        return data

    @contextmanager
    def claimed(
        self, record: Mapping[str, Any], prepare: Callable[[], object] = lambda: None, mended: bool = False
    ) -> Iterator[None]:
        """Lock the folder for this process and the study of `record`, and log to it; StudyError if another ran here.

        The record of an earlier run is replaced after `prepare`, which may refuse. mended: other code of the user's own
        is no other study.
        """
        with self.held():
            self._refuse_another(record["description"], mended)
            unknown = code_unknown(self, record["description"]) if self.study.exists() else None
            prepare()
            replace_whole(self.study, json.dumps({**record, IDENTIFIED: True}, indent=2).encode())
            with _logging_to(self.log):
                if unknown:
                    log.warning("%s", unknown)
                yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder for this process; StoreError where it cannot be written or another process holds it."""
        for file in (self.path / ".lock", self.log, self.journal):  # what is appended to; all else is replaced whole
            if file.is_symlink():
                raise StoreError(f"{file} is a link to {file.readlink()}, where no run writes; remove the link")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = (self.path / ".lock").open("a")
        except OSError as error:
            raise StoreError(f"{self.path}: cannot write there: {error.strerror}") from error
        with held:
            lock(held.fileno(), self.path, f"{self.path}: another process is running this study")
            try:
                yield
            finally:
                if not self.study.exists():
                    self._leave()

    def _leave(self) -> None:
        """Remove the lock and an empty journal from a folder in which nothing has begun, and the folder."""
        with suppress(OSError):
            files = list(self.path.iterdir())
            if {file.name for file in files} <= {".lock", self.journal.name} and not any(
                file.stat().st_size for file in files
            ):
                for file in files:
                    file.unlink()
                self.path.rmdir()

    def _refuse_another(self, description: Mapping[str, Any], mended: bool) -> None:
        if not self.study.exists():
            return
        before = self.read()
        if not same_study(before, description) and not (mended and only_code_differs(before, description)):
            code = "values of both would be mixed: " if only_code_differs(before, description) else ""
            raise StudyError(
                f"{self.path} holds a run of another study (different: {changes(before, description)}); "
                f"{code}rename the study or choose another folder with --runs"
            )


def same_study(record: Mapping[str, Any], description: Mapping[str, Any]) -> bool:
    """Return whether a run's record is of the described study; old records without identity of code match any code."""
    before = record["description"]
    return bool(before == description or (not record.get(IDENTIFIED) and before == without_code(description)))


def only_code_differs(record: Mapping[str, Any], description: Mapping[str, Any]) -> bool:
    """Return whether nothing but code of the user's own has changed since the record."""
    return bool(without_code(record["description"]) == without_code(description))


def code_unknown(folder: Folder, description: Mapping[str, Any]) -> str | None:
    """Sentence where the study has code of the user's own, and the folder's run is from before code was kept."""
    owners = {name for part in description for name in _codes(description[part], part)}
    if folder.read().get(IDENTIFIED) or not owners:
        return None
    return (
        f"{folder.path} was begun before the user's own code was kept with a run: whether that of "
        f"{', '.join(sorted(owners))} is still the same is not known"
    )


def changes(record: Mapping[str, Any], description: Mapping[str, Any]) -> str:
    """Differences to the study of a record; where data or model differ, the folder of its relative paths too."""
    changed, current_folder = ", ".join(_differences(record["description"], description)), str(Path.cwd())
    home = record.get("cwd", current_folder)
    paths_matter = any(record["description"].get(part) != description.get(part) for part in ("task", "supernet"))
    return f"{changed}; relative paths were those of {home}" if paths_matter and home != current_folder else changed


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The parts of a study that have changed: `space`, or `objectives: the code of cost`."""
    for name in sorted(now):
        old, new = before.get(name), now[name]
        if old == new:
            continue
        changed = sorted(_codes(new, name).items() ^ _codes(old, name).items())
        if changed and without_code(old) == without_code(new):
            yield f"{name}: the code of {', '.join(dict.fromkeys(owner for owner, _ in changed))}"
        elif isinstance(old, Mapping) and [part for part in new if old.get(part) != new[part]] in (["data"], ["model"]):
            yield f"{name}: its {'data' if 'data' in new else 'model'}"
        else:
            yield name


def without_code(description: Any) -> Any:
    """Description without the identities of the user's code."""
    if isinstance(description, Mapping):
        return {name: without_code(value) for name, value in description.items() if name != "code"}
    return [without_code(value) for value in description] if isinstance(description, list) else description


def _codes(description: Any, owner: str) -> dict[str, Any]:
    """Owner (an objective, a recipe, else the part of the study) -> identity of its code."""
    if isinstance(description, list):
        parts = [_codes(value, owner) for value in description]
    elif isinstance(description, Mapping):
        named = description.get("name") or _name_of(description.get("objective"))
        named = "the recipe" if isinstance(description.get("recipe"), str) else named  # with those that it starts from
        owner = str(named) if isinstance(named, str) else owner
        parts = [_codes(value, owner) for value in description.values()]
        parts += [{owner: description["code"]}] if "code" in description else []
    else:
        parts = []
    return {name: code for part in parts for name, code in part.items()}


def _name_of(objective: Any) -> Any:
    """The name of a constraint's objective."""
    return objective.get("name") if isinstance(objective, Mapping) else None


def stored_objectives(record: Mapping[str, Any]) -> tuple[tuple[Objective, ...], tuple[Objective, ...]]:
    """Objectives of a run folder's record, to read trials by: searched ones, and those of the front only."""
    try:
        searched, front_only = (
            tuple(map(Objective.described, record[kind])) for kind in ("objectives", "front_objectives")
        )
    except (KeyError, TypeError, ValueError, StudyError) as error:
        raise StoreError(f"study.json was not written by searchkit: its objectives: {error!r}") from error
    if not searched:
        raise StoreError("study.json was not written by searchkit: it has no objectives")
    return searched, front_only


def stored_rivals(record: Mapping[str, Any]) -> dict[str, tuple[Candidate, ...]]:
    """Candidates of a run's rivals by family, from its folder's record."""
    try:
        families = record.get("rivals", {})  # absent in runs from before
        return {str(name): tuple(map(Candidate.from_json, group)) for name, group in families.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"study.json was not written by searchkit: its rivals: {error!r}") from error


class _RunLog(logging.FileHandler):
    """Handler of the run's log. Lines that a full disk refuses are lost: the error that stops the run is shown."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = _RunLog(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("searchkit")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
