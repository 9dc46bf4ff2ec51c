"""Record of a submitted study, `submitted.json` in its folder."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from searchkit._internal.files import replace_whole
from searchkit.errors import StoreError, StudyError

RECORD: Final = "submitted.json"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Submitted:
    """Record of a submitted study, kept in `submitted.json` in its folder, without secrets.

    address: of the job server; job: its id there; runs: where the run folder is, a folder or a URL; file: the study's;
    stopped: when the job was stopped before it had started, or ''
    """

    address: str
    job: str
    study: str
    runs: str
    file: str
    date: str
    stopped: str = ""

    @classmethod
    def read(cls, folder: Path, own: bool = True) -> Submitted:
        """Read the record; StudyError if the folder was never submitted, StoreError if it is damaged.

        own: only what this user wrote, since the user's token goes to the address in it
        """
        path = folder / RECORD
        try:
            if own and path.stat().st_uid != os.getuid():
                raise StudyError(f"{path} is another user's: copy it if you trust its address, your token goes there")
            submitted = cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            raise StudyError(f"{folder}: was not submitted from here, it has no {RECORD}") from None
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{path} is damaged ({error}); submit the study again") from error
        texts = asdict(submitted).values()
        if not all(isinstance(text, str) for text in texts) or not all(
            map(NAME.fullmatch, (submitted.job, submitted.study))
        ):
            raise StoreError(f"{path} is damaged; submit the study again")
        return submitted

    @property
    def folder(self) -> Path | None:
        """Folder of the run, where it is shared with the cluster; None if it is at a URL."""
        return None if "://" in self.runs else Path(self.runs, self.study)

    def write(self, folder: Path) -> None:
        replace_whole(folder / RECORD, (json.dumps(asdict(self), indent=2) + "\n").encode())
