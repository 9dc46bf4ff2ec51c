"""Files that are either the old or the new ones, whole, whatever happens while they are written; and whose they are."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Final

from searchkit.errors import StoreError

logger = logging.getLogger(__name__)

_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def replace_whole(path: Path, content: bytes) -> None:
    """Put `content` on disk under a temporary name beside `path`, then rename it; StoreError where that fails."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # of a process of the same number that was killed
        with partial.open("xb") as file:  # a new file, never one that a link of this name leads to
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def lock(handle: int, path: Path, taken: str) -> None:
    """Take the open file for this process alone, until it closes it or ends, however it ends.

    StoreError with the text `taken` while another process has it; a warning where the file system has no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(taken) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("the file system of %s has no locks: make sure that one process at a time writes it", path)


def wait_for_lock(handle: int, path: Path, patience_s: float) -> None:
    """Take the open file for this process alone, waiting for another one; StoreError after `patience_s` seconds."""
    until = time.monotonic() + patience_s
    while True:
        try:
            return lock(handle, path, f"{path}: another process holds it for more than {patience_s:.0f} s")
        except StoreError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)
