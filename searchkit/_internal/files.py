"""Atomic file replacement, advisory locks, and full disks as one line."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from searchkit.errors import SearchkitError, StoreError

logger = logging.getLogger(__name__)

_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
# torch, safetensors, tokenizers and numpy say no error number, or none that Python sees
_TORN: Final = (
    "inline_container",
    "PytorchStreamWriter",
    "iostream",
    "No space left",
    "Disk quota exceeded",
    "os error 28",
)
_PROBED: Final = 1 << 16  # bytes that a disk with room takes


def replace_whole(path: Path, content: bytes) -> None:
    """Put `content` on disk under a temporary name beside `path`, then rename it; StoreError where that fails."""
    # several machines may share a folder, and in containers process numbers repeat
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # left by a killed process of the same number
        with partial.open("xb") as file:  # a new file, never one that a link of this name leads to
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):  # on a read-only file system
            partial.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def lock(handle: int, path: Path, message: str) -> None:
    """Lock the open file for this process, until it closes the file or ends, however it ends.

    StoreError with the text `message` while another process has it; a warning where the file system has no locks.
    """
    if not _locked(handle, path):
        raise StoreError(message)


@contextmanager
def held_lock(path: Path, waiting: Callable[[], None], every_s: float = 0.5) -> Iterator[None]:
    """Hold the lock file `path`, which is removed at the end; while another process holds it, wait for its end.

    waiting: called before each pause of `every_s` seconds. A process that is killed holds nothing any more. StoreError
    where the file cannot be made.
    """
    handle = _first_in_line(path, waiting, every_s)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: those who wait see that it is gone, and begin anew
        os.close(handle)


def _first_in_line(path: Path, waiting: Callable[[], None], every_s: float) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from error
        try:
            if not _locked(handle, path):
                waiting()
                time.sleep(every_s)
            elif _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def one_line_where_full(folder: Path, next_step: str) -> Iterator[None]:
    """Raise StoreError in one line for whatever a library raises because it cannot write in `folder`.

    next_step: the end of that line, such as "make room and run again". Other errors pass.
    """
    try:
        yield
    except SearchkitError:
        raise
    except Exception as error:
        reason = _cannot_write(error, folder)
        if reason is None:
            raise
        raise StoreError(f"cannot write in {folder}: {reason}; {next_step}") from error


def _cannot_write(error: BaseException, folder: Path) -> str | None:
    """Reason why nothing can be written, if the error or its cause gives one, or if the disk is full now."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in _UNWRITABLE:
            return os.strerror(behind.errno)
        behind = behind.__cause__ or behind.__context__
    return os.strerror(errno.ENOSPC) if any(word in str(error) for word in _TORN) or _is_full(folder) else None


def _is_full(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBED))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False


def _locked(handle: int, path: Path) -> bool:
    """Return whether this process has the open file now; True, with a warning, where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("the file system of %s has no locks: make sure that one process at a time writes it", path)
    return True
