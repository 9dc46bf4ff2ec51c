"""Temporary folders of a process, which are removed at its end, or by a later process if it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final

LOCK: Final = "lock"  # file that the owner holds as long as it lives


class TemporaryFolder:
    """Temporary folder of this process, as long as this object lives.

    A killed process removes nothing; its folders of the same kind are removed when another one is made.
    """

    def __init__(self, kind: str) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"searchkit-{kind}-*/{LOCK}"):
            _remove_if_left(left)
        self.path = Path(tempfile.mkdtemp(prefix=f"searchkit-{kind}-"))
        unlocked = self.path / "new"
        handle = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # without locks nobody removes it
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.replace(unlocked, self.path / LOCK)
        weakref.finalize(self, _removed, self.path, handle)


def _removed(folder: Path, handle: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)


def _remove_if_left(lock: Path) -> None:
    """Remove the folder of a lock that no process holds."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # another user's, or gone by now
        return
    with suppress(OSError):  # held
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.parent, ignore_errors=True)
    os.close(handle)
