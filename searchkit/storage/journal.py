"""Log of JSON records, one per line, that survives a kill: on disk when `append` returns, mended when torn.

The format is that of Optuna's journal files, so that Optuna and optuna-dashboard read them; this file knows no Optuna.
Every line begins with a checksum of its rest, `{"crc":"0a1b2c3d","op_code":...}`, a field that Optuna ignores. Lines
that Optuna writes itself, and those of older journals, begin with `{"op_code":` and have none.
"""

from __future__ import annotations

import json
import logging
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from searchkit._internal.files import lock
from searchkit.errors import StoreError

logger = logging.getLogger(__name__)

_SIGNED: Final = b'{"crc":"'
_UNSIGNED: Final = b'{"op_code":'
_DIGITS: Final = slice(len(_SIGNED), len(_SIGNED) + 8)
_BODY: Final = len(_SIGNED) + 10  # behind the digits, a quotation mark and a comma


class Journal:
    """Journal of the records of one file, in order, counted from 0.

    * Only a kill in the middle of `append` leaves a torn end: a last line without its end, or with blocks of zeros that
      the system had no time to fill. `read` does not hand it out, and the next `append` cuts it off with a warning. At
      most the record that was being written is lost. Anything else that is no record, or not the one that was
      written, is damage: `StoreError` with the number of its line.
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
        """Open the file for appending, made with its folders where it is missing; OSError where that fails."""
        path.parent.mkdir(parents=True, exist_ok=True)
        missing = not path.exists()
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
        if missing:
            _sync_folder(path.parent)
        return cls(path)

    def read(self, start: int) -> Iterator[dict[str, Any]]:
        """Read the whole records from number `start` to the end of the file as it is now."""
        if start != self.line:
            self.line = self._offset = 0
        for record, size in self._unread():
            self.line += 1
            self._offset += size
            if self.line > start:
                yield record

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the records and force them to disk. TypeError for what is not JSON: nothing is written then."""
        content = b"".join(map(_line, records))
        self._lease = self._lease or _lease(self.path)
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND), "ab") as file:
            self._mend(file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _unread(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Iterate over the whole records after those that were read, with their sizes in bytes."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for number, line in enumerate(file, start=self.line + 1):
                record = _record(line)
                if record is None:
                    if _torn(line + file.read()):
                        return
                    raise StoreError(
                        f"{self.path}, line {number} is damaged: not a JSON object, or not the one that was written. "
                        "Restore the file from a copy; if the line holds a trial (op_code 4), deleting it costs that "
                        "trial only"
                    )
                yield record, len(line)

    def _mend(self, file: int) -> None:
        """Cut off a torn end; whole records that were not read yet stay."""
        size = os.fstat(file).st_size
        if size < self._offset:
            raise StoreError(f"{self.path} is shorter than what was read from it: something else has rewritten it")
        if size == self._offset:
            return
        end = self._offset + sum(length for _, length in self._unread())
        if end < size:
            logger.warning("%s ended in a torn record, its writer was stopped: cut off %d bytes", self.path, size - end)
            os.ftruncate(file, end)


def _line(record: Mapping[str, Any]) -> bytes:
    body = json.dumps(record, separators=(",", ":"))[1:].encode() + b"\n"
    return b'%b%08x",%b' % (_SIGNED, crc32(body), body)


def _record(line: bytes) -> dict[str, Any] | None:
    """Parse the record of a whole line; None where it is not as it was written."""
    if not line.endswith(b"\n") or not line.startswith((_SIGNED, _UNSIGNED)):
        return None
    if line.startswith(_SIGNED) and line[_DIGITS] != b"%08x" % crc32(line[_BODY:]):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _torn(end: bytes) -> bool:
    """Return whether an interrupted append can have left this end of the file: part of a line, or zeros."""
    line = end.rstrip(b"\n")
    if b"\n" in line or (len(line) < len(end) and not line.startswith(b"\0") and not line.endswith(b"\0")):
        return False
    braces = (stop for stop, byte in enumerate(line[:-1], start=1) if byte == ord("}"))
    return not any(_record(line[:stop] + b"\n") for stop in braces)  # else that record was written, and hurt later


def _sync_folder(folder: Path) -> None:
    """Make the directory entry of a new file durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Lease:
    """Exclusive write lock of this process on one file, until its last journal is gone, or the process ends."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDWR)
        weakref.finalize(self, os.close, self.handle)


_LEASES: Final[weakref.WeakValueDictionary[tuple[int, int], _Lease]] = weakref.WeakValueDictionary()


def _lease(path: Path) -> _Lease:
    """Lease on the file, shared by all journals of this process; StoreError while another process has it."""
    status = path.stat()
    lease = _LEASES.get((status.st_dev, status.st_ino))
    if lease is None:
        lease = _Lease(path)
        lock(lease.handle, path, f"another process is writing {path}: wait for it or stop it, then try again")
        _LEASES[status.st_dev, status.st_ino] = lease
    return lease
