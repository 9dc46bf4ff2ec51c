"""The folder of a run, `runs/<study>/`: which file is which, whose it is, and what ran there."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Final

from searchkit._files import lock, replace_whole
from searchkit.errors import StoreError, StudyError
from searchkit.objective import Objective

RECORD: Final[dict[str, type | UnionType]] = {  # what a study.json holds
    "description": dict,
    "fingerprint": str,
    "file": str | None,  # None: the study was made in Python
    "parameters": dict,
    "objectives": list,
    "front_objectives": list,
    "storage": str | None,
    "evaluations": int | None,
}


@dataclass(frozen=True)
class Folder:
    """`runs/<study>/`: which file is which."""

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
        """What modelled objectives know of the device."""
        return self.path / "calibration.json"

    def seconds(self, phase: str) -> Path:
        """Where the time of a phase is kept."""
        return self.path / f".{phase}_seconds"

    def read(self) -> dict[str, Any]:
        """The study that was run here; StudyError where there is none."""
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
        if not all(isinstance(text, str) for text in (data["description"].get("name"), *data["parameters"].values())):
            raise StoreError(f"{self.study}: not written by searchkit: name and parameters are texts")
        engine = data["description"].get("engine", {})
        if not isinstance(engine, dict) or not isinstance(engine.get("population", 1), int):
            raise StoreError(f"{self.study}: not written by searchkit: the engine is {engine!r}")
        return data

    @contextmanager
    def claimed(self, record: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for this process and the study of `record`, and log to it; StudyError if another ran here."""
        with self.held():
            self._refuse_another(record["description"])
            replace_whole(self.study, json.dumps(record, indent=2).encode())
            with _logging_to(self.log):
                yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; StoreError where it cannot be written or another process holds it."""
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
            yield

    def _refuse_another(self, description: Mapping[str, Any]) -> None:
        if not self.study.exists():
            return
        before = self.read()["description"]
        if before != description:
            changed = ", ".join(sorted(name for name in description if before.get(name) != description[name]))
            raise StudyError(
                f"{self.path} holds a run of another study (different: {changed}); "
                "rename the study or choose another folder with --runs"
            )


def stored_objectives(record: Mapping[str, Any]) -> tuple[tuple[Objective, ...], tuple[Objective, ...]]:
    """The objectives of a run folder's record, to read trials by: searched ones, and those of the front only."""
    try:
        searched, front_only = (
            tuple(map(Objective.described, record[kind])) for kind in ("objectives", "front_objectives")
        )
    except (KeyError, TypeError, ValueError, StudyError) as error:
        raise StoreError(f"study.json was not written by searchkit: its objectives: {error!r}") from error
    if not searched:
        raise StoreError("study.json was not written by searchkit: it has no objectives")
    return searched, front_only


class _RunLog(logging.FileHandler):
    """Handler of the run's log. Lines that a full disk does not take are lost: what stops the run is shown anyway."""

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
