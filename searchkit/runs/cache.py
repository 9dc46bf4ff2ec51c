"""JSON cache beside a supernet, one file per content and setting, shared by all its studies."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from searchkit import __version__
from searchkit._internal.code import digest
from searchkit._internal.files import held_lock, replace_whole
from searchkit.training.cache import Trained

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SupernetCache(Generic[T]):
    """File of the cache; `parsed` converts its JSON, and raises where it cannot."""

    path: Path
    parsed: Callable[[Any], T]

    @classmethod
    def beside(
        cls, trained: Trained, what: str, depends: Mapping[str, Any], parsed: Callable[[Any], T]
    ) -> SupernetCache[T]:
        """Choose the file by `depends`: all that its content depends on beside the supernet and searchkit's version."""
        setting = {**depends, "searchkit": __version__}
        return cls(trained.folder.with_name(f"{trained.folder.name}-{what}-{digest(setting)}.json"), parsed)

    def read(self) -> T | None:
        """Read the content; None where there is no file, or, with a warning in the log, a damaged one."""
        try:
            return self.parsed(json.loads(self.path.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("%s is damaged (%s): what it kept is made again", self.path, error)
            return None

    def update(self, changed: Callable[[T | None], Any | None]) -> None:
        """Replace the content by `changed` of it, unless that is None; one process at a time reads and writes."""
        with held_lock(self.path.with_name(f".{self.path.name}.lock"), lambda: None, every_s=0.05):
            data = changed(self.read())
            if data is not None:
                self.write(data)

    def write(self, data: Any) -> None:
        replace_whole(self.path, (json.dumps(data) + "\n").encode())
