"""A log of JSON records, one per line, that survives a kill: on disk when `append` returns, mended when torn.

The format is that of Optuna's journal files, so that Optuna and optuna-dashboard read them; this file knows no Optuna.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from searchkit.errors import StoreError

logger = logging.getLogger(__name__)

_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Journal:
    """The records of one file, in order, counted from 0.

    * Only a kill in the middle of `append` leaves a torn end: a last line without its end, or one that is not a JSON
      object. `read` does not hand it out, and the next `append` cuts it off with a warning. At most the record that was
      being written is lost. A bad line with others after it is damage: `StoreError` with its number.
    * One process writes at a time: the first `append` takes a lock which the system ends with the process, however it
      ends. Readers need no lock, see whole records only and never change the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 0  # lines handed out so far: the number of the last one, counted from 1
        self._offset = 0  # bytes they take
        self._lease: _Lease | None = None

    @classmethod
    def create(cls, path: Path) -> Journal:
        """Open the file for appending, made with its folders where it is missing; OSError where that cannot be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        missing = not path.exists()
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
        if missing:
            _sync_folder(path.parent)
        return cls(path)

    def read(self, start: int) -> Iterator[dict[str, Any]]:
        """The whole records from number `start` to the end of the file as it is now."""
        if start != self.line:
            self.line = self._offset = 0
        for record, size in self._unread():
            self.line += 1
            self._offset += size
            if self.line > start:
                yield record

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the records and force them to disk. TypeError for what is not JSON: nothing is written then."""
        text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
        self._lease = self._lease or _lease(self.path)
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND), "ab") as file:
            self._mend(file.fileno())
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _unread(self) -> list[tuple[dict[str, Any], int]]:
        """Each whole record after those handed out, with its size in bytes."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            *lines, rest = file.read().split(b"\n")
        records = [(_record(line), len(line) + 1) for line in lines]
        if records and records[-1][0] is None and not rest:
            records.pop()
        for number, (record, _) in enumerate(records, start=self.line + 1):
            if record is None:
                raise StoreError(
                    f"{self.path}, line {number} is damaged: not a JSON object. Restore the file from a copy, or "
                    "delete that line to go on without its record"
                )
        return [(record, size) for record, size in records if record is not None]

    def _mend(self, file: int) -> None:
        """Cut off a torn end. Whole records that were not read yet stay."""
        size = os.fstat(file).st_size
        if size < self._offset:
            raise StoreError(f"{self.path} is shorter than what was read from it: something else has rewritten it")
        if size == self._offset:
            return
        end = self._offset + sum(length for _, length in self._unread())
        if end < size:
            logger.warning("%s ended in a torn record, its writer was killed: cut off %d bytes", self.path, size - end)
            os.ftruncate(file, end)


def _record(line: bytes) -> dict[str, Any] | None:
    """The JSON object on the line, or None."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _sync_folder(folder: Path) -> None:
    """Make the entry of a new file durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Lease:
    """The right of this process to write one file; ends with the last journal that holds it, or with the process."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDWR)
        weakref.finalize(self, os.close, self.handle)


_LEASES: Final[weakref.WeakValueDictionary[tuple[int, int], _Lease]] = weakref.WeakValueDictionary()


def _lease(path: Path) -> _Lease:
    """The lease on the file, shared by all journals of this process; StoreError while another process has it."""
    status = path.stat()
    lease = _LEASES.get((status.st_dev, status.st_ino))
    if lease is None:
        lease = _Lease(path)
        _lock(lease.handle, path)
        _LEASES[status.st_dev, status.st_ino] = lease
    return lease


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(f"another process is writing {path}: wait for it or stop it, then try again") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("the file system of %s has no locks: make sure that one process at a time writes it", path)
